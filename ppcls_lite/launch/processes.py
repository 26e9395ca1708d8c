"""The processes of one machine: Paddle's launcher, what it starts, and what is left of them."""

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ppcls_lite.program import CHECKOUT

# What of the environment training may read. Paddle's launcher writes it all into its log folder.
HANDED_ON = re.compile(
    r"(PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|TZ|TERM|TMPDIR|HOSTNAME|VIRTUAL_ENV|CC|CXX"
    r"|PORT_RANGE|(LC|LD|XDG|PYTHON|CONDA|OMP|GOMP|KMP|MKL|OPENBLAS|MALLOC|GLOG|FLAGS|GLOO|NCCL"
    r"|CUDA|NVIDIA|UCX|PADDLE|PPCLS_LITE)(_?[A-Z0-9_]+)?|FLAGS_\w+)"
)
SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|(^|_)(AUTH|API|KEY|COOKIE)(_|$)")
GRACE = 45  # seconds to save and end in; Paddle's launcher gives its processes 30
MESSAGE = re.compile(r"^(?:train|validate)\.py: (.*(?:\n  .*)*)", re.MULTILINE)
ERROR = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception): .*", re.MULTILINE)


def handed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the variables that training may read, none whose name speaks of a secret."""
    return {
        name: value
        for name, value in environment.items()
        if HANDED_ON.fullmatch(name) and not SECRET.search(name)
    }


def private_folder(path: Path) -> Path:
    """Makes a folder that only this user can enter, or makes it one."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def adopt_orphans() -> None:
    """Makes this process the parent of descendants whose own parent dies, so that none is lost."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(36, 1)  # PR_SET_CHILD_SUBREAPER


def descendants(of: int) -> list[int]:
    """Returns the processes that a process started, and theirs."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            # The name in brackets may hold anything.
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
    found = [of]
    for parent in found:
        found += [pid for pid, own in parents.items() if own == parent]
    return found[1:]


class Processes:
    """One start of Paddle's launcher and its processes.

    Args:
        arguments: of the launcher.
        log_dir: where its processes' output lies.
        environment: more variables for them.
    """

    def __init__(
        self, arguments: Sequence[str], log_dir: Path, environment: Mapping[str, str]
    ) -> None:
        self._logs = log_dir
        self._before = {path: path.stat().st_size for path in log_dir.glob("workerlog.*")}
        handed = handed_on(os.environ) | dict(environment)
        packages = [str(CHECKOUT), *filter(None, [handed.get("PYTHONPATH")])]
        handed["PYTHONPATH"] = os.pathsep.join(packages)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ppcls_lite.launch", *arguments],
            env=handed,
            start_new_session=True,  # a terminal's Ctrl-C comes to them through this process only
        )
        self._asked = 0.0

    def ended(self) -> int | None:
        """Returns the exit status, as a shell has it, or None while they run."""
        if self._asked and time.monotonic() - self._asked > GRACE:
            self.kill()
        status = self._process.poll()
        if status is None or 0 <= status < 192:
            return status
        # Of a process that a signal ended Paddle's launcher returns minus its number, modulo 256.
        return 128 - (status if status < 0 else status - 256)

    def stop(self) -> None:
        """Asks all of them to save and end."""
        if not self._asked:
            self._asked = time.monotonic()
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()

    def kill(self) -> None:
        """Ends what is left of them."""
        for pid in descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass

    def reason(self) -> str:
        """Returns why they ended, from their own last words."""
        said: dict[str, str] = {}
        for path in sorted(self._logs.glob("workerlog.*")):
            with path.open(errors="replace") as log:
                log.seek(self._before.get(path, 0))
                text = log.read()
            words = MESSAGE.findall(text)[-1:] or ERROR.findall(text)[-1:]
            if words:
                said[words[0]] = path.name
        # Who lost another rank repeats what that one said: the short words are the own ones.
        own = {words: name for words, name in said.items() if not words.startswith("rank ")}
        chosen = own or said
        return "\n".join(f"{words}\n  (of {self._logs / n})" for words, n in chosen.items())
