"""Training augmentation: picture and random generator in, uint8 pixels out."""

import dataclasses
import math

import numpy as np
from PIL import Image

from ppcls_lite.data.augment import POLICIES
from ppcls_lite.data.jpeg import Picture, resized
from ppcls_lite.data.preprocess import IMAGENET_MEAN

MIN_RATIO, MAX_RATIO = 3 / 4, 4 / 3  # width / height of a crop (Szegedy et al. 2015, section 6)
FLIP_PROB = 0.5
ERASED_AREA = (0.02, 0.33)  # share of the picture
ERASED_RATIO = (0.3, 3.3)  # height / width


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


def random_erase(pixels: np.ndarray, probability: float, rng: np.random.Generator) -> np.ndarray:
    """Fills a random rectangle with ImageNet's mean colour (Zhong et al. 2017).

    The algorithm of torchvision's RandomErasing: ten tries for a rectangle that is smaller than
    the picture, else nothing is erased.

    Differs from torchvision: it erases after the normalisation, with 0; the mean colour in whole
    grey levels becomes at most half a level, 0.009, there.

    Args:
        pixels: uint8 [H, W, 3], left as it is.
        probability: of erasing anything.
        rng: draws whether, how large and where.

    Returns:
        uint8 [H, W, 3].
    """
    if rng.random() >= probability:
        return pixels
    height, width, _ = pixels.shape
    for _ in range(10):
        area = height * width * rng.uniform(*ERASED_AREA)
        ratio = math.exp(rng.uniform(*np.log(ERASED_RATIO)))
        h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if h < height and w < width:
            top = int(rng.integers(0, height - h + 1))
            left = int(rng.integers(0, width - w + 1))
            pixels = pixels.copy()
            pixels[top : top + h, left : left + w] = np.round(255 * np.array(IMAGENET_MEAN))
            break
    return pixels


@dataclasses.dataclass(frozen=True)
class TrainTransform:
    """Random crop, resize and horizontal flip, the augmentation of the ImageNet recipes; more of
    it on request.

    Args:
        crop_size: side of the result, in pixels.
        interpolation: nearest, bilinear or bicubic; the last two with antialiasing.
        scale: smallest and largest area of the crop, as a share of the picture.
        auto_augment: policy to apply after the flip, a key of `augment.POLICIES`.
        erase_prob: probability of erasing a rectangle, the last step.
    """

    crop_size: int = 224
    interpolation: str = "bilinear"
    scale: tuple[float, float] = (0.08, 1.0)
    auto_augment: str | None = None
    erase_prob: float = 0.0

    def __call__(self, image: Picture, rng: np.random.Generator) -> np.ndarray:
        """RGB image -> uint8 [crop_size, crop_size, 3]."""
        box = random_crop_box(*image.size, self.scale, rng)
        size = (self.crop_size, self.crop_size)
        pixels = resized(image, box, size, self.interpolation)
        if rng.random() < FLIP_PROB:
            pixels = pixels[:, ::-1]
        if self.auto_augment:
            pixels = np.asarray(POLICIES[self.auto_augment](Image.fromarray(pixels), rng))
        return random_erase(pixels, self.erase_prob, rng)
