"""`serve`: answers requests over HTTP and gRPC until it is told to stop."""

from ppcls_lite.config import ServeConfig
from ppcls_lite.deploy.serving.server import serve


def run(config: ServeConfig) -> int:
    """Serves; see deploy.serving."""
    config.require("exported")
    return serve(config)
