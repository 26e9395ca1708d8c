"""`--auto-augment` and `--color-jitter`: AugMix, timm's RandAugment, and a row for each policy."""

import dataclasses
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance

from ppcls_lite.data.augment import (
    CIFAR10,
    IMAGENET,
    NEAREST_BLACK,
    OPERATIONS,
    SVHN,
    Motion,
    Ranges,
    affine,
    auto_augment,
    distort,
    rand_augment,
    trivial_augment_wide,
)

AUGMIX_CHAINS = 3
# Hendrycks et al. 2020 with the colour operations added, as in torchvision.
AUGMIX_CHOICES = (
    "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "posterize", "solarize",
    "autocontrast", "equalize", "brightness", "color", "contrast", "sharpness",
)  # fmt: skip

# timm's operations: value at level 0, at level 10, and whether it has two directions. Translations
# are shares of the side; some get weaker with the level, as in TensorFlow's code.
TIMM_RANGES: dict[str, tuple[float, float, bool]] = {
    "autocontrast": (0, 0, False),
    "equalize": (0, 0, False),
    "invert": (0, 0, False),
    "rotate": (0, 30, True),
    "posterize": (0, 4, False),
    "solarize": (0, 256, False),
    "solarize_add": (0, 110, False),
    "color": (0.1, 1.9, False),
    "contrast": (0.1, 1.9, False),
    "brightness": (0.1, 1.9, False),
    "sharpness": (0.1, 1.9, False),
    "shear_x": (0, 0.3, True),
    "shear_y": (0, 0.3, True),
    "translate_x": (0, 0.45, True),
    "translate_y": (0, 0.45, True),
}
TIMM_CHOICES = tuple(TIMM_RANGES)
TIMM_PROB = 0.5


@dataclasses.dataclass(frozen=True)
class Policy:
    """A chain of distortions with its strength.

    Args:
        name: key of `POLICIES`.
        motion: filter and border of what moves pixels.
        magnitude: of ra (0 to 30) and ra_timm (0 to 10).
        magnitude_std: standard deviation of ra_timm's magnitude from picture to picture.
        num_ops: operations that ra and ra_timm choose.
        severity: largest level of augmix, from 1 to 10.
    """

    name: str
    motion: Motion = NEAREST_BLACK
    magnitude: int = 9
    magnitude_std: float = 0.0
    num_ops: int = 2
    severity: int = 3

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """RGB image -> RGB image of the same size."""
        return POLICIES[self.name](image, rng, self)


def augmix(
    image: Image.Image, rng: np.random.Generator, severity: int, motion: Motion
) -> Image.Image:
    """Blends the picture with three chains of one to three operations (Hendrycks et al. 2020).

    torchvision's ranges, draws and arithmetic.
    Differs from torchvision: it turns a PIL image into a tensor before its operations, whose pixels
    differ from those of PIL's operations by their own rounding; these here are PIL's, as in the
    paper's code.
    """
    ranges = _augmix_ranges(*image.size)
    share, others = rng.dirichlet([1, 1])
    weights = rng.dirichlet([1] * AUGMIX_CHAINS) * others
    mixed = np.float32(share) * np.asarray(image, np.float32)  # [H, W, 3]
    for weight in weights:
        chain = image
        for _ in range(int(rng.integers(1, 4))):
            name = AUGMIX_CHOICES[rng.integers(len(AUGMIX_CHOICES))]
            level = int(rng.integers(severity)) if name in ranges else 0
            chain = distort(chain, name, ranges, level, 10, rng, motion)
        mixed += np.float32(weight) * np.asarray(chain, np.float32)
    return Image.fromarray(mixed.astype(np.uint8))


def _augmix_ranges(width: int, height: int) -> Ranges:
    return {
        "shear_x": (0, 0.3),
        "shear_y": (0, 0.3),
        "translate_x": (0, width / 3),
        "translate_y": (0, height / 3),
        "rotate": (0, 30),
        "posterize": (4, 0),
        "solarize": (255, 0),
        "brightness": (0, 0.9),
        "color": (0, 0.9),
        "contrast": (0, 0.9),
        "sharpness": (0, 0.9),
    }


def rand_augment_timm(image: Image.Image, rng: np.random.Generator, policy: Policy) -> Image.Image:
    """timm's RandAugment, `rand-m<magnitude>-n<num_ops>-mstd<magnitude_std>`.

    Each of the chosen operations happens with probability 1/2, at a level drawn around the
    magnitude.
    """
    for _ in range(policy.num_ops):
        name = TIMM_CHOICES[rng.integers(len(TIMM_CHOICES))]
        if rng.random() < TIMM_PROB:
            level = policy.magnitude + policy.magnitude_std * rng.standard_normal()
            image = _timm_operation(image, name, min(max(level, 0.0), 10.0), rng, policy.motion)
    return image


def _timm_operation(
    image: Image.Image, name: str, level: float, rng: np.random.Generator, motion: Motion
) -> Image.Image:
    first, last, is_signed = TIMM_RANGES[name]
    value = first + level / 10 * (last - first)
    if is_signed and rng.integers(2):
        value = -value
    if name in ("translate_x", "translate_y"):
        dx, dy = (value, 0) if name == "translate_x" else (0, value)
        width, height = image.size
        return affine(image, motion, 1, 0, dx * width, 0, 1, dy * height)
    if name == "solarize_add":
        table = [min(255, v + int(value)) if v < 128 else v for v in range(256)]
        return image.point(table * 3)
    if name in ("posterize", "solarize"):
        value = int(value)
    elif first == 0.1:
        value -= 1  # ours is what is added to 1
    return OPERATIONS[name](image, value, motion)


POLICIES: dict[str, Callable[[Image.Image, np.random.Generator, Policy], Image.Image]] = {
    "imagenet": lambda image, rng, policy: auto_augment(IMAGENET, image, rng, policy.motion),
    "cifar10": lambda image, rng, policy: auto_augment(CIFAR10, image, rng, policy.motion),
    "svhn": lambda image, rng, policy: auto_augment(SVHN, image, rng, policy.motion),
    "ra": lambda image, rng, policy: rand_augment(
        image, rng, policy.motion, policy.magnitude, policy.num_ops
    ),
    "ta_wide": lambda image, rng, policy: trivial_augment_wide(image, rng, policy.motion),
    "augmix": lambda image, rng, policy: augmix(image, rng, policy.severity, policy.motion),
    "ra_timm": rand_augment_timm,
}


def color_jitter(
    image: Image.Image, strengths: tuple[float, ...], rng: np.random.Generator
) -> Image.Image:
    """Changes brightness, contrast, saturation and hue, in random order: torchvision's ColorJitter.

    Args:
        image: RGB.
        strengths: of the four in this order. A factor is drawn from 1 - strength to 1 + strength,
            not below 0; hue is turned by up to its strength, at most 0.5, of the circle.
        rng: draws the order, then the factors of those that have a strength.
    """
    order = rng.permutation(4)
    centres = (1.0, 1.0, 1.0, 0.0)
    factors = [
        rng.uniform(max(c - s, 0) if c else -s, c + s) if s else c
        for c, s in zip(centres, strengths, strict=True)
    ]
    for change in order:
        if strengths[change]:
            image = JITTERS[change](image, factors[change])
    return image


def _turn_hue(image: Image.Image, turns: float) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    turned = (np.asarray(hue).astype(np.int32) + int(turns * 255)).astype(np.uint8)
    bands = (Image.fromarray(turned), saturation, value)
    return Image.merge("HSV", bands).convert("RGB")


JITTERS: tuple[Callable[[Image.Image, float], Image.Image], ...] = (
    lambda image, factor: ImageEnhance.Brightness(image).enhance(factor),
    lambda image, factor: ImageEnhance.Contrast(image).enhance(factor),
    lambda image, factor: ImageEnhance.Color(image).enhance(factor),
    _turn_hue,
)
