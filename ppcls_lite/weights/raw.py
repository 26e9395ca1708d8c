"""What every weights format shares: raw bytes become arrays, and three ways of going wrong."""

from math import prod

import numpy as np

_DTYPES = {
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64", "bfloat16",
}  # fmt: skip


class Damaged(ValueError):
    """The bytes are not what their format prescribes; the message says where."""


class Refused(ValueError):
    """The file is what it claims to be, and reading it would mean running code from it."""


class Unread(ValueError):
    """The file is what it claims to be, and holds something that is not read here."""


def item_size(dtype: str) -> int:
    """Bytes of one value in a file."""
    return 2 if dtype == "bfloat16" else empty(0, dtype).itemsize


def empty(count: int, dtype: str) -> np.ndarray:
    """An array of zeros for values of this type, bfloat16 widened to float32.

    numpy has no bfloat16; float32 holds every value of it.
    """
    if dtype not in _DTYPES:
        raise Damaged(f"it holds values of type {dtype[:50]}; known: {', '.join(sorted(_DTYPES))}")
    return np.zeros(count, "float32" if dtype == "bfloat16" else dtype)


def decode(raw: bytes, dtype: str) -> np.ndarray:
    """The little-endian values in `raw`, one-dimensional, bfloat16 widened to float32."""
    kind = empty(0, dtype).dtype
    if dtype == "bfloat16":
        # A bfloat16 is the upper half of a float32.
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(kind)
    return np.frombuffer(raw, kind)


def shaped(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The values in C order under this shape.

    Raises:
        Damaged: their number is not the shape's.
    """
    valid = all(isinstance(length, int) and length >= 0 for length in shape)
    if not valid or prod(shape) != values.size:
        raise Damaged(f"{values.size} values cannot have the shape {list(shape)}")
    return values.reshape(shape)
