"""Machines that train together, made of network namespaces where that may be, for faults."""

import contextlib
import hashlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from conftest import ROOT, TINY_FLAGS

NUMBERS = itertools.count()


def can_make_networks():
    """Tells whether this user may make network namespaces."""
    name = f"probe{os.getpid()}"
    try:
        made = subprocess.run(["ip", "netns", "add", name], capture_output=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return False
    if made.returncode == 0:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True)
    return made.returncode == 0


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextlib.contextmanager
def network(count=2):
    """Namespaces with one address each, joined by a bridge; yields their names and addresses."""
    mark, names = f"{os.getpid() % 10000}x{next(NUMBERS)}", []
    bridge = f"b{mark}"
    try:
        ip("link", "add", bridge, "type", "bridge")
        ip("link", "set", bridge, "up")
        for i in range(count):
            name, outside = f"n{mark}x{i}", f"v{mark}x{i}"
            ip("netns", "add", name)
            names.append(name)
            ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", outside, "master", bridge, "up")
            ip("-n", name, "addr", "add", f"10.99.0.{i + 1}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield [(name, f"10.99.0.{i + 1}") for i, name in enumerate(names)]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)
        subprocess.run(["ip", "link", "delete", bridge], capture_output=True)


class Machine:
    """One launch.py, in a namespace of its own or in none.

    Args:
        folder: of its output: console and log/.
        launch: its flags.
        train: the flags of train.py.
        namespace: where it runs; "" is this one.
    """

    def __init__(self, folder, launch, train, namespace=""):
        self.folder, self.namespace = Path(folder), namespace
        self.folder.mkdir(parents=True, exist_ok=True)
        inside = ["ip", "netns", "exec", namespace] if namespace else []
        self.command = [
            *inside, sys.executable, str(ROOT / "tools/launch.py"), f"--log-dir={self.log_dir}",
            *launch, str(ROOT / "train.py"), *TINY_FLAGS, *train,
        ]  # fmt: skip
        self.start()

    @property
    def log_dir(self):
        return self.folder / "log"

    def start(self):
        """Starts it, again if need be."""
        environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
        with (self.folder / "console").open("a") as console:
            self.process = subprocess.Popen(
                self.command, stdout=console, stderr=subprocess.STDOUT, start_new_session=True,
                env=environment | {"SOME_TOKEN": "s3cr3t", "PADDLE_API_KEY": "s3cr3t"},
            )  # fmt: skip

    def said(self):
        """What its console shows."""
        return (self.folder / "console").read_text(errors="replace")

    def logs(self):
        """What its processes printed."""
        return "".join(p.read_text() for p in sorted(self.log_dir.glob("workerlog.*")))

    def until(self, text, seconds=300, of="logs"):
        """Waits until a process, or its console, shows a text; fails when all end before."""
        deadline = time.monotonic() + seconds
        while text not in getattr(self, of)():
            assert self.process.poll() is None, self.said() + self.logs()
            assert time.monotonic() < deadline, self.said() + self.logs()
            time.sleep(0.05)

    def ranks(self):
        """Its training processes, {rank: pid}."""
        found = {}
        for pid in family(self.process.pid):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                is_train = str(ROOT / "train.py").encode() in words[1:3]
                own = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                ids = [v[18:] for v in own if v.startswith(b"PADDLE_TRAINER_ID=")]
                if is_train and ids:
                    found.setdefault(int(ids[0]), pid)
        return found

    def launcher(self):
        """The process of Paddle's launcher; None where there is none now."""
        for pid in family(self.process.pid):
            with contextlib.suppress(OSError):
                if b"ppcls_lite.launch" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
        return None

    def wait(self, seconds=300):
        """Waits for its end; returns its exit status."""
        return self.process.wait(timeout=seconds)

    def end(self):
        """Ends it and whatever it started, at once."""
        pids = [self.process.pid, *family(self.process.pid)]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def family(of):
    """The processes that a process started, and theirs."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
    found = [of]
    for parent in found:
        found += [pid for pid, ppid in pairs if ppid == parent]
    return found[1:]


def alive(marked):
    """Processes, no zombies, whose command line has a word in it."""
    listed = subprocess.run(["ps", "-eo", "pid=,stat=,args="], capture_output=True, text=True)
    lines = [line.split(None, 2) for line in listed.stdout.splitlines()]
    return [line for line in lines if len(line) > 2 and marked in line[2] and line[1][0] != "Z"]


def nobody_left(marked, seconds=60):
    """Waits until no process has a word in its command line; returns those that have."""
    deadline = time.monotonic() + seconds
    while (left := alive(marked)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def bits(run_folder):
    """A digest of the weights and the optimizer state that a training has reached."""
    parts = [(Path(run_folder) / f"latest{end}").read_bytes() for end in (".pdparams", ".pdopt")]
    return [hashlib.sha256(part).hexdigest() for part in parts]
