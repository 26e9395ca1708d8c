"""`benchmark serve`: requests a second and waiting times, ours and another server's in turns."""

import base64
import contextlib
import io
import json
import math
import os
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ppcls_lite.benchmark.builds import OURS, Build, other_builds
from ppcls_lite.benchmark.load import drive, request_bytes
from ppcls_lite.benchmark.peers import HERE, in_all_rounds, percentile
from ppcls_lite.benchmark.settings import BenchmarkConfig
from ppcls_lite.benchmark.weights import weights_of
from ppcls_lite.data.dataset import open_split
from ppcls_lite.deploy.verify import check_images
from ppcls_lite.environment import cpu_cores
from ppcls_lite.errors import UserError
from ppcls_lite.weights.find import Weights

PATH = "/imagenet/prediction"
PORT = "{port}"
MOST_PICTURES = 32
LONGEST_START = 600  # seconds; a busy machine is slow
COLUMNS = ("peer", "clients", "images_per_second", "latency_ms", "failed", "memory_mb", "ours_over",
           "ours_over_range")  # fmt: skip


@dataclass(frozen=True)
class Turn:
    """What one server did in one turn.

    Attributes:
        times: seconds of every answered request.
        memory: of the server's processes at the end, MB; nan where Linux does not tell.
    """

    times: list[float]
    failed: int
    seconds: float
    memory: float

    @property
    def rate(self) -> float:
        """Answered requests a second."""
        return len(self.times) / self.seconds

    def words(self) -> str:
        """Says all but the times."""
        return f"{self.rate:.1f} a second, {self.failed} failed, {self.memory:.0f} MB"


@dataclass(frozen=True)
class Server:
    """How a server is started.

    Attributes:
        command: its words; PORT stands for the port.
        root: the folder it takes `ppcls_lite` from.
        folder: where it is started; None is where the user is.
    """

    command: Sequence[str]
    root: Path = OURS.root
    folder: Path | None = None


def rows(config: BenchmarkConfig, say: Callable[[str], None]) -> tuple[list[Any], dict[str, Any]]:
    """Measures all servers with every number of clients, each with one picture a request.

    The clients are threads of this process and share the cores with the servers. `ours_over` is
    the median over the rounds of our requests a second over the row's in the same round,
    `ours_over_range` the smallest and the largest; `memory_mb` is each server's after the first and
    after the last of them.
    """
    found: list[dict[str, Any]] = []
    others, facts = other_builds(config)
    with tempfile.TemporaryDirectory(prefix="ppcls-bench-") as folder:
        requests = [request_bytes("localhost", PATH, body) for body in bodies(config)]
        with contextlib.ExitStack() as stack:
            listed = commands(config, others, Path(folder), say)
            settle = 3 if workers_of(config) > 1 else 0
            servers = {
                name: stack.enter_context(running(server, requests[0], settle))
                for name, server in reversed(listed.items())  # first what the user wrote
            }
            for clients in config.clients:
                results: dict[str, list[Turn]] = {name: [] for name in listed}
                for turn in range(config.rounds):
                    for name in listed:
                        port, session = servers[name]
                        driven = drive(port, requests, clients, config.seconds)
                        results[name].append(Turn(*driven, memory_mb(session)))
                        say(
                            f"{clients} clients, round {turn + 1} of {config.rounds}, {name}: "
                            + results[name][-1].words()
                        )
                for name, turns in results.items():
                    found.append(row(name, clients, turns))
                    if name != "ours":
                        pairs = zip(results["ours"], turns, strict=True)
                        ratios = [mine.rate / max(its.rate, 1e-9) for mine, its in pairs]
                        found[-1] |= in_all_rounds(ratios)
    return found, facts | {"request": PATH, "seconds": config.seconds, "rounds": config.rounds}


def commands(
    config: BenchmarkConfig, others: Sequence[Build], folder: Path, say: Callable[[str], None]
) -> dict[str, Server]:
    """Has every build export the network; servers that are no build serve our export."""
    weights = weights_of(config, folder)
    workers = str(workers_of(config))
    found = {}
    for number, build in enumerate((OURS, *others)):
        say(f"exporting, {build.name}")
        export = folder / f"export-{number}"
        build.export(weights, export, "--format=onnx")
        served = int8_of(config, weights, folder, say) if config.int8 and build is OURS else export
        words = build.command("serve", str(served), "--port", PORT, "--workers", workers)
        found[build.name] = Server(words, build.root, folder)
    ours = str(folder / "export-0")
    if config.versus_command != "":
        peer = str(HERE / "fastapi_peer.py")
        found["minimal FastAPI"] = Server([sys.executable, peer, ours, PORT, workers])
    if config.versus_command:
        command = config.versus_command.format(folder=shlex.quote(ours), port=PORT)
        found["other"] = Server(shlex.split(command))
    return found


def workers_of(config: BenchmarkConfig) -> int:
    """Returns how many processes each server has."""
    return config.workers[0] or cpu_cores()


def int8_of(
    config: BenchmarkConfig, weights: Weights, folder: Path, say: Callable[[str], None]
) -> Path:
    """Has our `quantize` write OpenVINO's int8 folder by its defaults, and returns it.

    Raises:
        UserError: there are no pictures to calibrate with, or it wrote none.
    """
    if not config.data_path:
        raise UserError("--int8 is calibrated with images of train", "add --data-path my_pictures")
    say("writing the int8 file of openvino, ours")
    out = folder / "int8"
    problem = OURS.quantize(weights, "openvino", config.data_path, out)
    if problem:
        raise UserError(f"no int8 model to serve: {problem}", "leave --int8 out")
    return out


def bodies(config: BenchmarkConfig) -> list[bytes]:
    """Returns the documents' request with one picture each."""
    if config.data_path:
        data = open_split(config.data_path, "val", None)
        count = min(MOST_PICTURES, len(data))
        pictures = [Path(data.path(i * len(data) // count)).read_bytes() for i in range(count)]
    else:
        pictures = []
        for image in check_images():
            file = io.BytesIO()
            image.resize((500, 375)).save(file, "JPEG")  # ImageNet's usual size
            pictures.append(file.getvalue())
    texts = [base64.b64encode(picture).decode() for picture in pictures]
    return [json.dumps({"key": ["image"], "value": [text]}).encode() for text in texts]


@contextlib.contextmanager
def running(server: Server, request: bytes, settle: float) -> Iterator[tuple[int, int]]:
    """Starts a server on a free port, waits until it answers, and ends it.

    Args:
        settle: seconds that its other workers have to start after the first one has answered.

    Yields:
        Its port, and the session that all its processes belong to.

    Raises:
        UserError: it ends, or does not answer in time.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [word.replace(PORT, str(port)) for word in server.command]
    search_path = os.pathsep.join(filter(None, [str(server.root), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            words,
            stdout=log,
            stderr=log,
            cwd=server.folder,
            env=os.environ | {"PYTHONPATH": search_path},
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + LONGEST_START
            while drive(port, [request], 1, 0.05)[0] == []:
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    said = log.read().decode(errors="replace").strip().splitlines()[-2:]
                    raise UserError(
                        f"{shlex.join(words)} does not answer {PATH}:\n" + "\n".join(said),
                        "start this command by itself, and read what it prints",
                    )
                time.sleep(0.2)
            time.sleep(settle)
            yield port, process.pid
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            # Paddle Serving's gateway outlives the process that started it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def memory_mb(session: int) -> float:
    """Returns the memory of a session's processes, pages that they share counted once.

    Not files that they map, such as libraries: their share grows whenever another program that
    maps them ends, which looks like a leak.
    """
    total = 0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended in the meantime
            # the name, in parentheses, may hold anything
            if int((process / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                lines = (process / "smaps_rollup").read_text().splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss_Anon:"))
    return total / 1000 if total else math.nan


def row(peer: str, clients: int, turns: list[Turn]) -> dict[str, Any]:
    """Returns one row: the median rate of the turns, the times of all their requests."""
    ms = [1000 * seconds for turn in turns for seconds in turn.times]
    about = {"peer": peer, "clients": clients}
    failed = sum(turn.failed for turn in turns)
    if not ms:
        return about | {"error": f"all {failed} requests failed"}
    return about | {
        "images_per_second": round(statistics.median(turn.rate for turn in turns), 1),
        "latency_ms": {
            "median": round(percentile(ms, 50), 2),
            "p90": round(percentile(ms, 90), 2),
            "p99": round(percentile(ms, 99), 2),
        },
        "answered": len(ms),
        "failed": failed,
        "memory_mb": [round(turns[0].memory, 1), round(turns[-1].memory, 1)],
    }
