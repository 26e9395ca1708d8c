"""From a picture file to the numbers a model reads: one specification, wherever the model runs.

Needs numpy and Pillow only, so a server can use it without Paddle.
"""

import ctypes
import dataclasses
import functools
import glob
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ppcls_lite.data.decode import how_to_fetch
from ppcls_lite.data.jpeg import INTERPOLATIONS, Picture, resized
from ppcls_lite.data.pictures import IMAGE_EXTENSIONS, kind_of, passed_over, scan_folder
from ppcls_lite.errors import UserError, nearest, shortened
from ppcls_lite.native import Unavailable, load_library

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MEND_PREPROCESS = "change this value where it is given; inference.yml has it below preprocess"
FITS = ("crop", "pad", "squash")
FLAGS = ("-std=c++17", "-O3", "-ffp-contract=off")  # of normalize.cc
LARGEST_SIDE = 8192  # pixels of a crop; more is a mistake, or a file that would fill the memory


def find_images(path: str) -> list[Path]:
    """Lists the pictures meant by a file, a folder (searched recursively) or a glob, sorted.

    A line counts the pipes, sockets and devices among them.

    Raises:
        UserError: when there is none.
    """
    found, others = find_images_and_others(path)
    if special := [name for name in others if kind_of(name)]:
        print(f"{path}: {passed_over(special)}", file=sys.stderr)
    return found


def find_images_and_others(path: str) -> tuple[list[Path], list[str]]:
    """Lists what `find_images` does, and the files that were passed over, hidden ones not counted.

    Raises:
        UserError: when there is no picture.
    """
    if os.path.isfile(path):
        return [Path(path)], []
    if hint := how_to_fetch(path):
        raise UserError(f"{path} is an address, not a file", hint)
    if os.path.isdir(path):
        found, others = scan_folder(path)
    else:
        matches = glob.glob(path, recursive=True)
        named = sorted(name for name in matches if name.lower().endswith(IMAGE_EXTENSIONS))
        found = [name for name in named if not kind_of(name)]
        others = sorted(n for n in {*matches} - {*found} if os.path.isfile(n) or kind_of(n))
    if found:
        return [Path(name) for name in found], others
    kinds = f"name a folder with files that end in {' '.join(IMAGE_EXTENSIONS)}"
    if os.path.isdir(path):
        raise UserError(f"{path}: the folder holds no image", kinds)
    if matches:
        raise UserError(f"{path}: none of the {len(matches)} matches is an image", kinds)
    parent = os.path.dirname(path) or "."
    siblings = os.listdir(parent) if os.path.isdir(parent) else []
    raise UserError(
        f"{path}: no such file or folder, and no image matches it as a pattern"
        + nearest(os.path.basename(path), siblings),
        "give an image, a folder or a quoted pattern such as 'pictures/*.jpg'",
    )


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """What is done to a picture before a model sees it when evaluating or predicting.

    The same pixels and the same float32 values as torchvision's Resize, CenterCrop, ToTensor and
    Normalize on a PIL image.

    Args:
        resize_size: length after resizing, in pixels: of the short side; with `fit` pad of the long
            one, with squash of both.
        crop_size: side of the centre crop, in pixels; a smaller picture is padded with zeros.
        interpolation: nearest, bilinear or bicubic; the last two with antialiasing.
        mean: per channel R, G, B, for values in 0..1.
        std: per channel R, G, B, for values in 0..1.
        fit: crop cuts the centre out; pad and squash show whole pictures where crop_size is
            resize_size, with zeros beside them or stretched (timm's crop modes border and squash).

    Raises:
        UserError: for values that cannot work.
    """

    resize_size: int = 256
    crop_size: int = 224
    interpolation: str = "bilinear"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    fit: str = "crop"

    def __post_init__(self) -> None:
        for name in ("resize_size", "crop_size"):
            if not (type(side := getattr(self, name)) is int and 1 <= side <= LARGEST_SIDE):
                said = shortened(repr(side))
                raise UserError(
                    f"{name}: {said} is not a size; allowed: 1 to {LARGEST_SIDE}", MEND_PREPROCESS
                )
        if (name := self.interpolation) not in list(INTERPOLATIONS):
            raise UserError(
                f"interpolation: {shortened(repr(name))} is not one of {', '.join(INTERPOLATIONS)}"
                + nearest(str(name), INTERPOLATIONS),
                MEND_PREPROCESS,
            )
        if self.fit not in FITS:
            raise UserError(
                f"fit: {shortened(repr(self.fit))} is not one of {', '.join(FITS)}", MEND_PREPROCESS
            )
        if not (_three_numbers(self.mean) and _three_numbers(self.std) and min(self.std) > 0):
            raise UserError(
                f"mean {shortened(self.mean)}, std {shortened(self.std)}: allowed are three finite"
                " values each (R, G, B), those of std above 0",
                MEND_PREPROCESS,
            )

    def scaled(self, crop_size: int) -> "Preprocess":
        """Returns the specification for another crop size, with the same share of the picture."""
        resize_size = round(self.resize_size * crop_size / self.crop_size)
        return dataclasses.replace(self, resize_size=resize_size, crop_size=crop_size)

    def pixels(self, image: Picture) -> np.ndarray:
        """Resizes as `fit` says and cuts out the centre: RGB image -> uint8 [H, W, 3]."""
        width, height = image.size
        size = self.resized_size(width, height)
        left, top = (_centre(length, self.crop_size) for length in size)
        window = (left, top, left + self.crop_size, top + self.crop_size)
        return resized(image, (0, 0, width, height), size, self.interpolation, window)

    def resized_size(self, width: int, height: int) -> tuple[int, int]:
        """Returns the width and height that a picture of these is resized to."""
        side = self.resize_size
        if self.fit == "squash":
            return side, side
        known = max(width, height) if self.fit == "pad" else min(width, height)
        # Truncated, as torchvision does; a pixel is left of the narrowest strip.
        return max(int(side * width / known), 1), max(int(side * height / known), 1)

    def normalize(self, images: np.ndarray) -> np.ndarray:
        """uint8 [N, H, W, 3] -> float32 [N, 3, H, W].

        The order of the operations is torch's, so that the values are equal to the last bit.
        """
        n, h, w, _ = images.shape
        out = np.empty((n, 3, h, w), np.float32)
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        if images.dtype == np.uint8 and (compiled := _compiled()):
            pixels = np.ascontiguousarray(images)
            factors = mean.ctypes.data, std.ctypes.data
            compiled(pixels.ctypes.data, n, h * w, *factors, out.ctypes.data)
            return out
        # One channel plane at a time: 0.14 ms for 224 x 224 where [N, H, W, 3] - mean takes 0.6.
        for channel in range(3):
            plane = out[:, channel]  # [N, H, W]
            np.divide(images[..., channel], np.float32(255), out=plane)
            plane -= mean[channel]
            plane /= std[channel]
        return out

    def __call__(self, images: Sequence[Image.Image]) -> np.ndarray:
        """RGB images of any sizes -> float32 [N, 3, H, W]."""
        return self.normalize(np.stack([self.pixels(image) for image in images]))

    def in_words(self) -> list[str]:
        """The steps and their roundings, for who writes them anew: docs/pixels.md has the code."""
        short, crop = self.resize_size, self.crop_size
        sides = {
            "crop": f"short side {short}, long side int({short} * long / short)",
            "pad": f"long side {short}, short side int({short} * short / long), at least 1",
            "squash": f"both sides {short}",
        }
        smooth = "" if self.interpolation == "nearest" else " with antialiasing"
        return [
            "upright by the EXIF orientation, RGB, 8 bits a channel, transparency dropped",
            f"resize: {sides[self.fit]}, {self.interpolation}{smooth} as Pillow's Image.resize,"
            " to 8 bits",
            f"crop {crop} x {crop} from left round((width - {crop}) / 2) and top"
            f" round((height - {crop}) / 2), halves to the even number; a smaller image is padded"
            f" with zeros, ({crop} - side) // 2 of them before it",
            "float32, R, G, B: (value / 255 - mean) / std, [N, 3, H, W]",
        ]

    def to_dict(self) -> dict[str, Any]:
        """The specification as plain JSON/YAML values."""
        fields = dataclasses.asdict(self)
        # Left out where it is as it always was: earlier builds read such files.
        fields = {key: v for key, v in fields.items() if (key, v) != ("fit", "crop")}
        return {key: list(v) if isinstance(v, tuple) else v for key, v in fields.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preprocess":
        """Reads back what `to_dict` wrote.

        Raises:
            UserError: for an unknown key or an impossible value.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                raise UserError(
                    f"preprocess: unknown key {shortened(repr(key))}; known: {', '.join(known)}"
                    + nearest(str(key), known),
                    MEND_PREPROCESS,
                )
        fields: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**fields)


@functools.cache
def _compiled() -> Callable[..., None] | None:
    """The function of normalize.cc; None where it cannot be compiled."""
    try:
        library = load_library(Path(__file__).with_name("normalize.cc"), FLAGS)
    except Unavailable:
        return None
    address, count = ctypes.c_void_p, ctypes.c_size_t
    library.normalize.argtypes = (address, count, count, address, address, address)
    library.normalize.restype = None
    return library.normalize


def _three_numbers(values: Any) -> bool:
    return (
        isinstance(values, tuple)
        and len(values) == 3
        and all(isinstance(v, int | float) and math.isfinite(v) for v in values)
    )


def _centre(length: int, crop: int) -> int:
    """First pixel of the centre crop; negative where zeros are padded in front."""
    return round((length - crop) / 2) if length >= crop else -((crop - length) // 2)
