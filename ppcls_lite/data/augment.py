"""Learned and random chains of picture distortions: the policies of `--auto-augment`.

All of them work on RGB PIL images of any size and draw from the generator they are given, nothing
else. New pixels at the border are black, as in torchvision.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageEnhance, ImageOps


class Motion(NamedTuple):
    """How the moving operations find the values of pixels between and outside of those there are.

    Attributes:
        resample: filter.
        fill: colour outside of the picture.
    """

    resample: Image.Resampling = Image.Resampling.NEAREST
    fill: tuple[int, int, int] = (0, 0, 0)


NEAREST_BLACK = Motion()
Operation = Callable[[Image.Image, float, Motion], Image.Image]
Ranges = dict[str, tuple[float, float]]  # magnitude at the lowest and at the highest level
SubPolicy = tuple[tuple[str, float, int], ...]  # (operation, probability, level 0..9) in turn


def affine(image: Image.Image, motion: Motion, *matrix: float) -> Image.Image:
    """Moves pixels; the matrix (a, b, c, d, e, f) takes (x, y) of the result to the source."""
    size, method = image.size, Image.Transform.AFFINE
    return image.transform(size, method, matrix, motion.resample, fillcolor=motion.fill)


def posterize(image: Image.Image, bits: int) -> Image.Image:
    """Keeps this many upper bits of each value, none too: there Pillow's own refuses."""
    mask = 256 - 2 ** (8 - bits)
    return image.point([value & mask for value in range(256)] * 3)


# Cubuk et al. 2019, table 6. The second argument is the magnitude, in the unit of WIDE_RANGES.
OPERATIONS: dict[str, Operation] = {
    "identity": lambda image, _, how: image,
    "shear_x": lambda image, m, how: affine(image, how, 1, m, 0, 0, 1, 0),
    "shear_y": lambda image, m, how: affine(image, how, 1, 0, 0, m, 1, 0),
    "translate_x": lambda image, m, how: affine(image, how, 1, 0, -int(m), 0, 1, 0),
    "translate_y": lambda image, m, how: affine(image, how, 1, 0, 0, 0, 1, -int(m)),
    "rotate": lambda image, m, how: image.rotate(m, how.resample, fillcolor=how.fill),
    "brightness": lambda image, m, _: ImageEnhance.Brightness(image).enhance(1 + m),
    "color": lambda image, m, _: ImageEnhance.Color(image).enhance(1 + m),
    "contrast": lambda image, m, _: ImageEnhance.Contrast(image).enhance(1 + m),
    "sharpness": lambda image, m, _: ImageEnhance.Sharpness(image).enhance(1 + m),
    "posterize": lambda image, m, _: posterize(image, round(m)),
    "solarize": lambda image, m, _: ImageOps.solarize(image, math.ceil(m)),
    "autocontrast": lambda image, _, how: ImageOps.autocontrast(image),
    "equalize": lambda image, _, how: ImageOps.equalize(image),
    "invert": lambda image, _, how: ImageOps.invert(image),
}
# What RandAugment and TrivialAugment choose from.
CHOICES = tuple(name for name in OPERATIONS if name != "invert")

# Operations without a row have no magnitude.
WIDE_RANGES: Ranges = {
    "shear_x": (0, 0.99),  # pixels per pixel
    "shear_y": (0, 0.99),
    "translate_x": (0, 32),  # pixels
    "translate_y": (0, 32),
    "rotate": (0, 135),  # degrees
    "brightness": (0, 0.99),  # share added to 1
    "color": (0, 0.99),
    "contrast": (0, 0.99),
    "sharpness": (0, 0.99),
    "posterize": (8, 2),  # bits kept
    "solarize": (255, 0),  # lowest inverted value
}
_SIGNED = WIDE_RANGES.keys() - {"posterize", "solarize"}

# Cubuk et al. 2019, tables 9, 7 and 8. Operations without a magnitude have level 0 here; the level
# that the paper prints for them has no effect.
IMAGENET: tuple[SubPolicy, ...] = (
    (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 0)),
    (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
    (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
    (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
    (("equalize", 0.4, 0), ("rotate", 0.8, 8)),
    (("solarize", 0.6, 3), ("equalize", 0.6, 0)),
    (("posterize", 0.8, 5), ("equalize", 1.0, 0)),
    (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
    (("equalize", 0.6, 0), ("posterize", 0.4, 6)),
    (("rotate", 0.8, 8), ("color", 0.4, 0)),
    (("rotate", 0.4, 9), ("equalize", 0.6, 0)),
    (("equalize", 0.0, 0), ("equalize", 0.8, 0)),
    (("invert", 0.6, 0), ("equalize", 1.0, 0)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("rotate", 0.8, 8), ("color", 1.0, 2)),
    (("color", 0.8, 8), ("solarize", 0.8, 7)),
    (("sharpness", 0.4, 7), ("invert", 0.6, 0)),
    (("shear_x", 0.6, 5), ("equalize", 1.0, 0)),
    (("color", 0.4, 0), ("equalize", 0.6, 0)),
    (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 0)),
    (("invert", 0.6, 0), ("equalize", 1.0, 0)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
)
CIFAR10: tuple[SubPolicy, ...] = (
    (("invert", 0.1, 0), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.5, 0), ("equalize", 0.9, 0)),
    (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
    (("color", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 0), ("equalize", 0.5, 0)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("color", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalize", 0.3, 0), ("autocontrast", 0.4, 0)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("color", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 0)),
    (("equalize", 0.2, 0), ("autocontrast", 0.6, 0)),
    (("equalize", 0.2, 0), ("equalize", 0.6, 0)),
    (("color", 0.9, 9), ("equalize", 0.6, 0)),
    (("autocontrast", 0.8, 0), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("color", 0.7, 0)),
    (("solarize", 0.4, 5), ("autocontrast", 0.9, 0)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.9, 0), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 0), ("invert", 0.1, 0)),
    (("translate_y", 0.7, 9), ("autocontrast", 0.9, 0)),
)
SVHN: tuple[SubPolicy, ...] = (
    (("shear_x", 0.9, 4), ("invert", 0.2, 0)),
    (("shear_y", 0.9, 8), ("invert", 0.7, 0)),
    (("equalize", 0.6, 0), ("solarize", 0.6, 6)),
    (("invert", 0.9, 0), ("equalize", 0.6, 0)),
    (("equalize", 0.6, 0), ("rotate", 0.9, 3)),
    (("shear_x", 0.9, 4), ("autocontrast", 0.8, 0)),
    (("shear_y", 0.9, 8), ("invert", 0.4, 0)),
    (("shear_y", 0.9, 5), ("solarize", 0.2, 6)),
    (("invert", 0.9, 0), ("autocontrast", 0.8, 0)),
    (("equalize", 0.6, 0), ("rotate", 0.9, 3)),
    (("shear_x", 0.9, 4), ("solarize", 0.3, 3)),
    (("shear_y", 0.8, 8), ("invert", 0.7, 0)),
    (("equalize", 0.9, 0), ("translate_y", 0.6, 6)),
    (("invert", 0.9, 0), ("equalize", 0.6, 0)),
    (("contrast", 0.3, 3), ("rotate", 0.8, 4)),
    (("invert", 0.8, 0), ("translate_y", 0.0, 2)),
    (("shear_y", 0.7, 6), ("solarize", 0.4, 8)),
    (("invert", 0.6, 0), ("rotate", 0.8, 4)),
    (("shear_y", 0.3, 7), ("translate_x", 0.9, 3)),
    (("shear_x", 0.1, 6), ("invert", 0.6, 0)),
    (("solarize", 0.7, 2), ("translate_y", 0.6, 7)),
    (("shear_y", 0.8, 4), ("invert", 0.8, 0)),
    (("shear_x", 0.7, 9), ("translate_y", 0.8, 3)),
    (("shear_y", 0.8, 5), ("autocontrast", 0.7, 0)),
    (("shear_x", 0.7, 2), ("invert", 0.1, 0)),
)


def auto_augment(
    sub_policies: tuple[SubPolicy, ...],
    image: Image.Image,
    rng: np.random.Generator,
    motion: Motion = NEAREST_BLACK,
) -> Image.Image:
    """One random sub-policy: each of its operations with its probability, at its level of 10."""
    ranges = _narrow_ranges(*image.size)
    for name, probability, level in sub_policies[rng.integers(len(sub_policies))]:
        if rng.random() < probability:
            image = distort(image, name, ranges, level, 10, rng, motion)
    return image


def rand_augment(
    image: Image.Image,
    rng: np.random.Generator,
    motion: Motion = NEAREST_BLACK,
    magnitude: int = 9,
    num_ops: int = 2,
) -> Image.Image:
    """Random operations at a level of 31 (Cubuk et al. 2020; two at 9 is the ImageNet setting)."""
    ranges = _narrow_ranges(*image.size)
    for _ in range(num_ops):
        name = CHOICES[rng.integers(len(CHOICES))]
        image = distort(image, name, ranges, magnitude, 31, rng, motion)
    return image


def trivial_augment_wide(
    image: Image.Image, rng: np.random.Generator, motion: Motion = NEAREST_BLACK
) -> Image.Image:
    """One random operation at a random level of 31 (Müller and Hutter 2021)."""
    name, level = CHOICES[rng.integers(len(CHOICES))], int(rng.integers(31))
    return distort(image, name, WIDE_RANGES, level, 31, rng, motion)


def _narrow_ranges(width: int, height: int) -> Ranges:
    """The ranges of AutoAugment and RandAugment, with translations as a share of the picture."""
    share = 150 / 331  # table 6's 150 pixels, taken of a side of 331 as in torchvision
    return {
        "shear_x": (0, 0.3),
        "shear_y": (0, 0.3),
        "translate_x": (0, share * width),
        "translate_y": (0, share * height),
        "rotate": (0, 30),
        "brightness": (0, 0.9),
        "color": (0, 0.9),
        "contrast": (0, 0.9),
        "sharpness": (0, 0.9),
        "posterize": (8, 4),
        "solarize": (255, 0),
    }


def distort(
    image: Image.Image,
    name: str,
    ranges: Ranges,
    level: int,
    levels: int,
    rng: np.random.Generator,
    motion: Motion,
) -> Image.Image:
    """Applies one operation, where it has two directions in a random one."""
    magnitude = _magnitude(*ranges.get(name, (0, 0)), level, levels)
    if name in _SIGNED and rng.integers(2):
        magnitude = -magnitude
    return OPERATIONS[name](image, magnitude, motion)


def _magnitude(first: float, last: float, level: int, levels: int) -> float:
    """The magnitude of a level, evenly spaced from `first` (level 0) to `last`.

    In single precision and counted from the nearer end, like torch.linspace without vector
    instructions: ImageEnhance truncates, so that the last bit decides about grey levels.
    Differs from torch.linspace with AVX: it makes level 15 of 0..32 15.999999, which moves a
    picture by 15 pixels and not 16, and a few levels of 31 another last bit.
    """
    first, last = np.float32(first), np.float32(last)
    step = (last - first) / np.float32(levels - 1)
    near_first = level < levels // 2
    return float(first + step * level if near_first else last - step * (levels - 1 - level))
