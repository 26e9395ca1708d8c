"""Batches of pixels for training and evaluation, decoded by worker processes.

The workers hand over uint8 pixels, a quarter of the bytes of float32, in memory they share with
the caller, who turns them into numbers for the model with `Preprocess.normalize`.

Differs from paddle.io.DataLoader, which is not used, for three measured reasons (Paddle 3.3.1): an
error in its worker reaches the caller as a SystemError without the file's name, a killed worker
only after 5 s; it hands over through /dev/shm, which holds 64 MB in a default container and keeps
its files when the run is killed; its workers are forks with Paddle inside, 90 MB each, not 35.
"""

import collections
import contextlib
import dataclasses
import multiprocessing
import signal
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

import numpy as np

from ppcls_lite.data.dataset import ImageDataset
from ppcls_lite.data.order import samples_per_rank, training_order
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.data.shared import SharedArray
from ppcls_lite.data.transforms import TrainTransform
from ppcls_lite.data.workers import (
    GROUP_SIGNALS,
    Sample,
    dead_worker,
    decode_into,
    decode_into_slot,
    worker_pool,
)
from ppcls_lite.errors import UserError
from ppcls_lite.program import command

# uint8 [N, H, W, 3] of the readable pictures, and {row: cause} of the others.
Decoded = tuple[np.ndarray, dict[int, str]]


@dataclasses.dataclass(frozen=True)
class Batch:
    """Pictures, in the order of `indices`."""

    images: np.ndarray  # uint8 [N, H, W, 3]
    labels: np.ndarray  # int64 [N]
    indices: np.ndarray  # int64 [N], positions in the data set


class Loader:
    """Iterates over a data set in batches; the order depends on seed and epoch alone.

    Training: a new permutation per epoch (see `order`). Global batch b is one slice of it, of which
    rank r takes every `world_size`-th sample: two ranks with batch B see what one process with 2B
    sees. The last, shorter batch is kept unless it is a single sample (batch norm would have no
    variance).

    Evaluation: rank r takes every `world_size`-th picture in the order of the data set, each
    exactly once; ranks may differ by one picture.

    A broken picture stops the run (`on_error="stop"`) or is noted in `broken` (`"skip"`). Then
    in training the next readable picture of the data set takes its place, so that all ranks
    still take the same steps; in evaluation it is left out.

    Args:
        dataset: the pictures.
        transform: what turns a picture into pixels, with random draws or without.
        batch_size: samples per rank and step.
        training: see above.
        workers: processes that decode; 0 decodes in the calling process. Same batches either way.
        seed: 0 or more; with the epoch, it decides order and augmentation.
        rank: of this process.
        world_size: number of processes that train together.
        on_error: stop or skip.
        reps: how often a sample is shown in a row, each time augmented afresh; training only.
        decode: exact or fast, see `open_image`.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        transform: TrainTransform | Preprocess,
        batch_size: int,
        *,
        training: bool,
        workers: int = 0,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        on_error: str = "stop",
        reps: int = 1,
        decode: str = "exact",
    ) -> None:
        self.dataset = dataset
        self.transform = transform
        self.batch_size = batch_size
        self.training = training
        self.workers = workers
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.on_error = on_error
        self.reps = reps
        self.decode = decode
        self.broken: dict[str, str] = {}  # path -> cause
        self._pool: ProcessPoolExecutor | None = None
        self._slots: SharedArray | None = None  # pixels of the batches in work
        self._free: list[int] = []  # slots

    def __len__(self) -> int:
        """Batches per epoch on this rank."""
        samples = -(-(len(self.dataset) - self.rank) // self.world_size)
        if self.training:
            samples = samples_per_rank(len(self.dataset), self.world_size, self.reps)
        batches, rest = divmod(samples, self.batch_size)
        lone = self.training and rest == 1 and batches > 0  # see the class
        return batches + (rest > 0 and not lone)

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """Yields the batches of one epoch from `start_batch` on; those before are not decoded.

        Raises:
            UserError: for a broken picture (on_error "stop"), or when the workers died.
            RuntimeError: the workers are at another epoch of this loader, which was not finished.
        """
        tasks = self._tasks(epoch)[start_batch:]
        with contextlib.closing(self._decode(epoch, tasks)) as decoded:
            for task, (images, causes) in zip(tasks, decoded, strict=True):
                indices = task[:, 0]
                if causes:
                    images, indices = self._without_broken(epoch, images, indices, causes)
                if len(indices):
                    yield Batch(images, self.dataset.labels[indices], indices)

    def close(self) -> None:
        """Ends the workers. They end with this process in any case, even when it is killed."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = self._slots = None

    def _tasks(self, epoch: int) -> list[np.ndarray]:
        """The batches of this rank, [steps][N, 2]: position in the data set, repetition."""
        count = len(self.dataset)
        if self.training:
            mine, repetitions = training_order(
                count, self.seed, epoch, self.rank, self.world_size, self.reps
            )
        else:
            mine = np.arange(count)[self.rank :: self.world_size]
            repetitions = np.zeros_like(mine)
        rows = np.stack([mine, repetitions], axis=1)
        batches = [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
        if self.training and len(batches) > 1 and len(batches[-1]) == 1 < self.batch_size:
            del batches[-1]
        return batches

    def _decode(self, epoch: int, batches: list[np.ndarray]) -> Generator[Decoded]:
        tasks = (
            [Sample(int(i), int(repetition), self.dataset.source(i)) for i, repetition in batch]
            for batch in batches
        )
        how = (self.transform, self.decode, self.seed, epoch)
        if self.workers == 0:
            for task in tasks:
                images = np.empty(self._shape(len(task)), np.uint8)
                causes = decode_into(images, *how, task)
                yield images[: len(task) - len(causes)], causes
            return
        pool, slots = self._start()
        if len(self._free) < 2 * self.workers:
            raise RuntimeError("the workers of a loader read one epoch at a time")
        running: collections.deque[tuple[Future[dict[int, str]], int, int]] = collections.deque()

        def finished() -> Decoded:
            future, slot, count = running[0]
            causes = future.result()
            images = slots.array[slot, : count - len(causes)].copy()
            running.popleft()
            self._free.append(slot)
            return images, causes

        try:
            for task in tasks:
                # A worker may be started here. It must not see a signal before it has left the
                # process group; this process sees it a moment later.
                previous = signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)
                try:
                    slot = self._free.pop()
                    future = pool.submit(decode_into_slot, slot, *how, task)
                    running.append((future, slot, len(task)))
                finally:
                    signal.pthread_sigmask(signal.SIG_SETMASK, previous)
                if len(running) == 2 * self.workers:  # one in work and one waiting for each
                    yield finished()
            while running:
                yield finished()
        except BrokenProcessPool as error:
            self._pool = None
            # The pool asks the other workers to end, but one that is still starting forgets that
            # together with the group's signals, and would be waited for without end.
            for child in multiprocessing.active_children():
                child.kill()
            raise dead_worker() from error
        finally:
            for future, slot, _ in running:
                future.cancel()
                self._free.append(slot)
            wait([future for future, _, _ in running])  # until nobody writes into the slots

    def _shape(self, count: int) -> tuple[int, int, int, int]:
        return count, self.transform.crop_size, self.transform.crop_size, 3

    def _start(self) -> tuple[ProcessPoolExecutor, SharedArray]:
        if self._pool is None or self._slots is None:
            self._slots = SharedArray((2 * self.workers, *self._shape(self.batch_size)))
            self._free = list(range(2 * self.workers))
            self._pool = worker_pool(self.workers, self._slots)
        return self._pool, self._slots

    def _without_broken(
        self, epoch: int, images: np.ndarray, indices: np.ndarray, causes: dict[int, str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Stops, replaces or leaves out the broken rows of a batch; see the class."""
        for row, cause in causes.items():
            self._note(int(indices[row]), cause)
        if not self.training:
            return images, np.delete(indices, list(causes))
        rows, indices = list(images), indices.copy()
        for row in causes:
            indices[row], pixels = self._next_readable(epoch, int(indices[row]))
            rows.insert(row, pixels)
        return np.stack(rows), indices

    def _next_readable(self, epoch: int, index: int) -> tuple[int, np.ndarray]:
        count = len(self.dataset)
        for candidate in ((index + step) % count for step in range(1, count)):
            task = [Sample(candidate, 0, self.dataset.source(candidate))]
            image = np.empty(self._shape(1), np.uint8)
            causes = decode_into(image, self.transform, self.decode, self.seed, epoch, task)
            if not causes:
                return candidate, image[0]
            self._note(candidate, causes[0])
        raise UserError(f"none of the {count} pictures can be read", _check_hint())

    def _note(self, index: int, cause: str) -> None:
        path = self.dataset.path(index)
        if self.on_error == "stop":
            raise UserError(f"broken picture {path}: {cause}", _check_hint())
        self.broken[path] = cause


def _check_hint() -> str:
    check = command("data check", "--data-path", "DATA")
    return f"{check}  # lists every broken picture; --on-error skip goes on without them"
