"""A server under everything at once, for as long as you like; not part of `make test`.

    make campaign-serving MINUTES=30
    python tests/faults/campaign_serving.py --minutes 30 --seed 1 --exported inference

32 clients ask without a pause: 24 send photographs, over kept and fresh connections, 4 send bodies
of 15.9 MB, 4 upload a byte a second. Meanwhile networks are replaced and damaged, workers stopped
for a moment and killed, and the server is ended by SIGTERM and started again, all by one seed.
It fails when an answer is wrong, when more answers are lost than killed workers held, when a worker
takes more memory than the server says, or when something is left behind.
"""

import argparse
import collections
import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import yaml

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from conftest import ROOT, no_process_is_left  # noqa: E402
from serving import Server, kill_held, memory  # noqa: E402

from ppcls_lite.deploy.sidecar import read_sidecar  # noqa: E402
from ppcls_lite.serving.settings import ServeConfig  # noqa: E402
from ppcls_lite.serving.upload import scratch_mb  # noqa: E402

CAT = (ROOT / "test_images/chelsea.jpg").read_bytes()
LARGE = CAT + bytes(15_900_000 - len(CAT))
LIMITS = ServeConfig()
# Of a worker, beside what it has when it is ready: requests, a picture, and 100 MB for what the
# networks' second and later runs take and for heaps that are not given back.
BUDGET = LIMITS.request_memory + 1e6 * scratch_mb(LIMITS) + 100e6
MODELS = ("a", "b")


class Campaign:
    """The server, its clients, and what happened to them.

    Attributes:
        counts: answers by kind.
        lost: requests without an answer.
        allowed: connections that killed workers held.
        wrong: answers that cannot be.
        peak: most bytes a worker took beside its networks.
    """

    def __init__(self, folder: Path, exported: Path, seed: int) -> None:
        self.folder, self.exported = folder, exported
        self.draw = random.Random(seed)
        self.counts: collections.Counter[str] = collections.Counter()
        self.lost: list[str] = []
        self.wrong: list[str] = []
        self.allowed, self.peak = 0, 0.0
        self.over = threading.Event()
        self.names = set(read_sidecar(exported).info.classes)
        for name in MODELS:
            shutil.copytree(exported, folder / "models" / name)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.starts = 0
        self.start()

    def start(self) -> None:
        """Starts the server and returns when two workers are ready."""
        self.starts += 1
        log = self.folder / f"log{self.starts}"
        argv = [sys.executable, "tools/serve.py", str(self.folder / "models"), "--workers=2"]
        argv += [f"--port={self.port}", "--reload-seconds=0.5", "--engine=onnxruntime"]
        with log.open("w") as file:
            process = subprocess.Popen(
                argv, cwd=ROOT, stdout=file, stderr=file, start_new_session=True
            )
        self.server = Server(process, log)
        self.server.wait_for('"ready after', 2)
        self.baseline = {pid: memory(pid) for pid in self.server.workers()}

    def client(self, number: int) -> None:
        """One client, until the end; which kind it is follows from its number."""
        kind = (self.photograph, self.large, self.slow)[(number >= 24) + (number >= 28)]
        connection = None
        while not self.over.is_set():
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
                try:
                    connection.connect()
                except OSError:  # the server is being started again: nobody took the request
                    connection = None
                    self.over.wait(0.2)
                    continue
            try:
                answer = kind(connection)
                closed = answer.will_close
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(f"{kind.__name__}: {error!r}")
                closed = True
            if closed or number % 2:
                connection.close()
                connection = None

    def photograph(self, connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
        """Sends a photograph; the answer is a class, or that the worker is full."""
        connection.request("POST", f"/predict?model={random.choice(MODELS)}", CAT)
        return self.judge(connection, "photograph", {200, 429})

    def large(self, connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
        """Sends as much as is allowed."""
        connection.request("POST", "/predict?model=a", LARGE)
        return self.judge(connection, "large", {200, 429, 408, 503})

    def slow(self, connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
        """Sends a byte a second of a megabyte until it is told that this is too slow."""
        head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
        connection.sock.sendall(head)
        connection.sock.settimeout(1)
        for _ in range(120):
            connection.sock.sendall(b"x")
            with contextlib.suppress(TimeoutError):
                if connection.sock.recv(1, socket.MSG_PEEK) is not None:
                    break
        connection.sock.settimeout(120)
        answer = http.client.HTTPResponse(connection.sock, method="POST")
        answer.begin()
        return self.note(answer, "slow", {408})

    def judge(
        self, connection: http.client.HTTPConnection, kind: str, allowed: set[int]
    ) -> http.client.HTTPResponse:
        """Reads the answer of a request that was sent."""
        return self.note(connection.getresponse(), kind, allowed)

    def note(
        self, answer: http.client.HTTPResponse, kind: str, allowed: set[int]
    ) -> http.client.HTTPResponse:
        """Counts an answer, and looks whether it can be."""
        body = answer.read()
        self.counts[f"{kind} {answer.status}"] += 1
        if answer.status not in allowed:
            self.wrong.append(f"{kind} {answer.status}: {body[:200]!r}")
        elif answer.status == 200:
            name = json.loads(body)["results"][0]["topk"][0]["name"]
            if name.removeprefix("new ") not in self.names:
                self.wrong.append(f"{kind}: {name!r}")
        return answer

    def watch(self) -> None:
        """Looks at the workers' memory until the end."""
        while not self.over.wait(0.1):
            for pid in self.server.workers():
                with contextlib.suppress(OSError, ValueError):
                    self.baseline.setdefault(pid, memory(pid))
                    self.peak = max(self.peak, memory(pid) - self.baseline[pid])

    def replace(self) -> None:
        """Puts another folder in a network's place, as a deployment does."""
        name = self.draw.choice(MODELS)
        fresh, place = self.folder / "fresh", self.folder / "models" / name
        shutil.copytree(self.exported, fresh)
        sidecar = fresh / "inference.yml"
        if self.draw.random() < 0.5:
            content = yaml.safe_load(sidecar.read_text())
            content["classes"] = [f"new {name}" for name in content["classes"]]
            sidecar.write_text(yaml.safe_dump(content, sort_keys=False))
        os.rename(place, self.folder / "last")
        os.rename(fresh, place)
        shutil.rmtree(self.folder / "last")

    def damage(self) -> None:
        """Cuts a network's file short; the next replacement mends it."""
        file = self.folder / "models" / self.draw.choice(MODELS) / "inference.onnx"
        file.write_bytes(file.read_bytes()[: self.draw.randrange(1, 50_000)])

    def mend(self) -> None:
        """Makes all folders whole: a server does not start with a damaged one."""
        for name in MODELS:
            shutil.copy(self.exported / "inference.onnx", self.folder / "models" / name)

    def worker(self) -> int | None:
        """One of the workers that live."""
        alive = [pid for pid in self.server.workers() if Path(f"/proc/{pid}").exists()]
        return self.draw.choice(sorted(alive)) if len(alive) > 1 else None

    def kill(self) -> None:
        """Kills a worker; what it held may be lost."""
        self.mend()  # its successor would leave a damaged one out
        pid = self.worker()
        if pid is not None:
            ready = len(self.server.workers())
            self.allowed += kill_held(pid)
            self.server.wait_for('"ready after', ready + 1)

    def pause(self) -> None:
        """Stops a worker for a second, as a busy machine does."""
        pid = self.worker()
        if pid is not None:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(1)
            os.kill(pid, signal.SIGCONT)

    def restart(self) -> None:
        """Ends the server as its operator does, and starts it again."""
        self.mend()
        status = self.server.stop()
        if status or not no_process_is_left(self.server.process.pid):
            self.wrong.append(f"SIGTERM: status {status}, or processes are left")
        self.start()

    def run(self, minutes: float) -> dict:
        """Runs clients and misfortunes, and returns the report."""
        threads = [threading.Thread(target=self.client, args=(n,)) for n in range(32)]
        threads.append(threading.Thread(target=self.watch))
        for thread in threads:
            thread.start()
        done: collections.Counter[str] = collections.Counter()
        acts = [self.replace] * 4 + [self.damage, self.pause, self.kill, self.restart]
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            time.sleep(self.draw.uniform(2, 6))
            act = self.draw.choice(acts)
            act()
            done[act.__name__] += 1
        self.restart()
        self.over.set()
        for thread in threads:
            thread.join()
        status = self.server.stop()
        tracebacks = sum('"traceback"' in f.read_text() for f in self.folder.glob("log*"))
        return {
            "minutes": minutes, "acts": dict(done), "answers": dict(self.counts),
            "lost": len(self.lost), "held by killed workers": self.allowed,
            "kinds of loss": dict(collections.Counter(self.lost)), "wrong": self.wrong[:10],
            "peak MB beside the networks": round(self.peak / 1e6),
            "budget MB": round(BUDGET / 1e6), "logs with tracebacks": tracebacks,
            "passed": not self.wrong and len(self.lost) <= self.allowed and self.peak < BUDGET
            and not status and not tracebacks and no_process_is_left(self.server.process.pid),
        }  # fmt: skip


def main() -> int:
    """Runs a campaign and prints its report as JSON; 1 when it failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--exported", type=Path, help="an export folder; default: a small network")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ppcls-campaign-") as temporary:
        folder = Path(temporary)
        exported = args.exported
        if exported is None:
            from small_checkpoint import checkpoint

            from ppcls_lite.deploy.export import export_model

            exported = folder / "exported"
            export_model(checkpoint(folder), exported)
        report = Campaign(folder, exported, args.seed).run(args.minutes)
    print(json.dumps(report, indent=1))
    return 0 if report["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
