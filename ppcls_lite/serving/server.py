"""Starts the worker processes, replaces those that die, and ends them all."""

import errno
import importlib
import json
import logging
import multiprocessing
import os
import signal
import socket
import sys
import time
import types
import warnings
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from ppcls_lite.deploy.hooks import load_hooks
from ppcls_lite.environment import cpu_cores
from ppcls_lite.errors import UserError
from ppcls_lite.files import temporary_folder
from ppcls_lite.program import install_hint
from ppcls_lite.serving.port import end_with_parent, refuse_newcomers, wait_until_accepted
from ppcls_lite.serving.settings import ServeConfig

LOG = logging.getLogger("ppcls_lite.serving")
SPAWN = multiprocessing.get_context("spawn")  # engines and their threads do not survive a fork
STARTUP_FAILURE = 3  # uvicorn's exit status when an application does not start


def serve(config: ServeConfig) -> int:
    """Serves until SIGTERM or SIGINT, then lets requests under way end.

    Returns:
        1 when the workers could not start, else 0.

    Raises:
        UserError: something given cannot work.
    """
    try:
        from ppcls_lite.deploy.sidecar import read_sidecar
        from ppcls_lite.serving import gallery, service, store, upload

        # What only the workers import.
        for module in (
            "uvicorn",
            "fastapi",
            "multipart",
            *(["grpc_tools"] * bool(config.grpc_port)),
        ):
            importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"serving needs packages that are not installed: {error}",
            install_hint("serving"),
        ) from error
    service.read_key(config.api_key_file)
    upload.check_limits(config)
    if config.hooks is not None:
        load_hooks(config.hooks)  # the workers load their own; a mistake shows here
    folders = store.find_folders(Path(config.exported)).values()
    if config.gallery is not None:
        gallery.check_gallery(config.gallery, config.exported, [read_sidecar(x) for x in folders])
    if config.grpc_port is not None:
        listen(config.host, config.grpc_port, "grpc-port").close()  # is it free?
    workers = config.workers or cpu_cores()
    write_json_lines()
    with (
        temporary_folder("ppcls-metrics-") as shared,
        listen(config.host, config.port, "port") as port,
    ):
        # Read by prometheus_client, and by cpu_cores(): the workers share the cores.
        os.environ |= {"PROMETHEUS_MULTIPROC_DIR": shared, "PADDLE_LOCAL_SIZE": str(workers)}
        # Large blocks go back to the system when they are freed; glibc, left to itself, keeps them
        # once it has seen one of up to 32 MB. A run's arrays (four images of 224 pixels: 2.4 MB)
        # stay: to ask the system for them at every request takes a tenth of its time. With one
        # threshold set, the other would be 128 kB. The workers read both when they start.
        os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**22))
        os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**24))
        LOG.info(
            "http://%s:%d with %d workers; each holds at most %.0f MB for requests, and about %.0f"
            " MB for the one image or tensor that it unpacks",
            *port.getsockname()[:2], workers, config.request_memory / 1e6,
            upload.scratch_mb(config),
        )  # fmt: skip
        return Supervisor(config, port, workers).run()


class Supervisor:
    """Keeps a number of worker processes, which all accept from one port.

    Args:
        config: of the server.
        port: listening.
        workers: how many.
    """

    def __init__(self, config: ServeConfig, port: socket.socket, workers: int) -> None:
        self._config = config
        self._port = port
        self._stopping = False
        self._workers = [self._start() for _ in range(workers)]
        self._first = set(self._workers)

    def _start(self, successor: bool = False) -> BaseProcess:
        given = (self._config, self._port, os.getpid(), successor)
        worker = SPAWN.Process(target=work, args=given, name="worker")
        worker.start()
        return worker

    def run(self) -> int:
        """Replaces workers that die, until a signal comes; then ends them all.

        Returns:
            1 when a worker could not even start, else 0.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        status = 0
        while not self._stopping:
            connection.wait([worker.sentinel for worker in self._workers], timeout=0.2)
            for slot, worker in enumerate(self._workers):
                if worker.is_alive() or self._stopping:
                    continue
                if worker in self._first and worker.exitcode == STARTUP_FAILURE:
                    status, self._stopping = 1, True
                    break
                LOG.error("worker %s ended with %s; starting another", worker.pid, worker.exitcode)
                time.sleep(0.2)  # one that always fails must not take the machine's whole time
                self._workers[slot] = self._start(successor=True)
        self._end()
        return status

    def _stop(self, number: int, frame: types.FrameType | None) -> None:
        self._stopping = True

    def _end(self) -> None:
        refuse_newcomers(self._port)
        wait_until_accepted(self._port)
        # Closed here and by every worker, it refuses clients; open, it would keep them waiting for
        # an answer that never comes.
        self._port.close()
        for worker in self._workers:
            worker.terminate()
        deadline = time.monotonic() + self._config.drain_timeout + 5
        for worker in self._workers:
            worker.join(max(0, deadline - time.monotonic()))
            if worker.is_alive():
                LOG.error("worker %s did not end; it is killed", worker.pid)
                worker.kill()
                worker.join()


def listen(host: str, port: int, flag: str) -> socket.socket:
    """Opens a port.

    Raises:
        UserError: it is taken, or the address is not this machine's.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        here = not isinstance(error, socket.gaierror) and error.errno != errno.EADDRNOTAVAIL
        other = port + 1 if 1024 <= port < 65535 else 18090  # those below are root's
        raise UserError(
            f"--host {host} --{flag} {port}: {error.strerror or error}",
            f"--{flag} {other}  # or end the program that listens there; ss -ltnp names it"
            if here
            else "--host 0.0.0.0  # all addresses of this machine; hostname -I lists them",
        ) from error


def work(config: ServeConfig, port: socket.socket, parent: int, successor: bool) -> None:
    """Is a worker process: ends after SIGTERM, when its requests are answered.

    Args:
        config: of the server.
        port: listening.
        parent: process id of the supervisor.
        successor: of a worker that died.
    """
    end_with_parent(parent)
    import uvicorn

    from ppcls_lite.serving.app import create_app
    from ppcls_lite.serving.drain import DrainingServer

    write_json_lines()
    # Of pictures above 89 million pixels: --max-megapixels decides, and stderr is for the log.
    warnings.filterwarnings("ignore", module="PIL")
    app = create_app(config, successor=successor)
    settings = uvicorn.Config(
        app,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=round(config.drain_timeout),
    )
    DrainingServer(settings, app).run(sockets=[port])


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
