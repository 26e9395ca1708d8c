"""The processes that decode for a `Loader`: each can be watched, ended and replaced on its own.

Differs from concurrent.futures.ProcessPoolExecutor, which other commands use: there one killed
worker ends all, a stopped one is waited for without end, at the end of the program, too, and nobody
knows which picture it is at.
"""

import collections
import contextlib
import multiprocessing
import multiprocessing.process
import os
import signal
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np
from PIL import Image

from ppcls_lite.data.cache import PictureCache
from ppcls_lite.data.shared import SharedArray
from ppcls_lite.data.watch import POLL, Watch, dead_worker
from ppcls_lite.data.workers import GROUP_SIGNALS, Cause, How, Sample, decode_into, prepare_worker

# uint8 [N, H, W, 3] of the readable pictures, and {row: cause} of the others.
Decoded = tuple[np.ndarray, dict[int, Cause]]

REPLACED = 3  # workers of an epoch that may be lost
SLOTS = 2  # of a worker: a batch in work and one waiting
START_TIMEOUT = 60.0  # seconds: a process imports what it needs before its first picture
OUT_OF_MEMORY = 75  # exit status of a worker


@dataclass
class Job:
    """A batch that a worker was asked for; its answer, as `decode_into` gives it."""

    slot: int
    how: How
    task: list[Sample]
    answer: dict[int, Cause] | None = None


class Worker:
    """One process, what it is to do, oldest first, and where it is."""

    def __init__(
        self, slots: SharedArray, places: SharedArray, cache: PictureCache | None = None
    ) -> None:
        self.jobs: collections.deque[Job] = collections.deque()
        self._shared = slots, places, cache
        self._place = places.array.view(np.int64)[:, 0]  # [slots], picture in work, from 1
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        # A copy of a process with Paddle's threads, locks and GPU context in it can hang, and holds
        # more memory: spawned. It must not see a signal before it has left the process group; this
        # process sees it a moment later.
        previous = signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)
        try:
            self._connection, theirs = context.Pipe()
            arguments = (theirs, *self._shared, Image.MAX_IMAGE_PIXELS)
            self._process = context.Process(target=serve, args=arguments, daemon=True)
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, previous)
        theirs.close()
        self._has_answered = False

    def ask(self, job: Job) -> None:
        """Gives it one more thing to do."""
        self.jobs.append(job)
        self._send(job)

    def _send(self, job: Job) -> None:
        self._place[job.slot] = 0
        with contextlib.suppress(OSError):  # it is gone, which `listen` finds out
            self._connection.send((job.slot, job.how, job.task))

    def listen(self, seconds: float) -> bool:
        """Waits for an answer, puts it into its job, and tells whether there was one.

        Raises:
            EOFError: the process is gone.
        """
        try:
            if not self._connection.poll(seconds):
                return False
            answer = self._connection.recv()
        except OSError as error:
            raise EOFError from error
        self.jobs.popleft().answer = answer
        self._has_answered = True
        return True

    def place(self) -> int:
        """Which picture of its oldest job it is at, from 1; 0 before the first."""
        return int(self._place[self.jobs[0].slot])

    def patience(self, limit: float) -> float:
        """Seconds that it may stay where it is, when a picture may take `limit`."""
        is_starting = not (self.place() or self._has_answered)
        return max(limit, START_TIMEOUT) if is_starting else limit

    def replace(self) -> str:
        """Starts another process for the same jobs; says how the old one ended."""
        self._connection.close()
        self._process.join(1)
        status = self._process.exitcode
        self.end()
        self._start()
        for job in self.jobs:
            self._send(job)
        if status == OUT_OF_MEMORY:
            return "ran out of memory"
        if status is not None and status < 0:
            return f"was killed by {signal.Signals(-status).name}"
        return "did not answer" if status is None else f"ended with status {status}"

    def end(self) -> None:
        """Ends the process, whatever it is at."""
        self._connection.close()
        self._process.kill()
        self._process.join(1)
        if self._process.exitcode is None:
            # It hangs in the kernel, in a drive that is gone: Python would wait for it at its end.
            multiprocessing.process._children.discard(self._process)  # type: ignore[attr-defined]


class Crew:
    """Decodes batches in order, in several processes that end with this one, however it ends.

    Args:
        workers: how many.
        shape: of a batch, [N, H, W, 3].
        watch: how long a picture may take, and who is told.
        cache: of decoded pictures.
    """

    def __init__(
        self,
        workers: int,
        shape: tuple[int, ...],
        watch: Watch,
        cache: PictureCache | None = None,
    ) -> None:
        self._watch = watch
        self._extra = SLOTS * workers  # the slot of `one`
        self._slots = SharedArray((SLOTS * workers + 1, *shape))
        places = SharedArray((SLOTS * workers + 1, 8))
        self._workers = [Worker(self._slots, places, cache) for _ in range(workers)]
        self._replaced = 0
        self._slow: set[int] = set()  # positions of pictures that took too long once

    def decode(self, tasks: Iterable[list[Sample]], how: How) -> Generator[Decoded]:
        """Yields the batches of an epoch; when it is not read to its end, the crew is closed.

        Args:
            tasks: the samples of each batch.
            how: what is done to the pictures.
        """
        running: collections.deque[Job] = collections.deque()
        self._replaced = 0
        try:
            for number, task in enumerate(tasks):
                job = Job(number % self._extra, how, task)
                self._worker(job).ask(job)
                running.append(job)
                if len(running) == self._extra:
                    yield self._finished(running.popleft())
            while running:
                yield self._finished(running.popleft())
        except BaseException:  # nobody may write into the slots any more
            self.close()
            raise

    def one(self, sample: Sample, how: How) -> Decoded:
        """Decodes one picture now, between two batches of `decode`."""
        job = Job(self._extra, how, [sample])
        self._worker(job).ask(job)
        return self._finished(job)

    def close(self) -> None:
        """Ends the processes."""
        for worker in self._workers:
            worker.end()
        self._workers = []

    @property
    def closed(self) -> bool:
        """Tells whether the processes were ended."""
        return not self._workers

    def _worker(self, job: Job) -> Worker:
        return self._workers[job.slot // SLOTS % len(self._workers)]

    def _finished(self, job: Job) -> Decoded:
        worker, place, since = self._worker(job), -1, 0.0
        while job.answer is None:
            self._watch.check_stop()
            try:
                if worker.listen(POLL):
                    place = -1
                    continue
            except EOFError:
                self._replace(worker)
                place = -1
                continue
            if place != worker.place():
                place, since = worker.place(), time.monotonic()
            limit = self._watch.picture_timeout
            if limit and time.monotonic() - since > worker.patience(limit):
                self._give_up(worker, place - 1)
                place = -1
        return self._slots.array[job.slot, : len(job.task) - len(job.answer)].copy(), job.answer

    def _replace(self, worker: Worker) -> None:
        how = worker.replace()
        self._replaced += 1
        if self._replaced > REPLACED:
            raise dead_worker(f"{how}; {REPLACED} were replaced before, since the epoch began")
        self._watch.say(
            f"a worker process that decodes images {how}; another one took its place"
            f" ({self._replaced} of {REPLACED} an epoch)"
        )

    def _give_up(self, worker: Worker, row: int) -> None:
        """Replaces a worker that hangs; its picture is tried once more, then it is a broken one."""
        if row < 0:
            self._replace(worker)
            return
        task, limit = worker.jobs[0].task, self._watch.picture_timeout
        sample = task[row]
        if sample.position in self._slow:
            cause = Cause(f"took longer than {limit:g} s (--picture-timeout)", "slow")
            task[row] = sample._replace(cause=cause)
        else:
            self._slow.add(sample.position)
            self._watch.say(
                f"{sample.name} takes longer than {limit:g} s (--picture-timeout); another worker"
                " process tries it once more"
            )
        worker.replace()


def serve(
    connection: Connection,
    slots: SharedArray,
    places: SharedArray,
    cache: PictureCache | None,
    max_pixels: int | None,
) -> None:
    """What a worker process does: decodes what it is asked for, until nobody asks."""
    try:
        prepare_worker(max_pixels)
        place = places.array.view(np.int64)
        while True:
            request: tuple[int, How, list[Sample]] = connection.recv()
            slot, how, task = request
            connection.send(decode_into(slots.array[slot], *how, task, place[slot], cache))
    except MemoryError:
        os._exit(OUT_OF_MEMORY)  # a picture that finds no memory is not a broken one
    except (EOFError, OSError):
        os._exit(0)
