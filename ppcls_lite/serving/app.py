"""The application object: FastAPI behind the gate, with gRPC beside it."""

from typing import Any

from fastapi import FastAPI

from ppcls_lite.serving.middleware import Middleware, Part
from ppcls_lite.serving.routes import add_routes
from ppcls_lite.serving.service import Service
from ppcls_lite.serving.settings import ServeConfig
from ppcls_lite.version import __version__


def create_app(config: ServeConfig, hooks: Any = None, successor: bool = False) -> Middleware:
    """Returns the ASGI application of one process; it loads its networks when it is started.

    Args:
        config: of the server.
        hooks: an object with `preprocess`, `postprocess` or both (docs/serving.md), in the place of
            those that the config names.
        successor: of a process that died, see `Store.load`.
    """
    app = FastAPI(title="ppcls_lite", version=__version__, redoc_url=None)
    service = Service(config, hooks, successor)
    add_routes(app, service)
    parts: list[Part] = [service]
    if config.grpc_port is not None:
        from ppcls_lite.serving.grpc_server import GrpcServer  # takes a second to import

        parts.append(GrpcServer(service, config.grpc_port))
    return Middleware(app, service, parts)
