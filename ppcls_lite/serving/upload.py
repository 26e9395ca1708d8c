"""A request's body on its way in: within the worker's memory, never too large or too slow."""

import asyncio
import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import anyio
from starlette.datastructures import Headers
from starlette.types import Message, Receive

from ppcls_lite.errors import UserError
from ppcls_lite.serving import metrics
from ppcls_lite.serving.problems import RequestError
from ppcls_lite.serving.settings import ServeConfig

# A body is held as it came, as text or parts read from it, and as decoded pictures or tensors.
COPIES = 3
LEAST = 2**16  # bytes that any upload counts: the HTTP parser may hold as many before we see them
LARGE = 2**24  # bytes held at once, from which on it is worth to give memory back
# As ASP.NET's Kestrel: an upload has five seconds before the slowest rate counts.
GRACE = 5.0
# Seconds, as nginx's lingering_time and lingering_timeout: what still comes of a refused body is
# read and dropped, or the client's system would drop our answer and report a reset.
LINGER, LINGER_IDLE = 30.0, 5.0


class ClientLeftError(Exception):
    """The connection was closed before the request was complete."""


class Memory:
    """The bytes that a worker may hold for requests.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._most = 0  # since memory went back to the system

    @contextmanager
    def room(self) -> Iterator["Room"]:
        """What one request holds; given back at the end."""
        room = Room(self)
        try:
            room.resize(LEAST)
            yield room
        finally:
            self.change(-room.size)
            if not self._held and self._most > LARGE:
                self._most = 0
                with suppress(RuntimeError):  # no loop: a test's own thread
                    asyncio.get_running_loop().call_later(1, trim)  # bodies are freed by then

    def change(self, size: int) -> None:
        """Takes bytes, or gives them back.

        Raises:
            RequestError: there are not as many left.
        """
        if size > 0 and self._held + size > self._limit:
            raise RequestError(
                "overloaded",
                f"requests hold {self._held / 1e6:.1f} MB of this worker's"
                f" {self._limit / 1e6:g} MB; try again in a second",
            )
        self._held += size
        self._most = max(self._most, self._held)
        metrics.REQUEST_BYTES.inc(size)


def trim() -> None:
    """Gives the system what is free between what is not: large bodies arrive in small pieces, and
    glibc keeps their places."""
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


class Room:
    """The part of a `Memory` that one request holds; `size` in bytes."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.size = 0

    def resize(self, size: int) -> None:
        """Makes it `size` bytes, and at least `LEAST`.

        Raises:
            RequestError: the worker's memory is taken.
        """
        size = max(size, LEAST)
        self._memory.change(size - self.size)
        self.size = size


class Upload:
    """The body of one request.

    Args:
        headers: of the request.
        receive: ASGI's.
        config: holds the limits.

    Attributes:
        is_over: nothing more comes.
    """

    def __init__(self, headers: Headers, receive: Receive, config: ServeConfig) -> None:
        self._headers = headers
        self._receive = receive
        self._config = config
        length = headers.get("content-length", "0")
        self.is_over = length == "0" and "transfer-encoding" not in headers

    async def receive(self) -> Message:
        """ASGI's `receive`, watched for the end of the body."""
        message = await self._receive()
        self.is_over = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    async def read(self, room: Room, begin: float) -> bytes:
        """Returns the whole body, whose bytes `room` holds as they come.

        Args:
            room: grows with the body.
            begin: of the request, in anyio's time.

        Raises:
            RequestError: too large, too slow, compressed, or no memory is left.
            ClientLeftError: the connection was closed before its end.
        """
        encoding = self._headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise RequestError("bad_encoding", f"content-encoding {encoding!r}; allowed: identity")
        limit = int(self._config.max_body_mb * 1e6)
        length = self._headers.get("content-length", "0")
        # int() of thousands of digits is an error of its own.
        if length.isdecimal() and (len(length) > 18 or int(length) > limit):
            raise RequestError("too_large", f"the body is larger than {limit} bytes")
        body = bytearray()
        with anyio.move_on_after(GRACE) as time:
            while True:
                time.deadline = begin + min(self._config.timeout, self._seconds(len(body)))
                message = await self.receive()
                if message["type"] == "http.disconnect":
                    raise ClientLeftError
                body += message.get("body", b"")
                if len(body) > limit:
                    raise RequestError("too_large", f"the body is larger than {limit} bytes")
                room.resize(COPIES * len(body))
                if self.is_over:
                    return bytes(body)
        seconds = min(self._config.timeout, self._seconds(len(body)))
        raise RequestError(
            "slow_upload",
            f"{len(body)} bytes came in {seconds:g} seconds; an upload has {GRACE:g} seconds, one"
            f" more for every {self._config.min_upload_kb:g} kB, and {self._config.timeout:g} in"
            " all",
        )

    def _seconds(self, size: int) -> float:
        """Returns how long an upload may have taken when `size` bytes are here."""
        return GRACE + size / (1000 * self._config.min_upload_kb)

    async def drain(self) -> None:
        """Reads and drops the rest, for a while."""
        with anyio.move_on_after(LINGER):
            while not self.is_over:
                with anyio.move_on_after(LINGER_IDLE) as idle:
                    await self.receive()
                if idle.cancelled_caught:
                    return


def scratch_mb(config: ServeConfig) -> float:
    """Returns about what a worker takes for the one picture or tensor that it unpacks, megabytes.

    Eight bytes a pixel for a picture (Pillow's four, three of the copy and the file), twelve for a
    byte of JSON; both measured.
    """
    return max(8 * config.max_megapixels, 12 * config.max_body_mb)


def check_limits(config: ServeConfig) -> None:
    """Raises UserError when a body that is allowed could never be held."""
    needed = COPIES * config.max_body_mb
    if config.request_memory < 1e6 * needed:
        raise UserError(
            f"--request-memory-mb {config.request_memory / 1e6:g} holds no body of --max-body-mb"
            f" {config.max_body_mb:g}, which takes {needed:g}",
            f"--request-memory-mb {needed:g}  # or a smaller --max-body-mb",
        )
