"""Every HTTP request's way in and out: identity, key, limits, time, log line, metrics.

Plain ASGI around the application, so that nothing a client sends reaches it unlimited.
"""

import logging
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import anyio
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ppcls_lite.errors import UserError, shortened
from ppcls_lite.serving import metrics, paddle_serving
from ppcls_lite.serving.problems import PROBLEMS, RequestError
from ppcls_lite.serving.service import Service
from ppcls_lite.serving.upload import ClientLeftError, Upload

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

    Attributes:
        is_draining: every answer closes its connection, so that the client's next one is another.
    """

    def __init__(self, app: ASGIApp, service: Service, parts: Sequence[Part]) -> None:
        self._app = app
        self._service = service
        self._parts = parts
        self.is_draining = False

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
        upload = Upload(headers, receive, self._service.config)
        begin, status = time.perf_counter(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                added = [(b"x-request-id", request_id.encode())]
                if not upload.is_over or self.is_draining:
                    added.append((b"connection", b"close"))
                message["headers"] = [*message.get("headers", ()), *added]
            elif not message.get("more_body") and not upload.is_over:
                await send({**message, "more_body": True})
                await upload.drain()
                message = {"type": "http.response.body"}
            await send(message)

        try:
            await self._guarded(scope, headers, upload, answer)
        except RequestError as error:
            if status == 0:
                await error_response(scope, error)(scope, upload.receive, answer)
        except ClientLeftError:
            status = 499  # as nginx logs it: the client closed the connection, nobody reads
        except Exception:  # a defect of ours; the worker goes on
            LOG.exception("request %s failed", request_id)
            if status == 0:
                failure = RequestError("internal", "the server failed; its log knows more")
                await error_response(scope, failure)(scope, upload.receive, answer)
        self._count(scope, status, time.perf_counter() - begin)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        """Writes an answered request into the metrics and the log."""
        path = route_of(scope)
        metrics.REQUESTS.labels("http", path, status).inc()
        metrics.LATENCY.labels("http", path).observe(seconds)
        fields = {
            "request_id": scope["state"]["request_id"], "method": scope["method"],
            "path": shortened(scope["path"]), "status": status, "ms": round(1000 * seconds, 2),
            "client": (scope.get("client") or ["", 0])[0], **scope["state"]["notes"],
        }  # fmt: skip
        LOG.info("request", extra={"fields": fields})

    async def _guarded(self, scope: Scope, headers: Headers, upload: Upload, send: Send) -> None:
        if scope["path"] not in OPEN:
            self._service.check_key(headers.get("authorization", ""))
        if scope["method"] != "POST":
            await self._app(scope, upload.receive, send)
            return
        begin = anyio.current_time()
        with self._service.memory.room() as room:
            body = await upload.read(room, begin)
            scope["state"]["notes"]["bytes"] = len(body)
            # Only now: a client that sends slowly, or never ends, keeps nobody else out.
            with self._service.slot() as free:

                async def answer(message: Message) -> None:
                    # Before the client can send its next request, which may come sooner than this
                    # one's end: as many clients as there are places are never refused.
                    if message["type"] == "http.response.body" and not message.get("more_body"):
                        free()
                    await send(message)

                replay = _replay(body, upload.receive)
                del body  # `replay` gives it away
                seconds = self._service.config.timeout
                with anyio.move_on_at(begin + seconds) as limit:
                    await self._app(scope, replay, answer)
                if limit.cancelled_caught:
                    raise RequestError("timeout", f"no answer within {seconds:g} seconds")


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
    """Returns a `receive` that gives the body once, then whatever comes."""
    waiting = [body]

    async def replay() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return replay
