"""Cut and resize in one go; of a JPEG, only what the cut needs is decoded.

`window.cc` does it with Pillow's pixels to the last bit, which is checked whenever it is loaded.
Where it cannot run (no compiler, no libjpeg-turbo headers, another Pillow arithmetic) and for every
other kind of picture, Pillow itself does.
"""

import ctypes
import functools
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from ppcls_lite.native import Unavailable, load_library

Box = tuple[int, int, int, int]  # left, top, right, bottom

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
# -ffp-contract=off: see resample.h.
FLAGS = ("-std=c++17", "-O3", "-ffp-contract=off", "-ljpeg")
# How many times the pixels of the result, per direction, a crop keeps when it is decoded smaller.
SPARE = {"exact": 0.0, "fast": 1.5}


class _Window(ctypes.Structure):
    """The struct of the same name in window.cc, which explains the fields."""

    _fields_ = (
        ("data", ctypes.c_char_p),
        ("bytes", ctypes.c_size_t),
        ("box", ctypes.c_int32 * 4),
        ("size", ctypes.c_int32 * 2),
        ("window", ctypes.c_int32 * 4),
        ("is_cubic", ctypes.c_int32),
        ("down_first", ctypes.c_int32),
        ("spare", ctypes.c_double),
        ("out", ctypes.c_void_p),
    )


@dataclass(frozen=True)
class PlainJpeg:
    """An upright grey or YCbCr JPEG, not decoded yet.

    Args:
        data: the file.
        size: width, height.
        spare: a value of `SPARE`.
        whole: decodes all of it; raises what is to be said when it is broken.
    """

    data: bytes
    size: tuple[int, int]
    spare: float
    whole: Callable[[], Image.Image]


Picture = Image.Image | PlainJpeg


def resized(
    picture: Picture,
    box: Box,
    size: tuple[int, int],
    interpolation: str,
    window: Box | None = None,
) -> np.ndarray:
    """Cuts a box out of a picture, resizes it and cuts a window out of that.

    Args:
        picture: RGB.
        box: in pixels of the picture; what lies outside of it is black.
        size: width, height that the box is resized to.
        interpolation: a key of `INTERPOLATIONS`.
        window: in pixels of the resized box; what lies outside of it is black. None: all.

    Returns:
        uint8 [H, W, 3] of the window.

    Raises:
        ImageError: a `PlainJpeg` turns out to be broken.
    """
    if isinstance(picture, PlainJpeg):
        window_box = window or (0, 0, *size)
        if _inside(box, picture.size) and _inside(window_box, size) and interpolation != "nearest":
            down_first = _pillow_order()(*_extent(box), *size)
            pixels = _decode(picture, box, size, window_box, interpolation, down_first)
            if pixels is not None:
                return pixels
        picture = picture.whole()
    if box != (0, 0, *picture.size):
        # Not resize(box=...): that is the same speed, but mixes in pixels from outside the box.
        picture = picture.crop(box)
    picture = picture.resize(size, INTERPOLATIONS[interpolation])
    return np.asarray(picture if window is None else picture.crop(window))


@functools.cache
def unavailable() -> str | None:
    """Why JPEGs are decoded as a whole, by Pillow, on this machine; None when they are not."""
    try:
        _pillow_order()
    except Unavailable as reason:
        return str(reason)
    return None


def _never(width: int, height: int, new_width: int, new_height: int) -> bool:
    return False


def _when_cheaper(width: int, height: int, new_width: int, new_height: int) -> bool:
    return height > new_height and 2 * (width - new_width) < height - new_height


@functools.cache
def _pillow_order() -> Callable[[int, int, int, int], bool]:
    """Whether the Pillow installed here resizes vertically before it resizes horizontally.

    Each direction rounds to 8 bits, so that the order shows in the pixels. Pillow 13 goes by the
    sizes, earlier releases never do.

    Returns:
        The answer as a function of width, height, new width and new height.

    Raises:
        Unavailable: no rule does, or there is no library.
    """
    noise = np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8)
    file = BytesIO()
    Image.fromarray(noise).save(file, "jpeg", quality=90, subsampling="4:2:0")
    whole = Image.open(file).convert("RGB")
    picture = PlainJpeg(file.getvalue(), whole.size, SPARE["exact"], lambda: whole)
    # Tall and wide, smaller and larger, and both sides of the border between the orders.
    boxes: list[Box] = [(19, 2, 61, 90), (3, 21, 70, 66), (35, 35, 50, 50), (1, 9, 39, 62)]
    boxes += [(18, 18, 18 + width, 18 + 64) for width in (47, 48, 49, 50)]
    size = (32, 32)
    cases = [(box, name) for box in boxes for name in ("bilinear", "bicubic")]
    expected = [np.asarray(whole.crop(b).resize(size, INTERPOLATIONS[name])) for b, name in cases]
    for rule in (_when_cheaper, _never):
        found = [
            _decode(picture, box, size, (0, 0, *size), name, rule(*_extent(box), *size))
            for box, name in cases
        ]
        if all(
            f is not None and np.array_equal(f, e) for f, e in zip(found, expected, strict=True)
        ):
            return rule
    raise Unavailable("this Pillow, or this libjpeg, computes other pixels")


def _inside(box: Box, size: tuple[int, int]) -> bool:
    return min(box) >= 0 and box[2] <= size[0] and box[3] <= size[1]


def _extent(box: Box) -> tuple[int, int]:
    return box[2] - box[0], box[3] - box[1]


@functools.cache
def _library() -> ctypes.CDLL:
    here = Path(__file__).parent
    library = load_library(here / "window.cc", FLAGS, [here / "resample.h"])
    library.decode_window.argtypes = (ctypes.POINTER(_Window),)
    return library


def _decode(
    picture: PlainJpeg,
    box: Box,
    size: tuple[int, int],
    window: Box,
    interpolation: str,
    down_first: bool,
) -> np.ndarray | None:
    """Returns uint8 [H, W, 3] of the window, or None for a file that libjpeg objects to."""
    left, top, right, bottom = window
    pixels = np.empty((bottom - top, right - left, 3), np.uint8)
    done = _library().decode_window(
        _Window(
            picture.data,
            len(picture.data),
            box,
            size,
            window,
            interpolation == "bicubic",
            down_first,
            picture.spare,
            pixels.ctypes.data,
        )
    )
    return pixels if done else None
