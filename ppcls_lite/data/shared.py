"""Memory that this process and its workers see alike, for the pixels of batches.

Through the pipe of a process pool a picture of 224 pixels costs its worker 0.3 ms, a fifth of what
reading it takes: it is pickled, written in pieces of 64 KB, and read back by a waiting thread.
"""

import mmap
import os
import tempfile
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

import numpy as np


class SharedArray:
    """An uint8 array that spawned processes see too, when it is among what they are started with.

    Differs from multiprocessing.shared_memory: there is no name in /dev/shm, which holds 64 MB in
    a default container and keeps what a killed run leaves. The memory goes with its last process.

    Args:
        shape: of the array, filled with zeros.
        folder: of a file without a name that holds it; None: in memory.
    """

    def __init__(self, shape: tuple[int, ...], folder: Path | None = None) -> None:
        if folder:
            file: Any = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (it stays open)
        elif hasattr(os, "memfd_create"):
            file = os.fdopen(os.memfd_create("batches"), "r+b")
        else:  # not Linux
            file = tempfile.TemporaryFile()  # noqa: SIM115 (it stays open)
        file.truncate(int(np.prod(shape)))
        self._map(file, shape)

    def _map(self, file: Any, shape: tuple[int, ...]) -> None:
        self._file = file
        self.array = np.frombuffer(mmap.mmap(file.fileno(), 0), np.uint8).reshape(shape)

    def __reduce__(self) -> Any:
        return _received, (DupFd(self._file.fileno()), self.array.shape)


def _received(descriptor: Any, shape: tuple[int, ...]) -> SharedArray:
    shared = SharedArray.__new__(SharedArray)
    shared._map(os.fdopen(descriptor.detach(), "r+b"), shape)
    return shared
