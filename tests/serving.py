"""A server in processes of its own, for the tests."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import requests
from conftest import ROOT, no_process_is_left


class Server:
    """A running `tools/serve.py`: its address, process and log."""

    def __init__(self, process: subprocess.Popen, log: Path) -> None:
        self.process = process
        self.log = log
        self.url = ""

    def lines(self) -> list[dict]:
        """The log so far; every line is JSON."""
        return [json.loads(line) for line in self.whole_lines()]

    def whole_lines(self) -> list[str]:
        """The log so far without its last line where that is only half-written."""
        return self.log.read_text().rpartition("\n")[0].splitlines()

    def wait_for(self, text: str, count: int = 1) -> dict:
        """Waits for the line of the log that holds `text` for the n-th time."""
        for _ in range(600):
            found = [line for line in self.whole_lines() if text in line]
            if len(found) >= count:
                return json.loads(found[count - 1])
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise AssertionError(f"never logged: {text}\n{self.log.read_text()}")

    def workers(self) -> set[int]:
        """Process ids of the workers that became ready."""
        return {line["pid"] for line in self.lines() if line["message"].startswith("ready")}

    def get(self, path: str, **options: object) -> requests.Response:
        return requests.get(self.url + path, timeout=60, **options)

    def post(self, path: str, data: object = None, **options: object) -> requests.Response:
        return requests.post(self.url + path, data, timeout=60, **options)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ends the server and returns its exit status."""
        self.process.send_signal(number)
        return self.process.wait(60)


@contextlib.contextmanager
def serving(folder: Path, log: Path, *flags: str, workers: int = 1) -> Iterator[Server]:
    """Serves a folder; at the end no process may be left."""
    argv = [sys.executable, "tools/serve.py", str(folder), "--port=0", f"--workers={workers}"]
    with log.open("w") as file:
        process = subprocess.Popen(
            [*argv, *flags], cwd=ROOT, stdout=file, stderr=file, start_new_session=True
        )
    server = Server(process, log)
    try:
        server.url = server.wait_for("http://")["message"].split()[0]
        server.wait_for('"ready after', workers)
        yield server
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(40)
        left = not no_process_is_left(process.pid)
        if left:
            os.killpg(process.pid, signal.SIGKILL)
    assert not left, "processes were left behind"


def memory(pid: int, name: str = "VmRSS") -> int:
    """Bytes of a process: VmRSS is what it has, VmHWM the most it ever had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(name + ":"))
    return 1024 * int(line.split()[1])


def established(pid: int) -> int:
    """How many TCP connections a process holds."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {row[9] for row in rows if row[3] == "01"}
    held = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            held += os.readlink(link).removeprefix("socket:[").removesuffix("]") in inodes
    return held


def kill_held(pid: int) -> int:
    """Kills a worker; returns how many connections it held, stopped, at that moment."""
    os.kill(pid, signal.SIGSTOP)
    while "T" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]:
        time.sleep(0.01)
    held = established(pid)
    os.kill(pid, signal.SIGKILL)
    return held
