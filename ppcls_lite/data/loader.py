"""Batches of pixels for training and evaluation, decoded by worker processes.

The workers hand over uint8 pixels, a quarter of the bytes of float32, in memory they share with
the caller, who turns them into numbers for the model with `Preprocess.normalize`.

Differs from paddle.io.DataLoader, which is not used, for three measured reasons (Paddle 3.3.1): an
error in its worker reaches the caller as a SystemError without the file's name, a killed worker
only after 5 s; it hands over through /dev/shm, which holds 64 MB in a default container and keeps
its files when the run is killed; its workers are forks with Paddle inside, 90 MB each, not 35.
"""

import contextlib
import dataclasses
import os
from collections.abc import Generator

import numpy as np

from ppcls_lite.data.cache import PictureCache
from ppcls_lite.data.crew import Crew, Decoded
from ppcls_lite.data.image_dataset import ImageDataset
from ppcls_lite.data.order import samples_per_rank, training_order
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.data.transforms import TrainTransform
from ppcls_lite.data.watch import Watch
from ppcls_lite.data.workers import Cause, How, Sample, decode_into
from ppcls_lite.errors import UserError
from ppcls_lite.program import command, quoted

# Seconds before each further try of a picture that cannot be read: a file that is being replaced,
# or a drive that is away for a moment, comes back.
PAUSES = (0.0, 0.5, 1.0, 2.0, 4.0)


@dataclasses.dataclass(frozen=True)
class Batch:
    """Pictures, in the order of `indices`."""

    images: np.ndarray  # uint8 [N, H, W, 3]
    labels: np.ndarray  # int64 [N], or several a picture, uint8 [N, K]
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
    still take the same steps; in evaluation it is left out. Before it stops, it is tried again for
    some seconds; so is a file that cannot be opened before it is skipped, and when its folder is
    gone, too, the run stops in any case.

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
        balanced: an epoch shows as many samples of each class, see `order`; training only.
        decode: exact or fast, see `open_image`.
        watch: how long a picture may take, what may end the waiting, and who is told.
        cache: of the data set's decoded pictures, for all epochs.
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
        balanced: bool = False,
        decode: str = "exact",
        watch: Watch | None = None,
        cache: PictureCache | None = None,
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
        self.balanced = balanced
        self.decode = decode
        self.broken: dict[str, str] = {}  # path -> cause
        self.watch = watch or Watch()
        self.cache = cache
        self._crew: Crew | None = None
        self._reading = False  # an epoch that is not finished
        self._patient = True  # no picture of this epoch was waited for in vain
        self._slow: dict[int, Cause] = {}  # pictures that are not asked for again, by position

    def __len__(self) -> int:
        """Batches per epoch on this rank."""
        samples = -(-(len(self.dataset) - self.rank) // self.world_size)
        if self.training:
            samples = samples_per_rank(len(self.dataset), self.world_size, self.reps)
        batches, rest = divmod(samples, self.batch_size)
        lone = self.training and rest == 1 and batches > 0  # see the class
        return batches + (rest > 0 and not lone)

    def epoch(self, epoch: int, start_batch: int = 0) -> Generator[Batch]:
        """Yields the batches of one epoch from `start_batch` on; those before are not decoded.

        Raises:
            UserError: for a broken picture (on_error "stop"), or when too many workers died.
            RuntimeError: the workers are at another epoch of this loader, which was not finished.
        """
        tasks = self._tasks(epoch)[start_batch:]
        how = (self.transform, self.decode, self.seed, epoch)
        self._patient = True
        with contextlib.closing(self._decode(how, tasks)) as decoded:
            for task, (images, causes) in zip(tasks, decoded, strict=True):
                indices = task[:, 0]
                if causes:
                    images, indices = self._without_broken(how, images, task, causes)
                if len(indices):
                    yield Batch(images, self.dataset.labels[indices], indices)

    def start(self) -> None:
        """Starts the workers, if there are any: they import what they need, while the caller does
        other things, in 0.15 s. The first epoch would start them, too."""
        if self.workers:
            self._ready_crew()

    def close(self) -> None:
        """Ends the workers. They end with this process in any case, even when it is killed."""
        if self._crew is not None:
            self._crew.close()
            self._crew = None

    def _tasks(self, epoch: int) -> list[np.ndarray]:
        """The batches of this rank, [steps][N, 2]: position in the data set, repetition."""
        count = len(self.dataset)
        if self.training:
            mine, repetitions = training_order(
                count, self.seed, epoch, self.rank, self.world_size, self.reps,
                self.dataset.labels if self.balanced else None,
            )  # fmt: skip
        else:
            mine = np.arange(count)[self.rank :: self.world_size]
            repetitions = np.zeros_like(mine)
        rows = np.stack([mine, repetitions], axis=1)
        batches = [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
        if self.training and len(batches) > 1 and len(batches[-1]) == 1 < self.batch_size:
            del batches[-1]
        return batches

    def _decode(self, how: How, batches: list[np.ndarray]) -> Generator[Decoded]:
        tasks = ([self._sample(*row) for row in batch.tolist()] for batch in batches)
        if self.workers == 0:
            for task in tasks:
                self.watch.check_stop()
                yield self._decode_here(task, how)
            return
        if self._reading:
            raise RuntimeError("the workers of a loader read one epoch at a time")
        crew = self._ready_crew()
        self._reading = True
        try:
            yield from crew.decode(tasks, how)
        finally:
            self._reading = False

    def _ready_crew(self) -> Crew:
        if self._crew is None or self._crew.closed:
            self._crew = Crew(self.workers, self._shape(self.batch_size), self.watch, self.cache)
        return self._crew

    def _sample(self, index: int, repetition: int = 0) -> Sample:
        return Sample(index, repetition, self.dataset.source(index), self._slow.get(index))

    def _decode_here(self, task: list[Sample], how: How) -> Decoded:
        images = np.empty(self._shape(len(task)), np.uint8)
        try:
            causes = decode_into(images, *how, task, cache=self.cache)
        except MemoryError:
            raise UserError(
                f"not enough memory to read these images: {task[0].name} and those after it",
                "give a smaller --batch-size, or a smaller --max-megapixels",
            ) from None
        return images[: len(task) - len(causes)], causes

    def _one(self, sample: Sample, how: How) -> Decoded:
        crew = self._crew
        return crew.one(sample, how) if crew else self._decode_here([sample], how)

    def _shape(self, count: int) -> tuple[int, int, int, int]:
        return count, self.transform.crop_size, self.transform.crop_size, 3

    def _without_broken(
        self, how: How, images: np.ndarray, task: np.ndarray, causes: dict[int, Cause]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Stops, replaces or leaves out the broken rows of a batch; see the class."""
        rows, indices, left_out = list(images), task[:, 0].copy(), []
        for row in sorted(causes):
            index, cause = int(indices[row]), causes[row]
            pixels, cause = self._again(self._sample(*task[row].tolist()), how, cause)
            if pixels is None:
                self._note(index, cause)
                if not self.training:
                    left_out.append(row)
                    continue
                indices[row], pixels = self._next_readable(how, index)
            rows.insert(row - len(left_out), pixels)
        indices = np.delete(indices, left_out)
        return (np.stack(rows) if rows else images), indices

    def _again(self, sample: Sample, how: How, cause: Cause) -> tuple[np.ndarray | None, Cause]:
        """Tries a picture again, for some seconds; returns its pixels, or why there are none."""
        if cause.kind == "slow":
            self._slow[sample.position] = cause
        may_skip = self.on_error == "skip" and not (cause.kind == "gone" and self._patient)
        if may_skip or cause.kind == "slow":
            return None, cause
        for pause in PAUSES:
            if pause == PAUSES[1]:
                self.watch.say(
                    f"{sample.name}: {cause}; trying it again for {sum(PAUSES):g} seconds"
                )
            self.watch.pause(pause)
            images, causes = self._one(sample, how)
            if not causes:
                return images[0], cause
            cause = causes[0]
        self._patient = False
        return None, cause

    def _next_readable(self, how: How, index: int) -> tuple[int, np.ndarray]:
        count = len(self.dataset)
        for candidate in ((index + step) % count for step in range(1, count)):
            images, causes = self._one(self._sample(candidate), how)
            if not causes:
                return candidate, images[0]
            self._note(candidate, causes[0])
        raise UserError(f"none of the {count} images can be read", check_hint())

    def _note(self, index: int, cause: Cause) -> None:
        file = self._sample(index).name
        if cause.kind == "gone" and not os.path.isdir(os.path.dirname(file) or "."):
            raise UserError(
                f"broken image {file}: {cause}; its folder is gone, too",
                f"df {quoted(os.path.dirname(file))}  # shows whether the disk is there",
            )
        path = self.dataset.path(index)
        if self.on_error == "stop":
            raise UserError(f"broken image {path}: {cause}", check_hint())
        self.broken[path] = cause


def check_hint() -> str:
    """What to run when pictures cannot be read."""
    check = command("data check", "--data-path", "DATA")
    return f"{check}  # lists every broken image; --on-error skip goes on without them"
