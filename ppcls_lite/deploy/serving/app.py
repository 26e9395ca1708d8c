"""The application object: FastAPI behind the gate, with gRPC beside it."""

from fastapi import FastAPI

import ppcls_lite
from ppcls_lite.config import ServeConfig
from ppcls_lite.deploy.serving.gate import Gate, Part
from ppcls_lite.deploy.serving.routes import add_routes
from ppcls_lite.deploy.serving.service import Service


def create_app(config: ServeConfig) -> Gate:
    """Returns the ASGI application of one process; it loads its networks when it is started."""
    app = FastAPI(title="ppcls_lite", version=ppcls_lite.__version__, redoc_url=None)
    service = Service(config)
    add_routes(app, service)
    parts: list[Part] = [service]
    if config.grpc_port is not None:
        from ppcls_lite.deploy.serving.grpc_server import GrpcServer  # takes a second to import

        parts.append(GrpcServer(service, config.grpc_port))
    return Gate(app, service, parts)
