"""Processes that are measured in turns, so that a change of the machine's speed meets them all.

Each peer is a process of its own that is started once, warmed up, and then waits without using the
CPU while the others are at work.
"""

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from ppcls_lite.environment import SPINS

HERE = Path(__file__).parent
LONGEST_START = 900  # seconds; torch.compile takes minutes on a slow machine


@dataclass(frozen=True)
class Peer:
    """One competitor.

    Attributes:
        name: what the row of the table is called.
        script: what does the work: a file beside this one, or an absolute path.
        request: what it is told, as JSON; `kind` names the work.
        python: the interpreter.
        threads: per process.
        processes: how many, started by `launcher`.
        launcher: module that starts several processes.
        root: the folder it takes `ppcls_lite` from.
    """

    name: str
    script: str
    request: dict[str, Any]
    python: str = sys.executable
    threads: int = 1
    processes: int = 1
    launcher: Sequence[str] = ()
    root: Path = HERE.parents[1]

    def command(self, request: dict[str, Any]) -> list[str]:
        """Returns the command line of its process, or of their launcher."""
        launcher = self.launcher if self.processes > 1 else ()
        script = str(HERE / self.script)
        return [interpreter(self.python), *launcher, script, json.dumps(request)]

    def environment(self) -> dict[str, str]:
        """Returns the variables of its processes; threads have to be known before any import."""
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        search_path = os.pathsep.join(filter(None, [str(self.root), os.environ.get("PYTHONPATH")]))
        threads = dict.fromkeys(names, str(self.threads))
        # Above 0 MKL's idle threads would spin while other peers are measured.
        variables = os.environ | {"KMP_BLOCKTIME": "0", "PYTHONPATH": search_path} | threads
        # What load_paddle has chosen for our kernels is not for torch's threads; what the user has
        # chosen is for all.
        if variables.get("GOMP_SPINCOUNT") == SPINS:
            del variables["GOMP_SPINCOUNT"]
        # It keeps the threads this process was started with, which are not the peer's.
        variables.pop("PPCLS_LITE_KERNEL_THREADS", None)
        return variables


def interpreter(path: str) -> str:
    """Returns what starts the interpreter from any folder: a name alone is searched for.

    A link stays one, because an environment is known by it.
    """
    path = os.path.expanduser(path)
    return os.path.abspath(path) if os.path.dirname(path) else path


class PeerFailed(Exception):
    """A peer cannot take part; the text says why."""


@dataclass
class Measured:
    """What is known of one peer.

    Attributes:
        seconds: of every timed step.
        rounds: seconds of the median step of each turn.
        value: what the last step returned, such as the loss.
        peak_mib: the highest memory of one process, MiB.
        error: why there is nothing, or no more; empty if all went well.
    """

    peer: Peer
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    rounds: list[float] = field(default_factory=list)
    value: float = 0.0
    peak_mib: float = 0.0
    error: str = ""

    def row(self) -> dict[str, Any]:
        """Returns the figures that every benchmark has."""
        if self.error:
            return {"peer": self.peer.name, "error": self.error}
        ms = [1000 * s for s in self.seconds]
        images = self.facts["images"] * self.peer.processes
        return {
            "peer": self.peer.name,
            "images_per_second": round(images / statistics.median(self.seconds), 2),
            "ms_per_step": {
                "median": round(statistics.median(ms), 3),
                "p90": round(percentile(ms, 90), 3),
                "p99": round(percentile(ms, 99), 3),
            },
            "steps": len(ms),
            "threads": self.peer.threads,
            "processes": self.peer.processes,
            "peak_mib": round(self.peak_mib),
            "value": self.value,
            **{key: fact for key, fact in self.facts.items() if key != "images"},
        }


def percentile(values: list[float], percent: int) -> float:
    """Returns the smallest value that `percent` of all do not exceed."""
    return sorted(values)[-(-len(values) * percent // 100) - 1]


def ours_over(ours: Measured, other: Measured) -> dict[str, Any]:
    """Returns how much faster ours is at the same work; nothing when either failed.

    `ours_over` is the median over the rounds, each with what both did in it; `ours_over_range` are
    the smallest and the largest: when 1 lies between them, the difference is noise.
    """
    if ours.error or other.error:
        return {}
    ratios = [its / mine for mine, its in zip(ours.rounds, other.rounds, strict=True)]
    return in_all_rounds(ratios)


def in_all_rounds(ratios: Sequence[float]) -> dict[str, Any]:
    """Returns the median and the range of one ratio a round."""
    return {
        "ours_over": round(statistics.median(ratios), 3),
        "ours_over_range": {"lowest": round(min(ratios), 3), "highest": round(max(ratios), 3)},
    }


class Process:
    """A running peer.

    Raises:
        PeerFailed: it ended, or did not answer in time, before it was ready.
    """

    def __init__(self, peer: Peer) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="ppcls-bench-")
        self._log = Path(self._folder.name) / "output"
        self._file: TextIO | None = None
        path = str(Path(self._folder.name) / "socket")
        with socket.socket(socket.AF_UNIX) as listener, self._log.open("w") as log:
            listener.bind(path)
            listener.listen(1)
            listener.settimeout(0.1)
            try:
                self._process = subprocess.Popen(
                    peer.command(peer.request | {"socket": path}),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=peer.environment(),
                    cwd=self._folder.name,  # launchers write their logs there
                )
            except OSError as error:
                self._folder.cleanup()
                raise PeerFailed(f"{peer.python}: {error.strerror}") from None
            try:
                self._file = self._accept(listener)
                self.facts = self._answer()
            except BaseException:
                self.close()
                raise

    def _accept(self, listener: socket.socket) -> TextIO:
        begin = time.monotonic()
        while self._process.poll() is None:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                if time.monotonic() - begin > LONGEST_START:
                    raise PeerFailed(f"was not ready after {LONGEST_START} s") from None
                continue
            with connection:
                return connection.makefile("rw", encoding="utf-8")
        raise PeerFailed(self._last_words())

    def run(self, steps: int) -> dict[str, Any]:
        """Has it take some steps and returns its report.

        Raises:
            PeerFailed: it ended instead.
        """
        if self._file:
            with contextlib.suppress(BrokenPipeError):
                self._file.write(f"{steps}\n")
                self._file.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        try:
            line = self._file.readline() if self._file else ""
        except ConnectionResetError:
            line = ""
        if not line:
            self._process.wait()
            raise PeerFailed(self._last_words())
        return json.loads(line)

    def _last_words(self) -> str:
        """The last line it printed, as a reason; a launcher's workers have logs of their own."""
        logs = sorted(Path(self._folder.name).glob("log/workerlog.*")) or [self._log]
        texts = [log.read_text(errors="replace").strip().splitlines() for log in logs]
        last = next((lines[-1].strip() for lines in texts if lines), "")
        return last or f"ended with status {self._process.returncode}"

    def close(self) -> None:
        """Ends it: it leaves when its socket closes."""
        if self._file:
            with contextlib.suppress(OSError):
                self._file.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=10)
        if self._process.poll() is None:
            self._process.terminate()  # a launcher ends its workers with itself
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._folder.cleanup()


def measure(
    peers: Sequence[Peer],
    rounds: int,
    steps: int,
    say: Callable[[str], None],
    problems: Mapping[str, str] | None = None,
) -> list[Measured]:
    """Lets the peers take `steps` steps each, in turns, `rounds` times.

    A peer that fails is a result with a reason, and the others go on.

    Args:
        peers: the competitors.
        rounds: turns that each gets.
        steps: of one turn.
        say: tells what is going on.
        problems: by name of a peer, why it is not to be started.
    """
    results = [Measured(peer, error=(problems or {}).get(peer.name, "")) for peer in peers]
    with contextlib.ExitStack() as stack:
        running: list[tuple[Measured, Process]] = []
        for result in results:
            if result.error:
                continue
            say(f"starting {result.peer.name}")
            try:
                process = Process(result.peer)
            except PeerFailed as reason:
                result.error = str(reason)
                continue
            stack.callback(process.close)
            result.facts = process.facts
            running.append((result, process))
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            for result, process in running:
                if not result.error:
                    take(result, process, steps)
    return results


def take(result: Measured, process: Process, steps: int) -> None:
    """Adds one turn of a peer to what is known of it."""
    try:
        report = process.run(steps)
    except PeerFailed as reason:
        result.error = str(reason)
        return
    result.seconds += report["seconds"]
    result.rounds.append(statistics.median(report["seconds"]))
    result.value = report["value"]
    result.peak_mib = report["peak_mib"]
