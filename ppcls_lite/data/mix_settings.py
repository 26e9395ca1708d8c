"""Settings of what is mixed in a batch."""

from dataclasses import dataclass

from ppcls_lite.config import CountOrZero, Fraction, NotNegative, Settings


@dataclass(frozen=True)
class MixSettings(Settings):
    """Mixing of batches."""

    mixup: NotNegative = 0.0
    """Strength of Mixup, which blends two images and their labels: alpha of its beta distribution.
    0 is off, 0.2 is common."""
    cutmix: NotNegative = 0.0
    """Strength of CutMix, which pastes a part of another image: alpha; 0 is off, 1 is common. With
    --mixup, each batch gets one of the two."""
    mix_prob: Fraction = 1.0
    """Probability that a batch is mixed at all."""
    mix_off_epoch: CountOrZero = 0
    """First epoch without --mixup and --cutmix; 0: they stay on."""
