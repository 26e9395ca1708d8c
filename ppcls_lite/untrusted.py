"""Files of unknown origin: bounded in size, and damage of any kind is one message."""

import json
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ppcls_lite.errors import UserError, shortened

LARGEST_JSON = 2**24  # bytes; a bundle.json with the hashes of 100,000 files has 10 MB
LARGEST_TEXT = 2**28  # bytes; ImageNet's list of 1.28 million pictures has 40 MB
LARGEST_ARRAY = 2**29  # bytes of an array in an .npz; a picture of 170 million pixels has 510 MB
LOCAL_HEADER = 2**16  # bytes of an array's own head, and more than any has
# What the standard readers raise for bytes that are not what they should be.
DAMAGE = (
    ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, EOFError,
    NotImplementedError, MemoryError, SyntaxError, tokenize.TokenError, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip
Value = TypeVar("Value")


@contextmanager
def reading(path: Path, what: str, hint: str) -> Iterator[None]:
    """Makes one message of whatever a damaged file leads to while it is read and unpacked.

    Raises:
        UserError: `path` cannot be read, or is no `what`; the hint says where to get one.
    """
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"no file {path}", hint) from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or shortened(error)}", hint) from None
    except DAMAGE as error:
        kind = type(error).__name__
        raise UserError(f"{path} is no {what} ({kind}: {shortened(error)})", hint) from None


def read_bounded(path: Path, limit: int) -> bytes:
    """Returns the bytes of a regular file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no regular file, or longer than `limit` bytes.
    """
    if path.exists() and not path.is_file():
        raise ValueError("it is no file")
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"{path.stat().st_size:,} bytes; allowed: {limit:,}")
    return data


def read_lines(path: Path, what: str, hint: str) -> list[str]:
    """Returns the lines of a text.

    Raises:
        UserError: it cannot be read, is not UTF-8, or is too large.
    """
    with reading(path, what, hint):
        return read_bounded(path, LARGEST_TEXT).decode("utf-8").splitlines()


def read_json(path: Path, what: str, hint: str) -> dict[str, Any]:
    """Returns a JSON object.

    Raises:
        UserError: it cannot be read, is no JSON, no object, too large, or holds NaN.
    """
    with reading(path, what, hint):
        content = json.loads(read_bounded(path, LARGEST_JSON), parse_constant=_refused)
        if not isinstance(content, dict):
            raise TypeError(f"a {type(content).__name__}, not an object")
        return content


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def field(content: dict[str, Any], kind: type[Value], *keys: str) -> Value:
    """Returns a value of nested JSON objects, inside `reading`.

    Raises:
        TypeError: it is of another kind.
        KeyError: it is missing.
    """
    value: Any = content
    for key in keys:
        value = value[key]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{'.'.join(keys)} is {shortened(repr(value))}, no {kind.__name__}")
    return value


def read_npz(path: Path, name: str, hint: str) -> np.ndarray:
    """Returns an array of an .npz.

    The archive says how large the array is before it is unpacked; so does the array's own head.
    Where they differ, or it is larger than any picture, nothing is unpacked.

    Raises:
        UserError: it is missing, damaged or too large, or holds no such array.
    """
    with reading(path, "npz file", hint), zipfile.ZipFile(path) as archive:
        found = {info.filename: info for info in archive.infolist()}
        info = found.get(f"{name}.npy")
        if info is None:
            raise UserError(f"{path} holds no array {name}", hint)
        with archive.open(info) as file:
            version = np.lib.format.read_magic(file)
            head = {(1, 0): np.lib.format.read_array_header_1_0}.get(
                version, np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = head(file)
            size = dtype.itemsize
            for length in shape:
                size *= int(length)
        if dtype.hasobject or size > LARGEST_ARRAY:
            raise ValueError(f"{dtype} {shortened(list(shape))}; allowed: {LARGEST_ARRAY} bytes")
        if not size <= info.file_size <= size + LOCAL_HEADER:
            raise ValueError(f"its head says {size:,} bytes, the archive {info.file_size:,}")
        with archive.open(info) as file:
            return np.lib.format.read_array(file, allow_pickle=False)
