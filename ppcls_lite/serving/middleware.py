"""Every HTTP request's way in and out: identity, key, limits, time, log line, metrics.

Plain ASGI around the application, so that nothing a client sends reaches it unlimited.
"""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ppcls_lite.errors import UserError
from ppcls_lite.serving import metrics, paddle_serving
from ppcls_lite.serving.problems import PROBLEMS, RequestError
from ppcls_lite.serving.service import Service

LOG = logging.getLogger("ppcls_lite.serving")
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Probes come without a key, and the page asks for it.
OPEN = {"/", "/docs", "/openapi.json", "/v2/health/live", "/v2/health/ready"}


class Part(Protocol):
    """Something that lives as long as the process."""

    async def start(self) -> None:
        """Makes it ready."""

    async def stop(self) -> None:
        """Ends it in order."""


class Middleware:
    """ASGI middleware, and the application's start and end.

    Args:
        app: the application.
        service: the networks and limits.
        parts: what lives as long as the process; started in this order.
    """

    def __init__(self, app: ASGIApp, service: Service, parts: Sequence[Part]) -> None:
        self._app = app
        self._service = service
        self._parts = parts

    @property
    def ready(self) -> bool:
        """All networks have answered once, and the application is not ending."""
        return self._service.ready

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request, or the life of the process."""
        if scope["type"] == "http":
            await self._request(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:  # a web socket; closing it before it was accepted is HTTP's 403
            await send({"type": "websocket.close", "code": 1000})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            for part in self._parts:
                await part.start()
        except (UserError, OSError) as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for part in reversed(self._parts):
            await part.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        notes: dict[str, Any] = {}  # what the application adds to the log line
        scope.setdefault("state", {}).update(request_id=request_id, notes=notes)
        begin, status = time.perf_counter(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()), (b"x-request-id", request_id.encode()),
                ]  # fmt: skip
            await send(message)

        try:
            await self._guarded(scope, headers, receive, answer)
        except RequestError as error:
            if status == 0:
                await error_response(scope, error)(scope, receive, answer)
        except ClientLeftError:
            status = 499  # as nginx logs it: the client closed the connection, nobody reads
        except Exception:  # a defect of ours; the worker goes on
            LOG.exception("request %s failed", request_id)
            if status == 0:
                failure = RequestError("internal", "the server failed; its log knows more")
                await error_response(scope, failure)(scope, receive, answer)
        seconds = time.perf_counter() - begin
        path = route_of(scope)
        metrics.REQUESTS.labels("http", path, status).inc()
        metrics.LATENCY.labels("http", path).observe(seconds)
        fields = {
            "request_id": request_id, "method": scope["method"], "path": scope["path"],
            "status": status, "ms": round(1000 * seconds, 2),
            "client": (scope.get("client") or ["", 0])[0], **notes,
        }  # fmt: skip
        LOG.info("request", extra={"fields": fields})

    async def _guarded(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        if scope["path"] not in OPEN:
            self._service.check_key(headers.get("authorization", ""))
        if scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        seconds = self._service.config.timeout
        notes = scope["state"]["notes"]
        with self._service.slot() as free:

            async def answer(message: Message) -> None:
                # Before the client can send its next request, which may come sooner than this
                # one's end: as many clients as there are places are never refused.
                if message["type"] == "http.response.body" and not message.get("more_body"):
                    free()
                await send(message)

            try:
                await asyncio.wait_for(self._work(scope, headers, receive, answer), seconds)
            except asyncio.TimeoutError as error:
                if "bytes" not in notes:
                    raise RequestError(
                        "slow_upload", f"the body was not complete after {seconds:g} seconds"
                    ) from error
                raise RequestError("timeout", f"no answer within {seconds:g} seconds") from error

    async def _work(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        body = await read_body(headers, receive, int(self._service.config.max_body_mb * 1e6))
        scope["state"]["notes"]["bytes"] = len(body)
        await self._app(scope, _replay(body, receive), send)


async def read_body(headers: Headers, receive: Receive, limit: int) -> bytes:
    """Returns a request's whole body.

    Raises:
        RequestError: it is longer than `limit` bytes, or compressed.
        ClientLeftError: the connection was closed before its end.
    """
    encoding = headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise RequestError("bad_encoding", f"content-encoding {encoding!r}; allowed: identity")
    length = headers.get("content-length", "0")
    # int() of thousands of digits is an error of its own.
    too_long = length.isdecimal() and (len(length) > 18 or int(length) > limit)
    parts: list[bytes] = []
    size, more = 0, True
    while more and not too_long:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeftError
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        more = message.get("more_body", False)
        too_long = size > limit
    if too_long:
        raise RequestError("too_large", f"the body is larger than {limit} bytes")
    return b"".join(parts)


class ClientLeftError(Exception):
    """The connection was closed before the request was complete."""


def error_response(
    scope: Scope, error: RequestError, more_headers: Mapping[str, str] | None = None
) -> Response:
    """Writes a failure in the protocol of the address that was asked, and counts it."""
    metrics.ERRORS.labels(error.kind).inc()
    scope["state"]["notes"]["error"] = error.message
    headers = dict(more_headers or {})
    if error.problem.retry:
        headers["retry-after"] = str(error.problem.retry)
    if error.kind == "no_key":
        headers["www-authenticate"] = "Bearer"
    pipeline = scope["path"].endswith("/prediction")
    content = paddle_serving.failure(error) if pipeline else {"error": error.message}
    return JSONResponse(content, error.problem.status, headers)


def route_of(scope: Scope) -> str:
    """Returns the pattern of the address, so that metrics do not grow with what clients invent."""
    return getattr(scope.get("route"), "path", "other")


def kind_of_status(status: int) -> str:
    """Returns the kind of failure behind a status that the framework chose."""
    return next((kind for kind, p in PROBLEMS.items() if p.status == status), "bad_body")


def _replay(body: bytes, receive: Receive) -> Receive:
    """Returns a `receive` that gives the body again, then whatever comes."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
