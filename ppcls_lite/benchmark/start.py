"""`benchmark start`: seconds from the shell to the help, and to the first training step."""

import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ppcls_lite.benchmark.builds import INTERPRETER, OURS, Build, other_builds, reason
from ppcls_lite.benchmark.peers import in_all_rounds
from ppcls_lite.benchmark.settings import BenchmarkConfig
from ppcls_lite.errors import UserError

FIRST_STEP = "[Epoch 0, iter: 0]"  # how the log line of it begins
COLUMNS = (
    "peer", "started", "seconds", "bare_starts", "ours_over", "ours_over_range",
)  # fmt: skip


def rows(config: BenchmarkConfig, say: Callable[[str], None]) -> tuple[list[Any], dict[str, Any]]:
    """Starts `train.py --help` and, with images, a training of each build, in turns.

    Returns:
        The rows; `bare_starts` is the time in starts of the interpreter that do nothing.
    """
    others, facts = other_builds(config)
    builds = [OURS, *others]
    what: dict[str, Callable[[Build], float]] = {"nothing": bare, "train --help": show_help}
    if config.data_path:
        data = Path(config.data_path).resolve()
        what["first step"] = lambda build: first_step(build, config, data)
    seconds: dict[tuple[str, Build], list[float]] = {}
    for number in range(config.rounds + 1):
        say(f"round {number} of {config.rounds}" if number else "warming up")
        for name, started in what.items():
            for build in builds:
                taken = started(build)
                if number:
                    seconds.setdefault((name, build), []).append(taken)
    return [row(name, build, seconds) for name in list(what)[1:] for build in builds], facts


def row(name: str, build: Build, seconds: dict[tuple[str, Build], list[float]]) -> dict[str, Any]:
    """Returns what is known of one kind of start of one build."""
    mine, its, nothing = (seconds[key] for key in ((name, OURS), (name, build), ("nothing", build)))
    median = statistics.median(its)
    return {
        "peer": build.name,
        "started": name,
        "seconds": round(median, 3),
        "bare_starts": round(median / statistics.median(nothing), 1),
        **in_all_rounds([other / ours for other, ours in zip(its, mine, strict=True)]),
    }


def bare(build: Build) -> float:
    """Starts the interpreter and nothing else; returns the seconds."""
    return finished(build, [build.python, "-c", "pass"])


def show_help(build: Build) -> float:
    """Prints the help of the training; returns the seconds."""
    return finished(build, [build.python, str(build.root / "train.py"), "--help"])


def finished(build: Build, command: list[str]) -> float:
    """Runs a command to its end; returns the seconds.

    Raises:
        UserError: the command failed.
    """
    begin = time.perf_counter()
    done = subprocess.run(
        command, env=build.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    taken = time.perf_counter() - begin
    if done.returncode != 0:
        raise UserError(f"{build.name} does not start: {reason(done)}", INTERPRETER)
    return taken


def first_step(build: Build, config: BenchmarkConfig, data: Path) -> float:
    """Trains until the first step is logged; returns the seconds.

    Raises:
        UserError: the program ended before.
    """
    # The program chooses its threads itself.
    variables = build.environment() | {"PYTHONUNBUFFERED": "1"}
    del variables["OMP_NUM_THREADS"]
    with tempfile.TemporaryDirectory(prefix="ppcls-bench-") as folder:
        command = [
            build.python, str(build.root / "train.py"), f"--data-path={data}", "--epochs=1",
            f"--model={config.model}", f"--batch-size={config.batch_size[0]}", "--device=cpu",
            f"--train-crop-size={config.size[0]}", f"--workers={config.workers[0]}",
            "--print-freq=1", f"--output-dir={folder}",
        ]  # fmt: skip
        begin = time.perf_counter()
        with subprocess.Popen(
            command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            said = ""
            for said in process.stdout or ():
                if said.startswith(FIRST_STEP):
                    taken = time.perf_counter() - begin
                    process.send_signal(signal.SIGKILL)
                    return taken
    raise UserError(f"{build.name} ended before its first step: {said.strip()}", INTERPRETER)
