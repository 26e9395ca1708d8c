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
import mmap
import os
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ppcls_lite.data.decode import ImageError, regular_file
from ppcls_lite.errors import UserError
from ppcls_lite.untrusted import field, read_json, reading

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


def _description(file: Path, hint: str) -> dict[str, Any]:
    what = "description of packed data"
    content = read_json(file, what, hint)
    with reading(file, what, hint):
        classes, sizes = field(content, list, "classes"), field(content, list, "shard_bytes")
        if not all(isinstance(name, str) for name in classes):
            raise TypeError("classes are no texts")
        if not all(type(size) is int and 0 <= size < 2**62 for size in sizes):
            raise TypeError("shard_bytes are no sizes")
    return content


def _mapped_array(file: Path, hint: str) -> Any:  # an np.memmap
    with reading(file, "array of packed data", hint):
        return np.load(file, mmap_mode="r", allow_pickle=False)


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
        hint = "copy the whole packed folder again, or pack the images again"
        file = description_file(folder, split)
        self.description = _description(file, hint)
        # Mapped, not read: 1.28 million entries cost no memory of this process.
        self.entries = _mapped_array(file.with_suffix(".npy"), hint)  # ENTRY [N]
        self.names = _mapped_array(file.with_suffix(".names.npy"), hint)  # bytes [N]
        belongs = self.entries.dtype == ENTRY and self.names.dtype.kind == "S"
        if not belongs or not self.entries.shape == self.names.shape == (len(self.entries),):
            raise UserError(f"packed data {file}: its .npy files do not belong to it", hint)
        for number, expected in enumerate(self.description["shard_bytes"]):
            shard = shard_file(folder, split, number)
            with reading(shard, "shard", hint):
                size = os.path.getsize(shard)
            if size != expected:
                raise UserError(f"{shard} has {size} bytes, was packed with {expected}", hint)
        self._check_entries(file, hint)

    def _check_entries(self, file: Path, hint: str) -> None:
        """Raises UserError when a picture has a shard, a place or a label that does not exist."""
        sizes = np.array(self.description["shard_bytes"], np.int64)
        entries, classes = self.entries, len(self.description["classes"])
        shard, offset, size = entries["shard"], entries["offset"], entries["size"]
        known = (shard >= 0) & (shard < len(sizes))
        # One after the other: a sum of two numbers of 63 bits may overflow.
        room = np.where(known, sizes[np.where(known, shard, 0)] if len(sizes) else 0, 0)
        inside = (offset >= tarfile.BLOCKSIZE) & (offset <= room)
        inside &= (size >= 0) & (size <= room - np.where(inside, offset, 0))
        labelled = (entries["label"] >= 0) & (entries["label"] < classes)
        for what, good in (
            (f"is in a shard that is none of the {len(sizes)}", known),
            ("lies beyond its shard", inside),
            (f"has a label that is none of the {classes} classes", labelled),
        ):
            if not good.all():
                first, count = int(np.argmin(good)), int((~good).sum())
                raise UserError(
                    f"packed data {file.with_suffix('.npy')}: image {first} {what}"
                    f" ({entries['shard'][first]}, {entries['label'][first]}; {count} images)",
                    hint,
                )

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
