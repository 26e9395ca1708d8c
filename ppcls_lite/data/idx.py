"""MNIST's IDX files, gzipped or not."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from ppcls_lite.errors import UserError

LARGEST = 2**30  # bytes, unpacked; MNIST has 47 MB


def read_idx_pair(folder: Path, prefix: str, hint: str) -> tuple[np.ndarray, np.ndarray]:
    """Reads the pictures of one split, uint8 [N, H, W], and their labels, uint8 [N].

    Args:
        folder: where the two files are.
        prefix: of their names, train or t10k.
        hint: what to do when they cannot be read.

    Raises:
        UserError: when a file is missing or broken, or the two do not belong together.
    """
    pixels = read_idx(folder / f"{prefix}-images-idx3-ubyte", 3, hint)
    labels = read_idx(folder / f"{prefix}-labels-idx1-ubyte", 1, hint)
    if len(pixels) != len(labels):
        raise UserError(
            f"{folder}: {prefix} has {len(pixels)} images but {len(labels)} labels", hint
        )
    return pixels, labels


def read_idx(path: Path, ndim: int, hint: str) -> np.ndarray:
    """Reads an IDX file of uint8 with `ndim` dimensions: `path`, else `path`.gz.

    Raises:
        UserError: when there is none, or it is damaged, of another type or shorter than it says.
    """
    if not path.is_file():
        path = path.with_name(f"{path.name}.gz")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: not a whole gzip file ({error})", hint) from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", hint) from error
    if len(data) > LARGEST:
        raise UserError(f"{path} unpacks to more than {LARGEST:,} bytes", hint)
    start = 4 + 4 * ndim
    magic = bytes([0, 0, 8, ndim])  # 8 is IDX's code of uint8
    if len(data) < start or data[:4] != magic:
        raise UserError(
            f"{path}: starts with {data[:4].hex() or 'nothing'}, an IDX file of uint8 with"
            f" {ndim} dimension(s) with {magic.hex()}",
            hint,
        )
    shape = np.frombuffer(data, ">u4", ndim, offset=4).tolist()
    if math.prod(shape) != len(data) - start:
        raise UserError(
            f"{path}: its header says {math.prod(shape)} bytes {shape}, it has {len(data) - start}",
            hint,
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
