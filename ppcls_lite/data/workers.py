"""What decodes pictures: the processes, and their work on one batch."""

import multiprocessing
import os
import signal
import threading
import warnings
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ppcls_lite.data.decode import ImageError, open_image
from ppcls_lite.data.packed import Source, read_source
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.data.shared import SharedArray
from ppcls_lite.data.transforms import TrainTransform, sample_rng
from ppcls_lite.errors import UserError

GROUP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_slots: list[SharedArray] = []  # in a worker of a `Loader`: one, where its pixels go


class Sample(NamedTuple):
    """What a worker is given of one sample."""

    position: int  # in the data set
    repetition: int
    source: Source


def decode_into(
    out: np.ndarray,
    transform: TrainTransform | Preprocess,
    mode: str,
    seed: int,
    epoch: int,
    task: list[Sample],
) -> dict[int, str]:
    """Turns samples into pixels; what a worker does for one batch.

    Args:
        out: uint8 [N or more, H, W, 3]; the readable pictures are written to its first rows.

    Returns:
        {row of the task: cause} of the unreadable ones. An exception would lose the rest.
    """
    causes: dict[int, str] = {}
    for row, sample in enumerate(task):
        try:
            image = open_image(read_source(sample.source), mode)
            if isinstance(transform, Preprocess):
                pixels = transform.pixels(image)
            else:
                rng = sample_rng(seed, epoch, sample.position, sample.repetition)
                pixels = transform(image, rng)
            out[row - len(causes)] = pixels
        except ImageError as error:
            causes[row] = error.cause
    return causes


def decode_into_slot(slot: int, *task: Any) -> dict[int, str]:
    """`decode_into` one of the slots that `worker_pool` was given, in a worker."""
    return decode_into(_slots[0].array[slot], *task)


def worker_pool(workers: int, slots: SharedArray | None = None) -> ProcessPoolExecutor:
    """Processes for pictures, that end when this process ends, however it ends.

    They are started afresh rather than forked: a copy of a process with Paddle's threads, locks
    and GPU context in it can hang, and holds more memory.

    Args:
        slots: where a worker of a `Loader` puts the pixels.
    """
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, _start_worker, (slots, Image.MAX_IMAGE_PIXELS))


def dead_worker() -> UserError:
    """What to say when `worker_pool` is broken."""
    return UserError(
        "a worker process that decodes pictures ended unexpectedly (its message, if any, is above)",
        "if memory ran out (see dmesg), use fewer --workers; --workers 0 decodes without any",
    )


def _start_worker(slots: SharedArray | None, max_pixels: int | None) -> None:
    Image.MAX_IMAGE_PIXELS = max_pixels  # what the main process allows
    # Half of the limit is nothing to be warned of; above the limit is an error with a name.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    if slots is not None:
        _slots.append(slots)
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
