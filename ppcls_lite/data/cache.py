"""Decoded pictures, kept for the next epochs: one memory or one file for all worker processes."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from ppcls_lite.data.decode import ImageError, load_image, picture_size
from ppcls_lite.data.packed import Source, read_source
from ppcls_lite.data.shared import SharedArray
from ppcls_lite.errors import UserError

SPARE = 0.8  # share of what is free that a cache may take


class PictureCache:
    """Pixels of a data set's pictures, by position, as they are decoded for the first time.

    Args:
        room: bytes for each picture, int64 [N]; 0 for one that is not kept.
        folder: of a file without a name, whose space goes with the run; None: in memory.
    """

    def __init__(self, room: np.ndarray, folder: Path | None = None) -> None:
        self._starts = 8 * len(room) + np.concatenate([[0], np.cumsum(room)])
        self._shared = SharedArray((max(int(self._starts[-1]), 1),), folder)
        self._sizes = self._index()

    def _index(self) -> np.ndarray:
        """Height and width of what is kept, int32 [N, 2]; 0 where nothing is yet."""
        return self._shared.array[: self._starts[0]].view(np.int32).reshape(-1, 2)

    def __reduce__(self) -> tuple[object, ...]:
        return _received, (self._starts, self._shared)

    def load(self, position: int, source: Source) -> Image.Image:
        """Returns a picture as `load_image` does, decoded at the first time only.

        Raises:
            ImageError: as `load_image`; nothing is kept.
        """
        height, width = self._sizes[position].tolist()
        start = int(self._starts[position])
        if height:
            pixels = self._shared.array[start : start + 3 * height * width]
            return Image.fromarray(pixels.reshape(height, width, 3))
        image = load_image(read_source(source))
        if image.width * image.height * 3 <= self._starts[position + 1] - start:
            self._shared.array[start : start + 3 * image.width * image.height] = np.asarray(
                image
            ).ravel()
            # Last, and the height after the width: another worker may look at any moment.
            self._sizes[position, 1] = image.width
            self._sizes[position, 0] = image.height
        return image


def _received(starts: np.ndarray, shared: SharedArray) -> PictureCache:
    cache = PictureCache.__new__(PictureCache)
    cache._starts, cache._shared = starts, shared
    cache._sizes = cache._index()
    return cache


def open_cache(where: str, sources: Iterable[Source], folder: Path) -> PictureCache:
    """Returns room for the pictures of a data set.

    Args:
        where: ram or disk.
        sources: of all pictures, by position.
        folder: of the run, for disk.

    Raises:
        UserError: there is not so much room.
    """
    room = np.array([_room(source) for source in sources], np.int64)
    need = int(room.sum())
    free = free_memory() if where == "ram" else shutil.disk_usage(folder).free
    if need > SPARE * free:
        other = "disk" if where == "ram" else "off"
        raise UserError(
            f"--cache {where}: {len(room)} decoded images take {need / 1e9:.1f} GB, of"
            f" {free / 1e9:.1f} GB that are free",
            f"--cache {other}",
        )
    return PictureCache(room, folder if where == "disk" else None)


def _room(source: Source) -> int:
    try:
        width, height = picture_size(read_source(source))
        return 3 * width * height
    except ImageError:
        return 0  # the training names it


def free_memory() -> int:
    """Returns the bytes of memory that are free or can be freed."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass  # not Linux
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
