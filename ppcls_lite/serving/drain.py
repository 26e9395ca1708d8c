"""The end of a server without a lost answer: what came in is answered, then connections close."""

import asyncio
import socket

import uvicorn

from ppcls_lite.serving.middleware import Middleware
from ppcls_lite.serving.port import LAST_CALL, has_queue


class DrainingServer(uvicorn.Server):
    """Uvicorn's server with another end.

    Differs from uvicorn: there, a connection is closed at once when its next request has not been
    read yet, though the client may have sent it.

    Args:
        config: of uvicorn.
        app: the application in it.
    """

    def __init__(self, config: uvicorn.Config, app: Middleware) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accepts what has connected, closes every connection with its next answer, and ends."""
        self._app.is_draining = True
        loop = asyncio.get_running_loop()
        end = loop.time() + LAST_CALL
        while any(map(has_queue, sockets or [])) and loop.time() < end:
            await asyncio.sleep(0.02)
        for server in self.servers:
            server.close()
        for port in sockets or []:
            port.close()
        while self.server_state.connections and loop.time() < end:
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)
