"""Settings of what is mixed in a batch."""

from dataclasses import dataclass

from ppcls_lite.config import CountOrZero, Fraction, NotNegative, Settings


@dataclass(frozen=True)
class MixSettings(Settings):
    """Mixing of batches."""

    mixup: NotNegative = 0.0
    """Alpha of Mixup, which blends images and their labels; 0 is off."""
    cutmix: NotNegative = 0.0
    """Alpha of CutMix, which pastes a box of another image; 0 is off. Both: either, evenly."""
    mix_prob: Fraction = 1.0
    """Probability that a batch is mixed at all."""
    mix_off_epoch: CountOrZero = 0
    """First epoch without --mixup and --cutmix; 0: all epochs have them."""
