"""What a caller may hand to the Predictor, and the picture that it means."""

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
from PIL import Image

from ppcls_lite.data.decode import ImageError, eight_bits, load_image, loaded_rgb
from ppcls_lite.errors import UserError

ChannelOrder = Literal["RGB", "BGR"]
ALLOWED = (
    "allowed: a path, the bytes of a file, an open binary file, a PIL image, or an array or tensor"
    " of uint8 or uint16: [H, W, 3], [3, H, W], 1 or 4 channels likewise, [H, W], or [N, ...] of"
    " them"
)
FLOATS = (
    "give (255 * array).round().astype('uint8') for values from 0 to 1; what is normalised already,"
    " [N, 3, H, W], goes to predictor.probabilities(array)"
)


def pictures(images: Any, channel_order: str) -> Iterator[Image.Image]:
    """Yields the pictures that the argument of a Predictor means, upright 8-bit RGB.

    Each is opened when its turn comes: full-size photographs are not held in memory together.

    Raises:
        UserError: what was given is no picture; it says which.
    """
    if channel_order not in ("RGB", "BGR"):
        raise UserError(
            f"channel_order is {channel_order!r}; allowed: 'RGB', 'BGR'",
            "give channel_order='BGR' for images that OpenCV has read, else leave it out",
        )
    for number, given in enumerate(_each(images), start=1):
        yield as_image(given, channel_order, f"image {number}")


def _each(images: Any) -> Iterable[Any]:
    images = _as_array(images)
    if isinstance(images, np.ndarray):
        # [N, ...] of pictures, or [N] paths
        return images if images.ndim == 4 or images.dtype.kind in "OU" else [images]
    if isinstance(images, Mapping):
        raise UserError(
            f"the images are in a {type(images).__name__}; {ALLOWED}",
            "give its values: list(images.values())",
        )
    single = isinstance(images, str | bytes | bytearray | memoryview | os.PathLike | Image.Image)
    if single or hasattr(images, "read") or not isinstance(images, Iterable):
        return [images]
    return images


def as_image(picture: Any, channel_order: str, name: str) -> Image.Image:
    """One picture of any allowed kind -> upright 8-bit RGB, with the rules of `load_image`.

    Args:
        picture: a path, bytes, an open binary file, a PIL image, an array or a tensor.
        channel_order: of an array's or tensor's colours.
        name: what to call a picture that has no file, in errors.

    Raises:
        ImageError: it cannot be decoded.
        UserError: it is no picture.
    """
    if hasattr(picture, "read"):
        picture = picture.read()
        if isinstance(picture, str):
            raise UserError(f"{name}: a file that was opened as text", "open it with mode 'rb'")
    try:
        if isinstance(picture, bytes | bytearray | memoryview):
            return load_image(bytes(picture))
        if isinstance(picture, str | os.PathLike):
            return load_image(os.fspath(picture))
        if isinstance(picture, Image.Image):
            return loaded_rgb(picture)
    except ImageError as error:
        if isinstance(picture, str | os.PathLike):  # it is named already
            raise
        raise ImageError(name, error.cause) from error
    array = _as_array(picture)
    if not isinstance(array, np.ndarray):
        raise UserError(
            f"{name} is {type(picture).__name__} {picture!r:.40}; {ALLOWED}",
            "give the path of its file, or numpy.asarray of its pixels",
        )
    return _image_of(array, channel_order, name)


def _as_array(given: Any) -> Any:
    """Gives tensors of any framework as arrays; other things as they are."""
    if isinstance(given, np.ndarray | Image.Image) or not hasattr(given, "__array__"):
        return given
    if str(getattr(given, "dtype", "")).endswith("bfloat16"):
        # Paddle hands its bits out as uint16, which are no pixels; torch hands none out
        raise UserError(
            f"an image is a {type(given).__name__} of bfloat16 {list(given.shape)}; {ALLOWED}",
            "give the array itself, if it has 16-bit pixels: paddle.to_tensor makes bfloat16 of"
            f" uint16; {FLOATS}",
        )
    for step in ("detach", "cpu"):  # torch's and Paddle's, from a graph and from a GPU
        given = getattr(given, step)() if hasattr(given, step) else given
    return np.asarray(given)


def _image_of(array: np.ndarray, channel_order: str, name: str) -> Image.Image:
    received = f"{name} is an array of {array.dtype} {list(array.shape)}"
    if array.dtype.kind != "u" or array.dtype.itemsize > 2:
        hint = (
            FLOATS
            if array.dtype.kind == "f"
            else "give array.astype('uint8') for values from 0 to 255"
        )
        raise UserError(f"{received}; {ALLOWED}", hint)
    channels = (1, 3, 4)
    if array.ndim == 3 and array.shape[2] not in channels and array.shape[0] in channels:
        array = array.transpose(1, 2, 0)  # [H, W, C]
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]  # [H, W]
    if array.size == 0 or (array.ndim != 2 and (array.ndim != 3 or array.shape[2] not in channels)):
        raise UserError(f"{received}; {ALLOWED}", "give one image as [H, W, 3], several as a list")
    if array.ndim == 3:
        array = array[..., :3] if channel_order == "RGB" else array[..., 2::-1]  # without alpha
    if array.dtype.itemsize == 2:
        array = eight_bits(array)
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")
