"""`serve`: answers requests over HTTP and gRPC until it is told to stop."""

from ppcls_lite.serving.server import serve
from ppcls_lite.serving.settings import ServeConfig


def run(config: ServeConfig) -> int:
    """Serves; see `serving`."""
    config.require("exported")
    return serve(config)
