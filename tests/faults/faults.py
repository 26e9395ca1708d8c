"""What the tests of faults share: a run's decode workers, and states to wait for."""

import json
import os
import time
from pathlib import Path

import pytest


def decode_workers(process):
    """The pids of the processes that decode for a training."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if fields[0] != "Z" and int(fields[1]) == process.pid and b"spawn_main" in line:
                found.append(int(entry.name))
    return found


def until(state, process=None, seconds=120):
    """Waits until `state()` is true, and returns it; the process must live till then."""
    end = time.monotonic() + seconds
    while not (found := state()):
        assert time.monotonic() < end and (process is None or process.poll() is None)
        time.sleep(0.02)
    return found


def progress_of(checkpoint):
    """Where the run of a checkpoint stood."""
    return json.loads(checkpoint.with_suffix(".json").read_text())["progress"]


def check_goes_on(text, run_tool):
    """Runs the command that a stopped training printed; it ends well."""
    command = text.split("next: python ")[1].split("\n")[0].split()
    done = run_tool(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def needs_namespaces():
    """Skips where a process cannot have mounts of its own."""
    if os.system("unshare -rm true 2>/dev/null"):
        pytest.skip("no mount namespaces here")
