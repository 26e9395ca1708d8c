"""The contents of KServe's tensors: bytes and JSON -> float32, or files of pictures."""

import base64
import binascii
import math
import re
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from ppcls_lite.errors import shortened
from ppcls_lite.serving.problems import RequestError

Unpack = Callable[[bytes, list[int]], np.ndarray | list[bytes]]
NESTED = {
    1: list[float],
    2: list[list[float]],
    3: list[list[list[float]]],
    4: list[list[list[list[float]]]],
}


def from_bytes(raw: bytes, shape: list[int]) -> np.ndarray:
    """Little-endian bytes -> float32 of a shape, all finite.

    Raises:
        RequestError: another length, or not finite.
    """
    wanted = 4 * math.prod(shape)
    if len(raw) != wanted:
        raise RequestError("bad_tensor", f"{len(raw)} bytes; shape {list(shape)} has {wanted}")
    return _finite(np.frombuffer(raw, "<f4").reshape(shape))


def pictures_from_bytes(raw: bytes, shape: list[int]) -> list[bytes]:
    """Triton's BYTES -> the files: each has its length before it, four little-endian bytes.

    Raises:
        RequestError: another count, or a length beyond the end.
    """
    found, place = list[bytes](), 0
    while place < len(raw) and len(found) < shape[0]:
        end = place + 4 + int.from_bytes(raw[place : place + 4], "little")
        found.append(raw[place + 4 : end])
        place = end
    if place != len(raw) or len(found) != shape[0]:
        raise RequestError(
            "bad_tensor", f"{len(raw)} bytes that are not {shape[0]} elements with their lengths"
        )
    return found


def pictures_from_json(data: bytes, shape: list[int]) -> list[bytes]:
    """A list of base64 texts -> the files.

    Raises:
        RequestError: no such list, or another count.
    """
    if data.count(b",") + 1 != shape[0]:  # known before anything is unpacked; base64 has no comma
        raise RequestError("bad_tensor", f"data holds not {list(shape)} texts of base64")
    try:
        texts = msgspec.json.decode(data, type=list[str])
        return [base64.b64decode(text, validate=True) for text in texts]
    except (msgspec.MsgspecError, binascii.Error, ValueError) as error:
        raise RequestError(
            "bad_tensor", f"data is no list of base64: {shortened(error)}"
        ) from error


def from_json(data: bytes, shape: list[int]) -> np.ndarray:
    """The text of numbers, nested or flat -> float32 of a shape, all finite.

    Raises:
        RequestError: no numbers, another count, or not finite.
    """
    # Known before anything is unpacked: a list of nothing takes twenty times its text.
    count = data.count(b",") + 1
    if count != math.prod(shape):
        raise RequestError(
            "bad_tensor",
            f"data holds {count} numbers; shape {list(shape)} has {math.prod(shape)}",
        )
    opening = re.match(rb"[\s\[]*", data)
    depth = opening[0].count(b"[") if opening else 0
    try:
        return from_numbers(msgspec.json.decode(data, type=NESTED[depth]), shape)
    except (KeyError, msgspec.MsgspecError) as error:
        raise RequestError(
            "bad_tensor", "data holds something that is not a number, or rows that are not regular"
        ) from error


def from_numbers(data: list[Any] | np.ndarray, shape: list[int]) -> np.ndarray:
    """Numbers, nested or flat -> float32 of a shape, all finite.

    Raises:
        RequestError: no numbers, another count, or not finite.
    """
    try:
        array = np.asarray(data)
    except (ValueError, OverflowError) as error:  # lists of different lengths, or too deep
        raise RequestError("bad_tensor", "data is not regular: every row needs the same") from error
    if array.dtype.kind not in "iuf":
        raise RequestError("bad_tensor", "data holds something that is not a number")
    if array.size != math.prod(shape):
        raise RequestError(
            "bad_tensor",
            f"data holds {array.size} numbers; shape {list(shape)} has {math.prod(shape)}",
        )
    with np.errstate(over="ignore"):  # what is too large for float32 is told below
        return _finite(array.astype(np.float32).reshape(shape))


def _finite(images: np.ndarray) -> np.ndarray:
    if not np.isfinite(images).all():
        raise RequestError("bad_tensor", "data holds a number that is not finite in float32")
    return images
