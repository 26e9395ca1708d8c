"""The application on Ray Serve, for several machines: `serve deploy deploy/serving/ray_serve.yaml`.

A replica is what a worker process is in `server`: the same application object with the same
settings. Ray Serve starts, spreads, scales and replaces them.
"""

import dataclasses
from typing import Any

import msgspec
import ray
from ray import serve

from ppcls_lite.environment import take_cores
from ppcls_lite.errors import UserError, nearest
from ppcls_lite.serving.app import create_app
from ppcls_lite.serving.middleware import Middleware
from ppcls_lite.serving.settings import ServeConfig

# Ray Serve's business: http_options and deployments of the YAML file say it.
NOT_OURS = {"host", "port", "grpc_port", "workers", "sources", "prog"}


@serve.ingress()
class Classifier:
    """One replica.

    Args:
        config: of the server.
    """

    def __init__(self, config: ServeConfig) -> None:
        # The threads that Ray gave this replica, not the machine's.
        take_cores(ray.get_runtime_context().get_assigned_resources().get("CPU", 1))
        self._app = create_app(config)

    def __serve_build_asgi_app__(self) -> Middleware:
        """The hook of `serve.ingress()`; Ray Serve runs the application's start and end."""
        return self._app

    def check_health(self) -> None:
        """Asked by Ray Serve again and again; a replica that raises is replaced."""
        if not self._app.ready:
            raise RuntimeError("the models are not ready")


def application(args: dict[str, Any]) -> serve.Application:
    """Builds the application from `args` of the YAML file: fields of ServeConfig.

    Raises:
        UserError: one of them is unknown or out of its limits.
    """
    known = {field.name for field in dataclasses.fields(ServeConfig)} - NOT_OURS
    for name in args.keys() - known:
        raise UserError(
            f"args: {name} is no setting of a replica{nearest(name, known)}; allowed:"
            f" {', '.join(sorted(known))}",
            f"rename {name} below args in the YAML file, or delete it",
        )
    try:
        config = msgspec.convert(args, ServeConfig)
    except msgspec.ValidationError as error:
        raise UserError(
            f"args: {error}", "change this value below args in the YAML file"
        ) from error
    config.require("exported")
    return serve.deployment(Classifier).bind(config)
