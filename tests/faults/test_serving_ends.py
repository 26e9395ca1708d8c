"""Servers that are stopped or killed under load: who loses an answer, and what stays behind."""

import concurrent.futures
import http.client
import os
import signal
import tempfile
import threading

import pytest
import requests
from conftest import ROOT, no_process_is_left
from serving import kill_held, serving

for _name in ("fastapi", "uvicorn", "prometheus_client"):
    pytest.importorskip(_name)

CAT = (ROOT / "test_images/chelsea.jpg").read_bytes()


class Clients:
    """Clients that ask again and again; each stops when nobody listens any more."""

    def __init__(self, server, count, keep_alive):
        self.answered, self.lost, self.closed = [0] * count, [], []
        self.over = threading.Event()
        self.pool = concurrent.futures.ThreadPoolExecutor(count)
        self.server, self.keep_alive = server, keep_alive
        self.tasks = [self.pool.submit(self._ask, number) for number in range(count)]

    def _ask(self, number):
        address = self.server.url.removeprefix("http://")
        connection = None
        while not self.over.is_set():
            if connection is None:
                connection = http.client.HTTPConnection(address, timeout=60)
                try:
                    connection.connect()
                except ConnectionRefusedError:
                    return
            try:
                connection.request("POST", "/predict", CAT)
                answer = connection.getresponse()
                body = answer.read()
                assert answer.status == 200, body
            except (OSError, http.client.HTTPException) as error:
                self.lost.append((number, repr(error)))
                connection = None
                continue
            self.answered[number] += 1
            if answer.will_close:
                self.closed.append(number)
            if answer.will_close or not self.keep_alive:
                connection.close()
                connection = None

    def wait_until_all_ask(self):
        while min(self.answered) < 3:
            for task in self.tasks:
                if task.done():
                    task.result()

    def end(self):
        self.over.set()
        self.pool.shutdown()
        for task in self.tasks:
            task.result()


@pytest.mark.parametrize("keep_alive", [False, True], ids=["fresh", "keep-alive"])
def test_sigterm_under_load_costs_no_client_its_answer(exported, tmp_path, keep_alive):
    with serving(exported, tmp_path / "log", workers=2) as server:
        clients = Clients(server, 32, keep_alive)
        clients.wait_until_all_ask()
        assert server.stop() == 0
        clients.end()
        assert clients.lost == []
        if keep_alive:  # every client was told that its connection ends
            assert set(clients.closed) == set(range(32))


def test_a_killed_worker_costs_at_most_the_requests_it_held(exported, tmp_path):
    with serving(exported, tmp_path / "log", workers=2) as server:
        clients = Clients(server, 32, keep_alive=True)
        clients.wait_until_all_ask()
        held = kill_held(min(server.workers()))
        server.wait_for('"ready after', 3)  # its successor
        before = list(clients.answered)
        while any(now == then for now, then in zip(clients.answered, before, strict=True)):
            for task in clients.tasks:
                assert not task.done() or task.result()
        clients.end()
        lost = [number for number, _ in clients.lost]
        assert len(lost) == len(set(lost)), "a client lost more than the request that was held"
        assert len(lost) <= held < 32, (lost, held)


def test_workers_end_with_their_supervisor_and_its_folder_goes(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with serving(exported, tmp_path / "log", workers=2) as server:
        # Stopped, they can do nothing about it themselves.
        for pid in server.workers():
            os.kill(pid, signal.SIGSTOP)
        server.process.kill()
        server.process.wait()
        assert no_process_is_left(server.process.pid)
    left = list(tmp_path.glob("ppcls-metrics-*"))
    assert len(left) == 1
    with serving(exported, tmp_path / "log") as server:
        assert not left[0].exists()
        assert len(list(tmp_path.glob("ppcls-metrics-*"))) == 1
        assert requests.get(f"{server.url}/v2/health/ready", timeout=60).status_code == 200
    assert not list(tmp_path.glob("ppcls-metrics-*"))
