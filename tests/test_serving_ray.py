"""The application on a real Ray cluster of two nodes: one is killed, and the rest is replaced."""

import concurrent.futures
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import requests
import yaml
from conftest import ROOT

pytest.importorskip("ray.serve")
for _name in ("fastapi", "uvicorn", "prometheus_client"):
    pytest.importorskip(_name)
from ray.serve.schema import ServeDeploySchema

from ppcls_lite.deploy.serving.ray_app import application
from ppcls_lite.errors import UserError

CAT = ROOT / "test_images/chelsea.jpg"
MANIFEST = ROOT / "deploy/serving/ray_serve.yaml"
BIN = Path(sys.executable).parent
# Answers that a client may ask for again: the replica is gone, or none is free.
AGAIN = (429, 500, 502, 503)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


class Cluster:
    """Two nodes on this machine, in one folder of their own."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.port, self.dashboard, self.http = free_port(), free_port(), free_port()
        self.env = os.environ | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
        head = ("--head", f"--port={self.port}", f"--dashboard-port={self.dashboard}")
        self.start(*head, f"--temp-dir={folder}", "--include-dashboard=true")

    def start(self, *flags: str) -> None:
        """Runs `ray start`; a node has two CPUs for replicas."""
        small = ("--num-cpus=2", "--object-store-memory=100000000", "--disable-usage-stats")
        self.run("ray", "start", *flags, *small)

    def run(self, program: str, *flags: str) -> None:
        done = subprocess.run(
            [BIN / program, *flags], env=self.env, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def processes(self, name: str = "") -> list[int]:
        """Ids of this cluster's processes, the oldest first."""
        listed = subprocess.run(["ps", "-eo", "pid=,args=", "--sort=start_time"],
                                capture_output=True, text=True).stdout  # fmt: skip
        rows = [line.split(None, 1) for line in listed.splitlines() if self.folder in line]
        return [int(pid) for pid, args in rows if name in args.split()[0]]

    def deploy(self, manifest: dict) -> None:
        """Runs `serve deploy` and waits until every replica is what the manifest says."""
        file = Path(self.folder) / "ray_serve.yaml"
        file.write_text(yaml.safe_dump(manifest))
        self.run("serve", "deploy", "-a", f"http://127.0.0.1:{self.dashboard}", str(file))
        for _ in range(600):
            (app,) = self.applications().values()
            if app["status"] == "RUNNING":
                return
            assert app["status"] != "DEPLOY_FAILED", app
            time.sleep(0.3)
        raise AssertionError(app)

    def applications(self) -> dict:
        url = f"http://127.0.0.1:{self.dashboard}/api/serve/applications/"
        return requests.get(url, timeout=60).json()["applications"]

    def classify(self, pictures: int = 1) -> requests.Response:
        """Sends a picture, up to ten times."""
        url = f"http://127.0.0.1:{self.http}/predict?topk=5"
        for turn in range(10):
            with contextlib.suppress(requests.ConnectionError):
                files = [("file", CAT.open("rb"))] * pictures
                answer = requests.post(url, files=files, timeout=60)
                if answer.status_code not in AGAIN:
                    return answer
            time.sleep(0.2 * turn)
        raise AssertionError("ten tries failed")


@pytest.fixture
def cluster():
    folder = tempfile.mkdtemp(prefix="ray")  # short: sockets lie in it
    cluster = None
    try:
        cluster = Cluster(folder)
        yield cluster
    finally:
        for pid in cluster.processes() if cluster else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def test_a_killed_node_and_a_rolling_update_fail_no_request(cluster, exported, expected):
    manifest = yaml.safe_load(MANIFEST.read_text())
    (app,) = manifest["applications"]
    (deployment,) = app["deployments"]
    # What one machine cannot: two proxies on one port. Three replicas need both nodes.
    manifest["proxy_location"] = "HeadOnly"
    manifest["http_options"] |= {"host": "127.0.0.1", "port": cluster.http}
    app["args"] |= {"exported": str(exported), "max_images": 3}
    deployment["autoscaling_config"] |= {"min_replicas": 3, "max_replicas": 3}
    cluster.start(f"--address=127.0.0.1:{cluster.port}")
    second = cluster.processes("raylet")[-1]
    cluster.deploy(manifest)
    (replicas,) = cluster.applications()["ppcls"]["deployments"].values()
    assert len({replica["node_id"] for replica in replicas["replicas"]}) == 2

    done, answers = False, []

    def ask() -> None:
        while not done:
            answers.append(cluster.classify())

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        try:
            wait_for_answers(answers, 10)
            os.kill(second, signal.SIGKILL)  # its replicas end with it
            wait_for_answers(answers, len(answers) + 30)
            deployment["autoscaling_config"] |= {"min_replicas": 2, "max_replicas": 2}
            app["args"]["max_images"] = 2
            cluster.deploy(manifest)
            wait_for_answers(answers, len(answers) + 10)
        finally:
            done = True
        for one in asking:
            one.result()  # raises when ten tries failed
    assert {answer.status_code for answer in answers} == {200}
    topk = [vars(prediction) for prediction in expected[0]]
    assert all(answer.json()["results"][0]["topk"] == topk for answer in answers)
    assert cluster.classify(3).status_code == 413  # the new setting


def wait_for_answers(answers: list, count: int) -> None:
    deadline = time.monotonic() + 120
    while len(answers) < count:
        assert time.monotonic() < deadline, f"{len(answers)} answers, not {count}"
        time.sleep(0.1)


def test_the_manifest_fits_rays_own_schema_and_our_settings():
    manifest = yaml.safe_load(MANIFEST.read_text())
    schema = ServeDeploySchema.model_validate(manifest)
    assert schema.applications[0].deployments[0].name == "Classifier"
    application(manifest["applications"][0]["args"])
    for args, words in [
        ({"exported": "x", "port": 1}, "port is no setting of a replica"),
        ({"exported": "x", "max_bach": 1}, "max_batch"),
        ({"exported": "x", "max_batch": 0}, "max_batch"),
        ({}, "--exported is missing"),
    ]:
        with pytest.raises(UserError, match=words):
            application(args)
