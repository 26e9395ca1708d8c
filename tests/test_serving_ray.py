"""The application and tools/predict.py --shards on a real Ray cluster of two nodes."""

import concurrent.futures
import contextlib
import json
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

from ppcls_lite.commands import predict, predict_shards
from ppcls_lite.deploy.settings import PredictConfig
from ppcls_lite.errors import UserError
from ppcls_lite.serving.settings import ServeConfig

ray = pytest.importorskip("ray")
serve = pytest.importorskip("ray.serve")
schema = pytest.importorskip("ray.serve.schema")
for _name in ("fastapi", "uvicorn", "prometheus_client"):
    pytest.importorskip(_name)
ray_app = pytest.importorskip("ppcls_lite.serving.ray_app")

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
        self.port, self.http = free_port(), free_port()

    def start(self, *flags: str) -> None:
        """Runs `ray start`; a node has two CPUs for replicas."""
        small = ("--num-cpus=2", "--object-store-memory=100000000", "--disable-usage-stats")
        # Said beforehand: a node waits only 15 seconds to be told, too short on a busy machine.
        names = ("dashboard-agent-listen", "dashboard-agent-grpc", "runtime-env-agent",
                 "metrics-export")  # fmt: skip
        ports = [f"--{name}-port={free_port()}" for name in names]
        done = subprocess.run(
            [BIN / "ray", "start", "--node-ip-address=127.0.0.1", *flags, *small, *ports],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def processes(self, name: str = "") -> list[int]:
        """Ids of this cluster's processes, the oldest first."""
        listed = subprocess.run(["ps", "-wweo", "pid=,args=", "--sort=start_time"],
                                capture_output=True, text=True).stdout  # fmt: skip
        rows = [line.split(None, 1) for line in listed.splitlines() if self.folder in line]
        return [int(pid) for pid, args in rows if name in args.split()[0]]

    def classify(self, pictures: int = 1) -> requests.Response:
        """Sends a picture, up to ten times."""
        url = f"http://127.0.0.1:{self.http}/predict?topk=5"
        for turn in range(10):
            with contextlib.suppress(requests.ConnectionError):
                files = [("file", ("cat.jpg", CAT.read_bytes()))] * pictures
                answer = requests.post(url, files=files, timeout=60)
                if answer.status_code not in AGAIN:
                    return answer
            time.sleep(0.2 * turn)
        raise AssertionError("ten tries failed")


@pytest.fixture(scope="module")
def cluster():
    folder = tempfile.mkdtemp(prefix="ray")  # short: sockets lie in it
    one = Cluster(folder)
    try:
        one.start("--head", f"--port={one.port}", f"--temp-dir={folder}",
                  "--include-dashboard=false")  # fmt: skip
        one.start(f"--address=127.0.0.1:{one.port}")
        ray.init(f"127.0.0.1:{one.port}", log_to_driver=False)
        yield one
    finally:
        if ray.is_initialized():
            ray.shutdown()
        while left := one.processes():  # one that ends may just have started another
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
        shutil.rmtree(folder, ignore_errors=True)


def test_pictures_are_answered_in_shards_and_only_missing_ones_are_redone(
    cluster, exported, pictures, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(predict_shards, "SHARD", 8)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    shutil.copytree(pictures / "val", tmp_path / "val")
    settings = {"pretrained": str(exported), "img_path": str(tmp_path), "topk": 2}
    out = tmp_path / "shards"
    assert predict.run(PredictConfig(**settings, shards=str(out))) == 1  # a broken picture
    parts = sorted(out.glob("part-*.jsonl"))
    assert [part.name for part in parts] == [f"part-00000{i}.jsonl" for i in range(3)]
    rows = [json.loads(line) for part in parts for line in part.read_text().splitlines()]
    capsys.readouterr()
    assert predict.run(PredictConfig(**settings, json=True)) == 1
    alone = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["file"] for row in rows] == [row["file"] for row in alone]
    assert [row.get("error") for row in rows] == [row.get("error") for row in alone]
    assert [row.get("topk") for row in rows] == [row.get("topk") for row in alone]
    parts[0].write_text("kept")
    parts[1].unlink()  # as if the run had been stopped
    assert predict.run(PredictConfig(**settings, shards=str(out))) == 0
    assert parts[0].read_text() == "kept" and len(parts[1].read_text().splitlines()) == 8
    for changed, words in [
        ({"topk": 3}, "another run .topk"),
        ({"img_path": str(tmp_path / "val")}, "images, list differ"),
        ({"shards": str(tmp_path)}, "no shards"),
    ]:
        with pytest.raises(UserError, match=words):
            predict.run(PredictConfig(**({**settings, "shards": str(out)} | changed)))
    with pytest.raises(UserError, match="json has no effect with --shards"):
        PredictConfig(shards="x", json=True, sources={"json": "flag"})


def test_a_killed_node_and_a_rolling_update_fail_no_request(cluster, exported, expected):
    (app,) = yaml.safe_load(MANIFEST.read_text())["applications"]
    (options,) = app["deployments"]

    def run(replicas: int, **args: object) -> None:
        """Deploys the manifest, with what one machine needs; returns when all of it runs."""
        options["autoscaling_config"] |= {"min_replicas": replicas, "max_replicas": replicas}
        settings = ServeConfig(**(app["args"] | {"exported": str(exported)} | args))
        built = serve.deployment(ray_app.Classifier).options(**options).bind(settings)
        serve.run(built, name=app["name"], route_prefix=app["route_prefix"])

    serve.start(proxy_location="HeadOnly", http_options={"port": cluster.http})
    run(3, max_images=3)
    # Three replicas of one CPU each need both nodes of two.
    done, answers = False, []

    def ask() -> None:
        while not done:
            answers.append(cluster.classify())

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        try:
            wait_for_answers(answers, 10)
            os.kill(cluster.processes("raylet")[-1], signal.SIGKILL)  # its replicas end with it
            wait_for_answers(answers, len(answers) + 30)
            run(2, max_images=2)
            wait_for_answers(answers, len(answers) + 10)
        finally:
            done = True
        for one in asking:
            one.result()  # raises when ten tries failed
    assert {answer.status_code for answer in answers} == {200}
    topk = [vars(prediction) for prediction in expected[0]]
    assert all(answer.json()["results"][0]["topk"] == topk for answer in answers)
    refused = cluster.classify(3)
    assert refused.status_code == 400 and "2" in refused.text  # the new setting
    assert sum(node["Alive"] for node in ray.nodes()) == 1


def wait_for_answers(answers: list, count: int) -> None:
    deadline = time.monotonic() + 120
    while len(answers) < count:
        assert time.monotonic() < deadline, f"{len(answers)} answers, not {count}"
        time.sleep(0.1)


def test_the_manifest_fits_rays_own_schema_and_our_settings():
    manifest = yaml.safe_load(MANIFEST.read_text())
    read = schema.ServeDeploySchema.model_validate(manifest)
    assert read.applications[0].deployments[0].name == "Classifier"
    ray_app.application(manifest["applications"][0]["args"])
    for args, words in [
        ({"exported": "x", "port": 1}, "port is no setting of a replica"),
        ({"exported": "x", "max_bach": 1}, "max_batch"),
        ({"exported": "x", "max_batch": 0}, "max_batch"),
        ({}, "--exported is missing"),
    ]:
        with pytest.raises(UserError, match=words):
            ray_app.application(args)
