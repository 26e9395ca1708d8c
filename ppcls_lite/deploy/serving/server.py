"""Starts the worker processes, replaces those that die, and ends them all."""

import functools
import json
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import warnings
from multiprocessing import parent_process
from pathlib import Path

from ppcls_lite.config import ServeConfig
from ppcls_lite.environment import cpu_cores
from ppcls_lite.errors import UserError

LOG = logging.getLogger("ppcls_lite.serving")


def serve(config: ServeConfig) -> int:
    """Serves until SIGTERM or SIGINT, then lets requests under way end.

    Returns:
        1 when the workers could not start, else 0.

    Raises:
        UserError: something given cannot work.
    """
    try:
        import uvicorn
        from uvicorn.config import STARTUP_FAILURE
        from uvicorn.supervisors import Multiprocess

        from ppcls_lite.deploy.serving.service import read_key
        from ppcls_lite.deploy.serving.store import find_folders
    except ImportError as error:
        raise UserError(
            f"serving needs packages that are not installed: {error}",
            "pip install -r requirements-serving.txt",
        ) from error
    read_key(config.api_key_file)
    find_folders(Path(config.exported))
    workers = config.workers or cpu_cores()
    write_json_lines()
    with tempfile.TemporaryDirectory(prefix="ppcls-metrics-") as shared, listen(config) as sock:
        # Read by prometheus_client, and by cpu_cores(): the workers share the cores.
        os.environ |= {"PROMETHEUS_MULTIPROC_DIR": shared, "PADDLE_LOCAL_SIZE": str(workers)}
        settings = uvicorn.Config(
            functools.partial(make_worker, config),
            factory=True,
            workers=workers,
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=round(config.drain_timeout),
            timeout_worker_healthcheck=60,
        )
        host, port = sock.getsockname()[:2]
        LOG.info("http://%s:%d with %d workers", host, port, workers)
        supervisor = Multiprocess(settings, [sock])
        supervisor.run()
    failed = [p for p in supervisor.processes if p.exitcode == STARTUP_FAILURE]
    return 1 if failed else 0


def listen(config: ServeConfig) -> socket.socket:
    """Opens the port, which all workers accept from.

    Raises:
        UserError: it is taken, or the address is not this machine's.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        raise UserError(
            f"--host {config.host} --port {config.port}: {error.strerror or error}",
            "--port 0 takes a free one",
        ) from error


def make_worker(config: ServeConfig) -> object:
    """Returns the ASGI application of a worker; called in its process."""
    from ppcls_lite.deploy.serving.app import create_app

    write_json_lines()
    # Pictures above 89 million pixels; --max-megapixels decides, and stderr is for the log.
    warnings.filterwarnings("ignore", module="PIL")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    return create_app(config)


def _end_with_parent() -> None:
    """Drains and ends this worker when its supervisor is gone, however it went."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


class JsonLines(logging.Formatter):
    """One JSON object per line: time, level, message, and the fields of a request."""

    def format(self, record: logging.LogRecord) -> str:
        """Writes a record."""
        row: dict[str, object] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "pid": record.process,
            "message": record.getMessage(),
        }
        row |= getattr(record, "fields", {})
        if record.exc_info:
            row["traceback"] = self.formatException(record.exc_info)
        return json.dumps(row)


def write_json_lines() -> None:
    """Sends the log to stderr; the libraries' only from warnings up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    LOG.setLevel(logging.INFO)
