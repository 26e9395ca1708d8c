"""The one thread of a worker that decodes pictures and runs networks.

Parallel work is what the other processes are for: on a CPU, processes with one thread each give
twice the requests a second of one process with a thread pool (docs/serving.md).
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import TypeVar

import numpy as np
from PIL import Image

from ppcls_lite.data.preprocess import ImageError, Preprocess, open_image
from ppcls_lite.deploy.predictor import Predictor
from ppcls_lite.deploy.serving import metrics
from ppcls_lite.deploy.serving.problems import RequestError

T = TypeVar("T")

# Formats of photographs. Pillow knows more, and starts Ghostscript for one of them (EPS).
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")


class ComputeThread:
    """Runs jobs one after the other without holding up the event loop."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="compute")

    async def run(self, job: Callable[[], T]) -> T:
        """Waits for its turn and for the job; cancelled while waiting, the job is dropped."""
        metrics.QUEUE.inc()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, job)
        finally:
            metrics.QUEUE.dec()

    def close(self) -> None:
        """Ends the thread after the job under way."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class Batcher:
    """Puts the pictures of several requests into one run of a network.

    Args:
        predictor: the network.
        name: of the model, for the metrics.
        thread: where to run it.
        max_batch: most pictures of one run.
        delay: longest wait for other requests, seconds.
    """

    def __init__(
        self,
        predictor: Predictor,
        name: str,
        thread: ComputeThread,
        max_batch: int,
        delay: float,
    ) -> None:
        self._predictor = predictor
        self._name = name
        self._thread = thread
        self._max_batch = max_batch
        self._delay = delay
        self._waiting: list[tuple[np.ndarray, asyncio.Future[np.ndarray]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._runs: set[asyncio.Task[None]] = set()  # an unreferenced task may be collected

    async def __call__(self, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Runs the network on the images [N, 3, H, W] that `make` makes: probabilities [N, K].

        Raises:
            RequestError: by `make`.
        """
        if self._max_batch == 1:
            return await self._thread.run(lambda: self._probabilities(make()))
        images = await self._thread.run(make)
        answer: asyncio.Future[np.ndarray] = asyncio.get_running_loop().create_future()
        self._waiting.append((images, answer))
        if sum(len(images) for images, _ in self._waiting) >= self._max_batch:
            self._start()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._delay, self._start)
        return await answer

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # Whoever gave up waiting needs no answer.
        batch = [entry for entry in self._waiting if not entry[1].done()]
        self._waiting = []
        if batch:
            task = asyncio.get_running_loop().create_task(self._run(batch))
            self._runs.add(task)
            task.add_done_callback(self._runs.discard)

    async def _run(self, batch: list[tuple[np.ndarray, "asyncio.Future[np.ndarray]"]]) -> None:
        images = np.concatenate([images for images, _ in batch])
        try:
            probs = await self._thread.run(lambda: self._probabilities(images))
        except Exception as error:
            for _, answer in batch:
                if not answer.done():
                    answer.set_exception(error)
            return
        start = 0
        for images, answer in batch:
            if not answer.done():
                answer.set_result(probs[start : start + len(images)])
            start += len(images)

    def _probabilities(self, images: np.ndarray) -> np.ndarray:
        parts = []
        for start in range(0, len(images), self._max_batch):
            part = images[start : start + self._max_batch]
            begin = time.perf_counter()
            parts.append(self._predictor.probabilities(part))
            metrics.RUN.labels(self._name).observe(time.perf_counter() - begin)
            metrics.BATCH.observe(len(part))
        return np.concatenate(parts)


def decode(picture: bytes, spec: Preprocess, max_megapixels: float) -> np.ndarray:
    """The bytes of a picture -> uint8 [H, W, 3], what the network is to see.

    Raises:
        RequestError: it is no picture, damaged, or has too many pixels.
    """
    # The size stands in the head: a bomb is refused before anything is unpacked.
    try:
        with Image.open(BytesIO(picture), formats=FORMATS) as image:
            width, height = image.size
    except Image.DecompressionBombError as error:
        raise RequestError("too_large", f"a picture with too many pixels: {error}") from error
    except Exception as error:  # Pillow's readers raise whatever the broken bytes lead to
        allowed = "allowed: " + ", ".join(FORMATS)
        raise RequestError(
            "bad_picture", f"{len(picture)} bytes that are no picture of a known format; {allowed}"
        ) from error
    if width * height > max_megapixels * 1e6:
        raise RequestError(
            "too_large",
            f"a picture of {width} x {height} pixels; allowed: {max_megapixels:g} million pixels",
        )
    # A line of pixels becomes as long as the other side is wide: 1 x 60000 would take gigabytes.
    longest = max(width, height) / min(width, height) * spec.resize_size**2
    if longest > max_megapixels * 1e6:
        raise RequestError("too_large", f"a picture of {width} x {height} pixels is too narrow")
    try:
        return spec.pixels(open_image(picture))
    except ImageError as error:
        raise RequestError("bad_picture", f"a picture {error.cause}") from error
