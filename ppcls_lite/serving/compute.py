"""The one thread of a worker that decodes pictures and runs networks.

Parallel work is what the other processes are for: on a CPU, processes with one thread each give
twice the requests a second of one process with a thread pool (docs/measurements/serving.md).
"""

import asyncio
import functools
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import TypeVar

import numpy as np
from PIL import Image

from ppcls_lite.data.decode import ImageError, open_image, read_heic
from ppcls_lite.deploy.predictor import Predictor
from ppcls_lite.errors import UserError
from ppcls_lite.serving import metrics
from ppcls_lite.serving.problems import RequestError

Answer = asyncio.Future[np.ndarray]  # probabilities [N, K]
Result = TypeVar("Result")

# Formats of photographs. Pillow knows more, and starts Ghostscript for one of them (EPS).
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "HEIF")


class ComputeThread:
    """Runs jobs one after the other without holding up the event loop."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="compute")

    def submit(self, job: Callable[[], None]) -> None:
        """Puts a job, which may not raise anything, at the end of the queue."""
        self._pool.submit(job)

    async def run(self, job: Callable[[], Result]) -> Result:
        """Runs a job in its turn and returns what it returns, or raises what it raises."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, job)

    def close(self) -> None:
        """Ends the thread after the job under way."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class Batcher:
    """Puts the pictures of several requests into one run of a network.

    A run takes what has been decoded when nothing is left to decode, or when it is full: alone, a
    request never waits for others.

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
        # Filled by the event loop and emptied by the compute thread, which a deque allows.
        self._requests: deque[tuple[Callable[[], np.ndarray], Answer]] = deque()
        self._made: list[tuple[np.ndarray, Answer]] = []  # the compute thread's
        self._timer: asyncio.TimerHandle | None = None  # the event loop's

    async def __call__(self, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Runs the network on the images [N, 3, H, W] that `make` makes: probabilities [N, K].

        Cancelled while waiting for its turn, it costs the thread nothing.

        Raises:
            RequestError: by `make`.
        """
        answer: Answer = asyncio.get_running_loop().create_future()
        metrics.QUEUE.inc()
        try:
            self._requests.append((make, answer))
            self._thread.submit(self._take_one)
            return await answer
        finally:
            metrics.QUEUE.dec()

    def _take_one(self) -> None:
        make, answer = self._requests.popleft()
        if not answer.done():
            try:
                self._made.append((make(), answer))
            except Exception as error:  # bad input, and defects: the request's, not the thread's
                _settle([(answer, error)])
        count = sum(len(images) for images, _ in self._made)
        if count >= self._max_batch or not (self._delay or self._requests):
            self._run()
        elif self._delay and count:
            answer.get_loop().call_soon_threadsafe(self._set_timer)

    def _set_timer(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._delay, self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer = None
        self._thread.submit(self._run)

    def _run(self) -> None:
        # Whoever gave up waiting needs no answer.
        batch = [(images, answer) for images, answer in self._made if not answer.done()]
        self._made = []
        if not batch:
            return
        answers = [answer for _, answer in batch]
        try:
            probs = self._probabilities(np.concatenate([images for images, _ in batch]))
        except Exception as error:
            _settle([(answer, error) for answer in answers])
            return
        ends = np.cumsum([len(images) for images, _ in batch])
        _settle(list(zip(answers, np.split(probs, ends[:-1]), strict=True)))

    def _probabilities(self, images: np.ndarray) -> np.ndarray:
        parts = []
        for start in range(0, len(images), self._max_batch):
            part = images[start : start + self._max_batch]
            begin = time.perf_counter()
            parts.append(self._predictor.probabilities(part))
            metrics.RUN.labels(self._name).observe(time.perf_counter() - begin)
            metrics.BATCH.observe(len(part))
        return np.concatenate(parts)


def _settle(results: list[tuple[Answer, np.ndarray | Exception]]) -> None:
    """Hands results to those who wait for them; called on the compute thread."""

    def settle() -> None:
        for answer, result in results:
            if answer.done():  # it gave up in the meantime
                continue
            if isinstance(result, Exception):
                answer.set_exception(result)
            else:
                answer.set_result(result)

    results[0][0].get_loop().call_soon_threadsafe(settle)


@functools.cache
def formats() -> tuple[str, ...]:
    """Returns those of `FORMATS` that the installed Pillow and pillow-heif read."""
    read_heic()
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def decode(picture: bytes, predictor: Predictor, max_megapixels: float) -> np.ndarray:
    """The bytes of a picture -> uint8 [H, W, 3], or what the user's own preprocess makes of it.

    Raises:
        RequestError: it is no picture, damaged, has too many pixels, or preprocess refuses it.
    """
    # The size stands in the head: a bomb is refused before anything is unpacked.
    try:
        with Image.open(BytesIO(picture), formats=formats()) as image:
            width, height = image.size
    except Image.DecompressionBombError as error:
        raise RequestError("too_large", f"an image with too many pixels: {error}") from error
    except Exception as error:  # Pillow's readers raise whatever the broken bytes lead to
        allowed = "allowed: " + ", ".join(formats())
        raise RequestError(
            "bad_picture", f"{len(picture)} bytes that are no image of a known format; {allowed}"
        ) from error
    if width * height > max_megapixels * 1e6:
        raise RequestError(
            "too_large",
            f"an image of {width} x {height} pixels; allowed: {max_megapixels:g} million pixels",
        )
    # A line of pixels becomes as long as the other side is wide: 1 x 60000 would take gigabytes.
    resized_width, resized_height = predictor.info.preprocess.resized_size(width, height)
    if resized_width * resized_height > max_megapixels * 1e6:
        raise RequestError("too_large", f"an image of {width} x {height} pixels is too narrow")
    try:
        return predictor.see(open_image(picture))
    except ImageError as error:
        raise RequestError("bad_picture", f"an image {error.cause}") from error
    except UserError as error:
        raise RequestError("bad_picture", error.message) from error
