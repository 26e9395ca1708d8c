"""Training augmentation: PIL image and random generator in, uint8 pixels out."""

import dataclasses
import math

import numpy as np
from PIL import Image

from ppcls_lite.data.preprocess import INTERPOLATIONS

MIN_RATIO, MAX_RATIO = 3 / 4, 4 / 3  # width / height of a crop (Szegedy et al. 2015, section 6)


def sample_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random draws of one picture in one epoch.

    Keyed by these three and nothing else: neither the number of workers nor the batch size nor
    the point a run was resumed from changes what a picture looks like.
    """
    return np.random.default_rng((seed, epoch, index))


def random_crop_box(
    width: int, height: int, scale: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Draws (left, top, right, bottom) with an area of `scale` times the picture's.

    The algorithm of torchvision's RandomResizedCrop: ten tries, then the largest centre crop that
    keeps the allowed aspect ratio.
    """
    for _ in range(10):
        area = width * height * rng.uniform(*scale)
        ratio = math.exp(rng.uniform(math.log(MIN_RATIO), math.log(MAX_RATIO)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top = int(rng.integers(0, height - h + 1))
            left = int(rng.integers(0, width - w + 1))
            return left, top, left + w, top + h
    w, h = width, height
    if width / height < MIN_RATIO:
        h = round(width / MIN_RATIO)
    elif width / height > MAX_RATIO:
        w = round(height * MAX_RATIO)
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


@dataclasses.dataclass(frozen=True)
class TrainTransform:
    """Random crop, resize and horizontal flip, the augmentation of the ImageNet recipes.

    Args:
        crop_size: side of the result, in pixels.
        interpolation: nearest, bilinear or bicubic; the last two with antialiasing.
        scale: smallest and largest area of the crop, as a share of the picture.
        flip_prob: probability of a horizontal flip.
    """

    crop_size: int = 224
    interpolation: str = "bilinear"
    scale: tuple[float, float] = (0.08, 1.0)
    flip_prob: float = 0.5

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> np.ndarray:
        """RGB image -> uint8 [crop_size, crop_size, 3]."""
        # Crop first, then resize: resize(box=...) is the same speed, but mixes in pixels from
        # outside the crop.
        image = image.crop(random_crop_box(*image.size, self.scale, rng))
        size = (self.crop_size, self.crop_size)
        image = image.resize(size, INTERPOLATIONS[self.interpolation])
        if rng.random() < self.flip_prob:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return np.asarray(image)
