"""What the card's vision processor does to a picture, in its own arithmetic."""

from dataclasses import dataclass

import numpy as np

from ppcls_lite.errors import UserError

LARGEST_SIDE = 8192  # pixels
COEFFICIENT_BITS = 11  # OpenCV's fixed-point weights of 8-bit bilinear resizing


def half_bits(value: float) -> int:
    """Returns the 16 bits of a number's nearest half-precision value, as the parameter files
    write it: 0.485 is 14275.
    """
    return int(np.float16(value).view(np.uint16))


def half_value(bits: int) -> float:
    """Reads what `half_bits` wrote: 14275 is 0.485107421875."""
    return float(np.uint16(bits).view(np.float16))


def half_rounded(value: float) -> float:
    """Returns the nearest half-precision value, as a float."""
    return float(np.float16(value))


def resize_bilinear(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes as OpenCV's INTER_LINEAR does on 8 bits: two neighbours, no antialiasing.

    Args:
        pixels: uint8 [3, H, W].
        height: of the result.
        width: of the result.

    Returns:
        uint8 [3, height, width].
    """
    top, bottom, down = _neighbours(pixels.shape[1], height)
    left, right, along = _neighbours(pixels.shape[2], width)
    one = 1 << COEFFICIENT_BITS

    def mixed(rows: np.ndarray) -> np.ndarray:  # int32 [3, height, width], times 2048
        row = pixels[:, rows]
        return row[:, :, left] * (one - along) + row[:, :, right] * along

    # OpenCV drops four bits before the second product, and rounds at the end.
    upper = (mixed(top) >> 4) * (one - down)[:, None] >> 16
    lower = (mixed(bottom) >> 4) * down[:, None] >> 16
    return ((upper + lower + 2) >> 2).astype(np.uint8)


def _neighbours(length: int, wanted: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each new pixel: its two old ones, and the weight of the second in 1/2048."""
    source = (np.arange(wanted, dtype=np.float64) + 0.5) * (length / wanted) - 0.5
    first = np.floor(source).astype(np.int64)
    weight = np.round((source - first).astype(np.float32) * (1 << COEFFICIENT_BITS)).astype(
        np.int32
    )
    last = length - 1
    return np.clip(first, 0, last), np.clip(first + 1, 0, last), weight


@dataclass(frozen=True)
class CardPreprocess:
    """Resize, crop and normalise, as a vision-processor parameter file or a build YAML says.

    Differs from `data.preprocess.Preprocess`, which is what the network was trained with: bilinear
    without antialiasing, a resize that may squash, mean and std in half precision.

    Args:
        resize: side after resizing, pixels.
        squash: both sides become `resize`; otherwise the short one does and the ratio is kept.
        crop: side of the centre crop, pixels.
        mean: per channel, for values in 0..1.
        std: per channel, for values in 0..1.
        half: mean and std are rounded to half precision.
        bgr: the network wants B, G, R; mean and std are in that order, too.
    """

    resize: int
    squash: bool
    crop: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    half: bool = True
    bgr: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError for what no picture can go through."""
        sizes = (self.resize, self.crop)
        if any(type(size) is not int for size in sizes) or not 1 <= self.crop <= self.resize:
            raise ValueError(
                f"resize {self.resize!r}, crop {self.crop!r}; allowed: 1 <= crop <= resize"
            )
        if self.resize > LARGEST_SIDE:
            raise ValueError(f"resize {self.resize}; allowed: up to {LARGEST_SIDE}")
        if not np.isfinite([*self.mean, *self.std]).all() or min(self.std) <= 0:
            raise ValueError(f"mean {self.mean}, std {self.std}; std must be above 0")

    def pixels(self, image: np.ndarray) -> np.ndarray:
        """uint8 [3, H, W] -> uint8 [3, crop, crop]."""
        height, width = image.shape[1:]
        if self.squash:
            size = (self.resize, self.resize)
        else:
            short = min(height, width)
            size = (self.resize * height // short, self.resize * width // short)
        image = resize_bilinear(image, *size)
        top, left = ((length - self.crop) // 2 for length in size)
        return image[:, top : top + self.crop, left : left + self.crop]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """RGB uint8 [3, H, W] -> float32 [1, 3, crop, crop]: x / (255 std) - mean / std.

        Raises:
            UserError: the array is something else.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[0] != 3:
            raise UserError(
                f"an array is {image.dtype} {list(image.shape)}; allowed: uint8 [3, H, W]",
                "write the array with tools/accelerator/image2npz.py",
            )
        round_ = half_rounded if self.half else float
        mean = np.array([round_(m) for m in self.mean], np.float32).reshape(3, 1, 1)
        std = np.array([round_(s) for s in self.std], np.float32).reshape(3, 1, 1)
        pixels = self.pixels(image)
        if self.bgr:
            pixels = pixels[::-1]
        return (pixels / (255 * std) - mean / std)[None].astype(np.float32)
