"""One step of a chain: a command, a check of what it printed, a log, a result; and their runner."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

PASSED, FAILED, SKIPPED, NOT_RUN = "passed", "FAILED", "SKIPPED", "not run"
TIMEOUT = 3600.0  # seconds; nothing here takes so long, so it hangs


class StepFailed(Exception):
    """A step did not do what it is there for; the text says what was expected and what came."""


class StepSkipped(Exception):
    """A step, and with it the chain, cannot run here; the text says what is missing."""


@dataclass(frozen=True)
class Step:
    """What is done, and what must come out.

    Attributes:
        name: unique in its chain.
        command: words divided by spaces, run without a shell; empty runs the check alone.
        log: file for what the command prints.
        check: gets that text; raises StepFailed or StepSkipped; returns a remark for the summary.
        optional: when the command fails, something is missing on this machine: skipped.
        server: the command goes on running until the chain ends; `check` waits for it.
        cwd: the folder that the command runs in.
    """

    name: str
    command: str
    log: Path
    check: Callable[[str], str] = lambda text: ""
    optional: bool = False
    server: bool = False
    cwd: Path = Path()


@dataclass(frozen=True)
class Result:
    """What became of a step."""

    name: str
    command: str
    result: str
    seconds: float = 0.0
    remark: str = ""


@dataclass(frozen=True)
class Chain:
    """Steps in their order.

    Attributes:
        name: of the chain, like train_inference.
        results: the file for upstream's result lines, written afresh.
    """

    name: str
    model: str
    mode: str
    steps: Sequence[Step]
    results: Path


@dataclass(frozen=True)
class Outcome:
    """A chain and what became of its steps."""

    chain: Chain
    results: Sequence[Result]

    @property
    def result(self) -> str:
        """The chain's result: passed only when every step has."""
        states = [each.result for each in self.results]
        return next((s for s in (FAILED, SKIPPED, NOT_RUN) if s in states), PASSED)

    @property
    def seconds(self) -> float:
        """Seconds of all steps."""
        return sum(each.seconds for each in self.results)


def run_chain(chain: Chain) -> Outcome:
    """Runs the steps until one fails; a server that was started is ended, whatever happens."""
    chain.results.parent.mkdir(parents=True, exist_ok=True)
    chain.results.write_text("")
    done: list[Result] = []
    with ExitStack() as stack:
        for step in chain.steps:
            stopped = any(each.result != PASSED for each in done)
            result = Result(step.name, step.command, NOT_RUN) if stopped else _run(step, stack)
            done.append(result)
            if not stopped:
                print(f"  {result.result:<8}{result.seconds:7.1f} s  {step.name}  {result.remark}",
                      flush=True)  # fmt: skip
            _write_result(chain, result)
    return Outcome(chain, done)


def _run(step: Step, stack: ExitStack) -> Result:
    begin = time.monotonic()
    step.log.parent.mkdir(parents=True, exist_ok=True)
    try:
        remark = step.check(_output(step, stack))
        result = PASSED
    except StepFailed as error:
        result, remark = FAILED, f"{error}; log: {step.log}"
    except StepSkipped as error:
        result, remark = SKIPPED, str(error)
    except OSError as error:
        result, remark = FAILED, str(error)
    return Result(step.name, step.command, result, time.monotonic() - begin, remark)


def _output(step: Step, stack: ExitStack) -> str:
    """Runs the command of a step and returns what it printed."""
    if not step.command:
        return ""
    # `python3` of a configuration is the interpreter that runs the chain.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    words = shlex.split(step.command)
    with step.log.open("w") as log:
        try:
            process = subprocess.Popen(
                words, cwd=step.cwd, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                env=os.environ | {"PATH": path}, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise StepFailed(f"{words[0]}: {error.strerror}") from None
    if step.server:
        stack.callback(end, process)
        return ""
    try:
        status = process.wait(TIMEOUT)
    except subprocess.TimeoutExpired:
        raise StepFailed(f"still running after {TIMEOUT:.0f} s, ended") from None
    finally:
        end(process)
    text = step.log.read_text(errors="replace")
    if status:
        last = (text.strip().splitlines() or ["it printed nothing"])[-1]
        kind = StepSkipped if step.optional else StepFailed
        raise kind(f"exit status {status}: {last}")
    return text


def end(process: subprocess.Popen) -> None:
    """Ends a process that was started here, and its children: they are a session of their own."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            print(f"  process {process.pid} ignored SIGTERM and was killed", flush=True)
    with contextlib.suppress(ProcessLookupError):  # nobody was left behind
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _write_result(chain: Chain, result: Result) -> None:
    """Adds upstream's line; for a step that was not run, one that no reader counts as success."""
    words = {PASSED: "Run successfully", FAILED: "Run failed"}
    verdict = words.get(result.result, f"Run {result.result.lower()}")
    command = result.command or result.name
    with chain.results.open("a", encoding="utf-8") as file:
        line = f" {verdict} with command - {chain.model} - {command}!  "
        file.write(f"\x1b[33m{line}\x1b[0m\n")
