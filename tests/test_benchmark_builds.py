"""Another checkout of this project as a competitor: a clone of this one that writes a diary."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, run_tool, warm_benchmarks
from small_checkpoint import network_by_formula

from ppcls_lite.benchmark import infer, train
from ppcls_lite.benchmark.builds import OURS, Build, other_builds
from ppcls_lite.benchmark.peers import measure
from ppcls_lite.benchmark.settings import BenchmarkConfig
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.deploy.sidecar import read_sidecar
from ppcls_lite.errors import UserError
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.weights.description import save_weights
from ppcls_lite.weights.find import find_weights

# Every process that imports the clone's package says which program it is.
DIARY = """
import os as _os, sys as _sys
with open({diary!r}, "a") as _diary:
    print(_os.path.basename(_sys.argv[0]), file=_diary)
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    if not (ROOT / ".git").exists():
        pytest.skip("a clone needs the repository")
    folder = tmp_path_factory.mktemp("other") / "a checkout"
    subprocess.run(["git", "clone", "--quiet", "--shared", ROOT, folder], check=True)
    with (folder / "ppcls_lite/__init__.py").open("a") as package:
        package.write(DIARY.format(diary=str(folder.parent / "diary")))
    return folder


@pytest.fixture
def forks(monkeypatch):
    """What a benchmark in this process starts is a fork."""
    for name, value in warm_benchmarks().items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def programs(clone):
    """Tells which programs ran the clone's code in this test."""
    diary = clone.parent / "diary"
    diary.unlink(missing_ok=True)
    return lambda: diary.read_text().splitlines()


def benchmark(*argv, cwd=ROOT):
    variables = os.environ | warm_benchmarks()
    done = run_tool(ROOT / "tools/benchmark.py", *argv, "--json", cwd=cwd, env=variables)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    commits = [about["commit"] for about in result["builds"]]
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    assert commits[1] == f"{head.stdout[:12]}-dirty"  # the diary
    return result, done.stdout


def test_a_step_of_another_checkout_is_its_own(clone, programs):
    """Even when the user stands in another checkout, whose package `-m` would find first."""
    flags = ["--size=32", "--batch-size=2", "--threads=1", "--rounds=2", "--steps=1"]
    result, text = benchmark("train", *flags, f"--versus=build:.,{sys.executable}", cwd=clone)
    ours, other = result["rows"]
    assert (ours["peer"], other["peer"]) == ("ours", f"build:.,{sys.executable}")
    assert f"| build:.,{sys.executable} | 32 |" in text
    assert other["loss"] == ours["loss"]  # the same seed, the same code
    ends = other["ours_over_range"]
    assert ends["lowest"] <= other["ours_over"] <= ends["highest"]
    assert sorted(set(programs())) == ["-c", "our_peer.py"]  # once to see that it runs
    assert programs().count("our_peer.py") == 1


def test_another_checkout_exports_and_quantizes_the_same_weights_itself(
    clone, programs, pictures, tmp_path, monkeypatch, forks
):
    weights, spec = tmp_path / "best.pdparams", Preprocess(36, 32)
    model = network_by_formula("mobilenet_v3_small", pictures / "train", spec)
    info = ModelInfo("mobilenet_v3_small", 3, classes=("blue", "green", "red"), preprocess=spec)
    save_weights(weights, {k: v.numpy() for k, v in model.state_dict().items()}, info)
    engines = [("dygraph", "f32"), ("onnxruntime", "f32"), ("onnxruntime", "int8")]
    monkeypatch.setattr(
        infer, "ENGINES", [(*kind, "" if kind[0] == "dygraph" else "onnx") for kind in engines]
    )
    config = BenchmarkConfig(
        "infer", pretrained=str(weights), data_path=str(pictures), size=(32,), threads=(1,),
        batch_size=(1,), rounds=1, steps=2, versus=(f"build:{clone}",),
    )  # fmt: skip
    rows, facts = infer.rows(config, lambda text: None)
    assert [about["build"] for about in facts["builds"]] == ["ours", f"build:{clone}"]
    assert [row["peer"] for row in rows] == ["ours", f"build:{clone}"] * len(engines)
    for ours, other in zip(rows[::2], rows[1::2], strict=True):
        for key in ("engine", "precision", "file", "agreement", "largest_difference"):
            assert ours[key] == other[key], key
        assert ours["ours_over"] == 1 and other["ours_over"] > 0
    ran = programs()
    assert ran.count("quantize.py") == 1 and "export_model.py" in ran
    assert ran.count("our_peer.py") == len(engines)
    assert infer.best(rows)["peer"] == "ours"
    shown, columns = infer.by_batch_size(rows)
    assert columns[5:9] == ("peer", "ms, bs=1", "ours over, bs=1", "agreement")
    assert list(shown[1]["ours over, bs=1"]) == ["median", "lowest", "highest"]


def test_another_checkouts_server_serves_its_own_export(clone, programs):
    pytest.importorskip("uvicorn")
    flags = ["--clients=2", "--seconds=0.5", "--rounds=1", "--workers=1", "--versus-command="]
    result, _ = benchmark("serve", *flags, f"--versus=build:{clone}")
    assert [row["peer"] for row in result["rows"]] == ["ours", f"build:{clone}"]
    assert all(row["failed"] == 0 for row in result["rows"])
    assert {"export_model.py", "serve.py"} <= set(programs())


def test_requests_are_those_that_e9ae75b_sends_and_understands(exported, tmp_path, forks):
    """Commit e9ae75b is the first build that others are compared with."""
    step = {"kind": "train", "model": "mobilenet_v3_small", "size": 32, "batch_size": 2, "lr": 0.01}
    sent = train.peers(BenchmarkConfig("train"), [Build("build:x")], 32, 2, 1)[1].request
    assert step.items() <= sent.items()
    info = read_sidecar(exported).info
    made = infer.Export(Build("build:x"), exported, exported, info.to_dict())
    images, size = tmp_path / "images.npy", info.preprocess.crop_size
    np.save(images, np.zeros((2, 3, size, size), np.float32))
    engine = {
        "kind": "infer", "engine": "onnxruntime", "file": str(exported / "inference.onnx"),
        "info": made.info, "options": {}, "threads": 1, "batch_size": 2, "images": str(images),
        "answers": str(exported / "onnxruntime f32 onnx.npy"),
    }  # fmt: skip
    choice = ("onnxruntime", "f32", "onnx")
    assert engine.items() <= infer.peer(made, choice, images, 2, 1, asks=True).request.items()
    engine["answers"] = str(tmp_path / "answers.npy")
    results = measure([OURS.peer(r["kind"], r) for r in (step, engine)], 1, 1, lambda text: None)
    assert [result.error for result in results] == ["", ""]
    assert all(result.facts["images"] == 2 and len(result.seconds) == 1 for result in results)
    assert np.load(engine["answers"]).shape[0] == 2


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_what_cannot_be_compared_is_said_with_what_to_do(clone, tmp_path, forks):
    bare = script(tmp_path / "bare", f'exec {sys.executable} -S "$@"')
    astray = script(tmp_path / "astray", f'PYTHONPATH={ROOT} exec {sys.executable} "$@"')
    for given, message, step in (
        (tmp_path, "is no checkout of this project", "git worktree add"),
        (f"{clone},/no/such/python", "/no/such/python: No such file", "build:PATH,PYTHON"),
        (f"{clone},{bare}", "No module named 'numpy'",
         f"{bare} -m pip install -r '{clone}/requirements.txt'"),
        (f"{clone},{astray}", f"takes its package from {ROOT}", "PYTHONPATH"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=re.escape(message)) as told:
            other_builds(BenchmarkConfig("train", versus=(f"build:{given}",)))
        assert step in told.value.hint
    done = run_tool("tools/benchmark.py", "train", f"--versus=build:{clone},/no/such/python")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 2


def test_a_build_that_cannot_export_the_weights_says_why(clone, tmp_path, forks):
    weights = tmp_path / "best.pdparams"
    save_weights(weights, {}, ModelInfo("mobilenet_v3_small"))
    with pytest.raises(UserError, match=r"build:other cannot export .*best\.pdparams: \S"):
        Build("build:other", clone).export(find_weights(weights), tmp_path / "out")
