"""Mixup and CutMix: each sample of a batch mixed with the one before it.

A batch is in random order already, so the neighbour is a random partner.
"""

import dataclasses
import math

import numpy as np

from ppcls_lite.data.mix_settings import MixSettings
from ppcls_lite.data.preprocess import Preprocess


@dataclasses.dataclass(frozen=True)
class Mix:
    """How a batch is mixed; the first sample's partner is the last.

    Attributes:
        share: of each sample in its own target; the rest is its partner's. 1 is no mixing.
        box: (left, top, right, bottom) in pixels that is the partner's (CutMix); None blends the
            whole pictures (Mixup).
    """

    share: float = 1.0
    box: tuple[int, int, int, int] | None = None

    def images(self, images: np.ndarray) -> np.ndarray:
        """float32 [N, 3, H, W] -> the same, mixed; normalised with whatever mean and std."""
        if self.share == 1:
            return images
        partners = np.roll(images, 1, axis=0)
        if self.box is None:
            return images * np.float32(self.share) + partners * np.float32(1 - self.share)
        left, top, right, bottom = self.box
        mixed = images.copy()
        mixed[:, :, top:bottom, left:right] = partners[:, :, top:bottom, left:right]
        return mixed

    def targets(self, labels: np.ndarray, num_classes: int) -> np.ndarray:
        """Labels int64 [N] -> shares of the classes float32 [N, K]; label -1 is a row of zeros.

        Several labels a picture, [N, K'], are 0 and 1 for each of the first K' classes.
        """
        one_hot = np.zeros((len(labels), num_classes), np.float32)
        if labels.ndim == 2:
            one_hot[:, : labels.shape[1]] = labels
        else:
            one_hot += labels[:, None] == np.arange(num_classes)
        if self.share == 1:
            return one_hot
        partners = np.roll(one_hot, 1, axis=0)
        return one_hot * np.float32(self.share) + partners * np.float32(1 - self.share)


def prepare(
    pixels: np.ndarray,
    labels: np.ndarray,
    preprocess: Preprocess,
    num_classes: int,
    settings: MixSettings,
    rng_key: tuple[int, int, int, int],
) -> tuple[np.ndarray, np.ndarray, Mix]:
    """What a batch of the loader is to the network.

    Args:
        pixels: uint8 [N, H, W, 3].
        labels: int64 [N]; -1 where there is none; or several a picture, 0 or 1, [N, K].
        preprocess: mean and std.
        num_classes: K.
        settings: of the mixing.
        rng_key: seed, epoch, batch and rank, from which every draw follows.

    Returns:
        Images float32 [N, 3, H, W], shares of the classes float32 [N, K], and how it was mixed.
    """
    # The last number keeps these draws apart from those of the pictures and of dropout.
    rng = np.random.default_rng((*rng_key, 1))
    height, width = pixels.shape[1:3]
    mix = draw_mix(settings, rng_key[1], height, width, rng)
    return mix.images(preprocess.normalize(pixels)), mix.targets(labels, num_classes), mix


def draw_mix(
    settings: MixSettings, epoch: int, height: int, width: int, rng: np.random.Generator
) -> Mix:
    """Draws how a batch is mixed, with the distributions of torchvision's MixUp and CutMix.

    With both asked for, each batch takes one of them with equal chance, as torchvision and timm do.

    Args:
        settings: `mixup`, `cutmix`, `mix_prob`, `mix_off_epoch`.
        epoch: of the batch.
        height: of the pictures, pixels.
        width: of the pictures, pixels.
        rng: what to draw from.
    """
    alphas = {"mixup": settings.mixup, "cutmix": settings.cutmix}
    kinds = [kind for kind, alpha in alphas.items() if alpha]
    is_off = 0 < settings.mix_off_epoch <= epoch
    if not kinds or is_off or rng.random() >= settings.mix_prob:
        return Mix()
    kind = kinds[rng.integers(len(kinds))]
    share = float(rng.beta(alphas[kind], alphas[kind]))
    if kind == "mixup":
        return Mix(share)
    return cut(share, int(rng.integers(width)), int(rng.integers(height)), height, width)


def cut(share: float, x: int, y: int, height: int, width: int) -> Mix:
    """The box around (x, y) whose area is 1 - share of the picture, less what is outside of it."""
    half = 0.5 * math.sqrt(1 - share)
    half_width, half_height = int(half * width), int(half * height)
    left, right = max(x - half_width, 0), min(x + half_width, width)
    top, bottom = max(y - half_height, 0), min(y + half_height, height)
    return Mix(1 - (right - left) * (bottom - top) / (width * height), (left, top, right, bottom))
