"""What decodes pictures: how a process is made ready, and its work on one batch."""

import multiprocessing
import os
import signal
import threading
import warnings
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import numpy as np
from PIL import Image

from ppcls_lite.data.cache import PictureCache
from ppcls_lite.data.decode import ImageError, open_image
from ppcls_lite.data.packed import Source, read_source
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.data.transforms import TrainTransform, sample_rng

GROUP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Cause(str):
    """Why a picture cannot be read.

    Attributes:
        kind: "gone" when its file cannot be opened or read at all, "slow" when it took too long.
    """

    kind: str

    def __new__(cls, text: str, kind: str = "") -> "Cause":
        """Keeps both."""
        cause = super().__new__(cls, text)
        cause.kind = kind
        return cause

    def __reduce__(self) -> tuple[type["Cause"], tuple[str, str]]:
        return Cause, (str(self), self.kind)


# What is done to a picture: `decode_into`'s arguments from `transform` to `epoch`.
How = tuple[TrainTransform | Preprocess, str, int, int]


class Sample(NamedTuple):
    """What a worker is given of one sample."""

    position: int  # in the data set
    repetition: int
    source: Source
    cause: Cause | None = None  # why it is not to be read

    @property
    def name(self) -> str:
        """What to call it."""
        if isinstance(self.source, bytes):
            return f"image {self.position}"
        return self.source if isinstance(self.source, str) else self.source.shard


def decode_into(
    out: np.ndarray,
    transform: TrainTransform | Preprocess,
    mode: str,
    seed: int,
    epoch: int,
    task: list[Sample],
    place: np.ndarray | None = None,
    cache: PictureCache | None = None,
) -> dict[int, Cause]:
    """Turns samples into pixels; what a worker does for one batch.

    Args:
        out: uint8 [N or more, H, W, 3]; the readable pictures are written to its first rows.
        place: int64 [1 or more]; which picture is in work is written to its first, from 1.
        cache: of decoded pictures.

    Returns:
        {row of the task: cause} of the unreadable ones. An exception would lose the rest.

    Raises:
        MemoryError: there was not enough; the picture may be a good one.
    """
    causes: dict[int, Cause] = {}
    for row, sample in enumerate(task):
        if place is not None:
            place[0] = row + 1
        if sample.cause is not None:
            causes[row] = sample.cause
            continue
        try:
            if cache is None:
                image = open_image(read_source(sample.source), mode)
            else:
                image = cache.load(sample.position, sample.source)
            if isinstance(transform, Preprocess):
                pixels = transform.pixels(image)
            else:
                rng = sample_rng(seed, epoch, sample.position, sample.repetition)
                pixels = transform(image, rng)
            out[row - len(causes)] = pixels
        except ImageError as error:
            reason = error.__cause__
            gone = isinstance(reason, OSError) and reason.strerror is not None
            causes[row] = Cause(error.cause, "gone" if gone else "")
    return causes


def worker_pool(workers: int) -> ProcessPoolExecutor:
    """Processes for pictures, that end when this process ends, however it ends.

    They are started afresh rather than forked: a copy of a process with Paddle's threads, locks
    and GPU context in it can hang, and holds more memory.
    """
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, prepare_worker, (Image.MAX_IMAGE_PIXELS,))


def prepare_worker(max_pixels: int | None) -> None:
    """Makes a process ready to decode: what it allows, whom it listens to, when it ends.

    Args:
        max_pixels: what the main process allows.
    """
    Image.MAX_IMAGE_PIXELS = max_pixels
    # Half of the limit is nothing to be warned of; above the limit is an error with a name.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    # A group of its own: Ctrl-C and `timeout` signal the whole group of the main process, which
    # then still needs its workers to end in good order.
    os.setpgrp()
    for number in GROUP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # forgets what came while this process started
    signal.pthread_sigmask(signal.SIG_UNBLOCK, GROUP_SIGNALS)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the pool ends its workers with it
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
