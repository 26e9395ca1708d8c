"""Training augmentation: picture and random generator in, uint8 pixels out."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ppcls_lite.data.jpeg import Box, Picture, resized
from ppcls_lite.data.policies import Policy, color_jitter
from ppcls_lite.data.preprocess import IMAGENET_MEAN, IMAGENET_STD

CROP_RATIO = (3 / 4, 4 / 3)  # width / height of a crop (Szegedy et al. 2015, section 6)
# Share of the picture, and height / width: torchvision's for one colour, timm's for noise.
ERASED = {"const": ((0.02, 0.33), (0.3, 3.3)), "pixel": ((0.02, 1 / 3), (0.3, 1 / 0.3))}


def sample_rng(seed: int, epoch: int, index: int, repetition: int = 0) -> np.random.Generator:
    """The random draws of one picture in one epoch, each time it is shown.

    Keyed by these four and nothing else: neither the number of workers nor the batch size nor
    the point a run was resumed from changes what a picture looks like.
    """
    return np.random.default_rng((seed, epoch, index, repetition))


def random_crop_box(
    width: int,
    height: int,
    scale: tuple[float, float],
    rng: np.random.Generator,
    ratios: tuple[float, float] = CROP_RATIO,
) -> Box:
    """Draws (left, top, right, bottom) with an area of `scale` times the picture's.

    The algorithm of torchvision's RandomResizedCrop: ten tries, then the largest centre crop that
    keeps the allowed aspect ratio.
    """
    narrowest, widest = ratios
    for _ in range(10):
        area = width * height * rng.uniform(*scale)
        ratio = math.exp(rng.uniform(math.log(narrowest), math.log(widest)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top = int(rng.integers(0, height - h + 1))
            left = int(rng.integers(0, width - w + 1))
            return left, top, left + w, top + h
    w, h = width, height
    if width / height < narrowest:
        h = round(width / narrowest)
    elif width / height > widest:
        w = round(height * widest)
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def padded_crop_box(width: int, height: int, padding: int, rng: np.random.Generator) -> Box:
    """Draws a box of the picture's own size that reaches over its borders by up to `padding`:
    CIFAR's augmentation."""
    top = int(rng.integers(0, 2 * padding + 1)) - padding
    left = int(rng.integers(0, 2 * padding + 1)) - padding
    return left, top, left + width, top + height


def random_erase(
    pixels: np.ndarray,
    probability: float,
    rng: np.random.Generator,
    mode: str = "const",
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> np.ndarray:
    """Fills a random rectangle with the mean colour or with noise (Zhong et al. 2017).

    The algorithm of torchvision's RandomErasing and of timm's: ten tries for a rectangle that is
    smaller than the picture, else nothing is erased.

    Differs from both: they erase after the normalisation, with 0 or with normally distributed
    numbers. The mean colour in whole grey levels becomes at most half a level, 0.009, there; noise
    is rounded to grey levels, too, and cut off at black and white, about 2 standard deviations.

    Args:
        pixels: uint8 [H, W, 3], left as it is.
        probability: of erasing anything.
        rng: draws whether, how large, where and with what.
        mode: const (torchvision) or pixel (timm).
        mean: per channel, for values in 0..1.
        std: per channel, for values in 0..1.

    Returns:
        uint8 [H, W, 3].
    """
    if not probability or rng.random() >= probability:
        return pixels
    height, width, _ = pixels.shape
    areas, ratios = ERASED[mode]
    for _ in range(10):
        area = height * width * rng.uniform(*areas)
        ratio = math.exp(rng.uniform(*np.log(ratios)))
        h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if h < height and w < width:
            top = int(rng.integers(0, height - h + 1))
            left = int(rng.integers(0, width - w + 1))
            colours = np.array(mean)
            if mode == "pixel":
                colours = colours + np.array(std) * rng.standard_normal((h, w, 3))
            pixels = pixels.copy()
            pixels[top : top + h, left : left + w] = np.round(255 * colours).clip(0, 255)
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
        ratio: smallest and largest width / height of the crop.
        padding: pixels; above 0, `padded_crop_box` takes the place of the random crop.
        flip_prob: probability of the horizontal flip.
        auto_augment: what to do after the flip.
        jitter: strengths of `color_jitter`, the step after that.
        erase_prob: probability of erasing a rectangle, the last step.
        erase_mode: const or pixel, see `random_erase`.
        mean: per channel R, G, B, for values in 0..1: of erased pixels.
        std: the same for their noise.
    """

    crop_size: int = 224
    interpolation: str = "bilinear"
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = CROP_RATIO
    padding: int = 0
    flip_prob: float = 0.5
    auto_augment: Policy | None = None
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    erase_prob: float = 0.0
    erase_mode: str = "const"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __call__(self, image: Picture, rng: np.random.Generator) -> np.ndarray:
        """RGB image -> uint8 [crop_size, crop_size, 3]."""
        if self.padding:
            box = padded_crop_box(*image.size, self.padding, rng)
        else:
            box = random_crop_box(*image.size, self.scale, rng, self.ratio)
        size = (self.crop_size, self.crop_size)
        pixels = resized(image, box, size, self.interpolation)
        if rng.random() < self.flip_prob:
            # Three times as fast as numpy's view with a negative stride, once that is copied.
            flipped = Image.fromarray(pixels).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            pixels = np.asarray(flipped)
        if self.auto_augment or any(self.jitter):
            whole = Image.fromarray(pixels)
            if self.auto_augment:
                whole = self.auto_augment(whole, rng)
            if any(self.jitter):
                whole = color_jitter(whole, self.jitter, rng)
            pixels = np.asarray(whole)
        return random_erase(pixels, self.erase_prob, rng, self.erase_mode, self.mean, self.std)
