"""Data sets packed into a few large tar files, read by position.

For a split `train` there are

    train-000000.tar ...   NUMBER.jpg and NUMBER.cls (its class id) of every picture, which is the
                           layout of webdataset; NUMBER is the position in the data set
    train.packed.npy       where each picture lies, by position: `ENTRY`
    train.packed.names.npy the files they were made from, relative to the old data root
    train.packed.json      class names and settings; written last, so that all of it is there

Any sampler works and any rank may read any shard, because nothing is read in sequence. In the
shards the pictures lie in a random order, for readers that do.
"""

import functools
import hashlib
import json
import mmap
import os
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ppcls_lite.data.decode import ImageError, regular_file
from ppcls_lite.errors import UserError

DIGEST_BYTES = 16
ENTRY = np.dtype(
    [
        ("shard", "<i4"),
        ("label", "<i4"),
        ("offset", "<i8"),  # of the picture's first byte in the shard
        ("size", "<i8"),  # bytes
        ("digest", f"V{DIGEST_BYTES}"),  # BLAKE2b of the bytes
    ]
)


class Member(NamedTuple):
    """A picture in a shard."""

    shard: str  # file
    offset: int
    size: int


Source = str | Member | bytes  # a file, a part of one, or what would be in one


def read_source(source: Source) -> bytes:
    """Returns the bytes of a picture file.

    Raises:
        ImageError: it cannot be read.
    """
    if isinstance(source, bytes):
        return source
    try:
        if isinstance(source, str):
            return Path(regular_file(source)).read_bytes()
        shard = _mapped(source.shard)
    except OSError as error:
        name = source if isinstance(source, str) else source.shard
        raise ImageError(name, error.strerror or str(error)) from error
    return shard[source.offset : source.offset + source.size]


@functools.lru_cache(maxsize=256)
def _mapped(shard: str) -> mmap.mmap:
    # Pages are shared by all processes and read when they are touched.
    with open(shard, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def digest(data: bytes) -> bytes:
    """Returns what `ENTRY` keeps of a picture's bytes."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def description_file(folder: str | Path, split: str) -> Path:
    """The file whose presence makes a folder a packed data set."""
    return Path(folder) / f"{split}.packed.json"


def shard_file(folder: str | Path, split: str, number: int) -> Path:
    """The file of a shard."""
    return Path(folder) / f"{split}-{number:06d}.tar"


class PackedFiles:
    """The pictures of a packed split, by position.

    Args:
        folder: the packed data set.
        split: train or val.

    Raises:
        UserError: a part of it is missing or cut off.
    """

    def __init__(self, folder: str, split: str) -> None:
        self.folder, self.split = folder, split
        hint = "copy the whole folder, or pack it again"
        file = description_file(folder, split)
        try:
            self.description: dict[str, Any] = json.loads(file.read_text())
            # Mapped, not read: 1.28 million entries cost no memory of this process.
            self.entries = np.load(file.with_suffix(".npy"), mmap_mode="r")  # ENTRY [N]
            self.names = np.load(file.with_suffix(".names.npy"), mmap_mode="r")  # bytes [N]
            sizes = [
                os.path.getsize(shard_file(folder, split, number))
                for number in range(len(self.description["shard_bytes"]))
            ]
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"packed data {file}: {error}", hint) from None
        if self.entries.dtype != ENTRY or len(self.entries) != len(self.names):
            raise UserError(f"packed data {file}: its .npy files do not belong to it", hint)
        for number, (size, expected) in enumerate(
            zip(sizes, self.description["shard_bytes"], strict=True)
        ):
            if size != expected:
                shard = shard_file(folder, split, number)
                raise UserError(f"{shard} has {size} bytes, was packed with {expected}", hint)

    def __len__(self) -> int:
        return len(self.entries)

    def source(self, index: int) -> Member:
        """Where a picture lies."""
        entry = self.entries[index]
        shard = str(shard_file(self.folder, self.split, int(entry["shard"])))
        return Member(shard, int(entry["offset"]), int(entry["size"]))

    def member_name(self, index: int) -> str:
        """Its name in the shard, from the tar header before it (POSIX ustar: the first 100 bytes).

        Raises:
            ImageError: the shard cannot be read.
        """
        shard, offset, _ = self.source(index)
        header = read_source(Member(shard, offset - tarfile.BLOCKSIZE, 100))
        return header.split(b"\0")[0].decode(errors="replace")

    def path(self, index: int) -> str:
        """What to call it in a message."""
        original = os.fsdecode(self.names[index])
        return f"{self.source(index).shard}:{self.member_name(index)} (was {original})"
