"""Test chains: the text files, and that every fault fails its chain and names the step.

The chains run here against small stand-ins of train.py and the tools, so that a fault can be put
into each; `make tipc` runs them against the real ones.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from xml.etree import ElementTree

import pytest
from conftest import ROOT

from ppcls_lite.errors import UserError
from ppcls_lite.tipc import table
from ppcls_lite.tipc.textfile import TRAIN, Line, parse

MODEL = "mobilenet_v3_small"
CONFIG = ROOT / f"test_tipc/configs/{MODEL}/train_infer_python_cpu.txt"
TRAIN_PY = """
import os, pathlib, sys
flags = dict(a.split("=", 1) for a in sys.argv if a.startswith("--") and "=" in a)
if os.environ.get("FAULT") == "train dies":
    sys.exit("out of memory")
wrong = os.environ.get("FAULT") == "static loss" and "--to-static=True" in sys.argv
print(f"[Epoch 0, iter: 24] top1: 0.2, loss: {2.1 if wrong else 2.2}, avg_ips: 9 images/sec")
print(" * Acc@1 " + ("0.120" if os.environ.get("FAULT") == "accuracy" else "0.700") + " Acc@5 0.9")
if "--output-dir" in flags and os.environ.get("FAULT") != "no weights":
    folder = pathlib.Path(flags["--output-dir"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "latest.pdparams").write_text("weights")
"""
EXPORT_PY = """
import os, pathlib, sys
flags = dict(a.split("=", 1) for a in sys.argv if a.startswith("--") and "=" in a)
folder = pathlib.Path(flags["--save-inference-dir"])
folder.mkdir(parents=True, exist_ok=True)
for name in ("inference.pdmodel", "inference.pdiparams", "inference.onnx", "inference.yml"):
    if (os.environ.get("FAULT"), name) != ("missing file", "inference.yml"):
        (folder / name).write_text("classes: [a, b, c, d]")
"""
PREDICT_PY = """
import json, os, sys
changed = os.environ.get("FAULT") == "probability" and "--engine=onnxruntime" in sys.argv
prob = 0.702 if changed else 0.7
top = [{"class_id": 3, "prob": prob, "name": "a"}, {"class_id": 1, "prob": 1 - prob, "name": "b"}]
print(json.dumps({"file": "test_images/a.jpg", "engine": "x", "topk": top}))
"""
SERVE_PY = """
import signal, socket, sys, time
flags = dict(a.split("=", 1) for a in sys.argv if "=" in a)
try:
    listening = socket.create_server(("127.0.0.1", int(flags["--port"])))
except OSError as error:
    sys.exit(f"serve.py: port {flags['--port']}: {error}")
print('{"message": "ready after 0 s"}', flush=True)
while True:
    time.sleep(0.1)
"""
CONVERT_PY = """
import pathlib, sys
for side in ("server", "client"):
    key = f"--serving_{side}="
    folder = pathlib.Path(next(a for a in sys.argv if a.startswith(key)).removeprefix(key))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"serving_{side}_conf.prototxt").write_text("feed_var {}")
"""
CLIENT_PY = """
print({"err_no": 0, "key": ["label", "prob"], "value": ["[['d', 'b']]", "[[0.7, 0.3]]"]})
"""


@pytest.fixture
def checkout(tmp_path):
    """A folder with the chain's scripts and stand-ins for what they start."""
    scripts = {"train.py": TRAIN_PY, "tools/export_model.py": EXPORT_PY,
               "tools/predict.py": PREDICT_PY, "tools/serve.py": SERVE_PY,
               "tools/paddle_serving_convert.py": CONVERT_PY,
               "deploy/serving/pipeline_http_client.py": CLIENT_PY}  # fmt: skip
    for name, text in scripts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "test_tipc/results").mkdir(parents=True)
    truth = tmp_path / f"test_tipc/results/python_{MODEL}_infer_fp32.txt"
    truth.write_text("test_images/a.jpg\t[[3, 0.7], [1, 0.3]]\n")
    shutil.copytree(ROOT / "test_tipc/configs", tmp_path / "test_tipc/configs")
    shutil.copy(ROOT / "test_tipc/compare_results.py", tmp_path / "test_tipc")
    for script in (ROOT / "test_tipc").glob("*.sh"):
        shutil.copy(script, tmp_path / "test_tipc")
    (tmp_path / "test_images").mkdir()
    shutil.copy(ROOT / "test_images/coffee.jpg", tmp_path / "test_images/a.jpg")
    for class_id in range(10):
        for number in range(20):
            picture = tmp_path / f"lite_data/val/c{class_id}/{number}.png"
            picture.parent.mkdir(parents=True, exist_ok=True)
            picture.write_bytes(b"x")
    with tarfile.open(tmp_path / "test_images/lite_data.tar", "w") as tar:
        tar.add(tmp_path / "lite_data", "lite_data")
    return tmp_path


def run(checkout, *argv, fault="", script=None):
    """Runs a chain and returns the finished process."""
    command = ["bash", script] if script else [sys.executable, "-m", "ppcls_lite.tipc"]
    env = os.environ | {"PYTHONPATH": str(ROOT), "FAULT": fault, "PYTHON": sys.executable}
    return subprocess.run(
        [*command, *argv], cwd=checkout, env=env, capture_output=True, text=True, timeout=120
    )


def config(name):
    return f"test_tipc/configs/{MODEL}/{name}.txt"


TRAINING = ("lite_train_lite_infer", config("train_infer_python_cpu"))
LABEL = "norm_train_gpus_-1"


def test_the_text_files_are_in_step_with_the_table():
    written = {p: p.read_text() for p in (ROOT / "test_tipc/configs").rglob("*.txt")}
    assert written == {ROOT / path: text for path, text in table.files()}


def test_lines_stand_where_the_shell_scripts_look_for_them():
    """Numbers from upstream's script, which counts from 0."""
    rows = CONFIG.read_text().splitlines()
    assert rows[3] == "gpu_list:-1"
    keys = {5: "--epochs", 6: "--output-dir", 7: "--batch-size", 8: "--pretrained",
            10: "--data-path", 13: "norm_train", 16: "eval", 19: "--save-inference-dir",
            21: "norm_export", 23: "train_model", 26: "inference", 28: "--batch-size",
            30: "--img-path"}  # fmt: skip
    assert {number: rows[number].split(":")[0] for number in keys} == keys
    assert rows[9] == "train_model_name:latest.pdparams"


def test_values_follow_upstreams_grammar():
    line = Line("--epochs", "lite_train_lite_infer=2|whole_train_whole_infer=10")
    assert (line.of_mode("whole_train_whole_infer"), line.of_mode("other")) == ("10", "")
    assert Line("--pretrained", "null").flag() == Line("null", "x").flag() == ""
    assert Line("--epochs", "").flag("2") == "--epochs=2"


@pytest.mark.parametrize(
    ("number", "row"), [(1, "== x =="), (7, "no colon"), (12, "a:b"), (5, "a:b:c"), (99, "more:1")]
)
def test_a_broken_file_is_named_with_its_line(tmp_path, number, row):
    rows = CONFIG.read_text().splitlines()
    rows[min(number, len(rows) + 1) - 1 : number] = [row]
    path = tmp_path / "x.txt"
    path.write_text("\n".join(rows))
    with pytest.raises(UserError, match=re.escape(f"{path}:{min(number, len(TRAIN) + 1)}")):
        parse(path)


def test_a_chain_passes_writes_upstreams_lines_and_runs_again_in_a_dirty_tree(checkout):
    for _ in range(2):
        done = run(checkout, TRAINING[1], TRAINING[0],
                   script="test_tipc/test_train_inference_python.sh")  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    results = checkout / f"test_tipc/output/{MODEL}/lite_train_lite_infer/results_python.log"
    lines = results.read_text().splitlines()
    start = f"\x1b[33m Run successfully with command - {MODEL} - "
    assert len(lines) == 9
    assert all(line.startswith(start) and line.endswith("!  \x1b[0m") for line in lines)
    suite = ElementTree.parse(results.with_suffix(".xml")).find("testsuite")
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("9", "0", "0")
    assert os.readlink(checkout / "data") == "lite_data"


@pytest.mark.parametrize(
    ("fault", "step", "words"),
    [
        ("train dies", f"train {LABEL}", "out of memory"),
        ("accuracy", f"train {LABEL}", "0.12 is not above chance"),
        ("no weights", f"train {LABEL}", "latest.pdparams"),
        ("missing file", f"export {LABEL}", "inference.yml"),
        ("probability", f"compare onnx {LABEL}", "class 3 has 0.702, not 0.7"),
    ],
)
def test_a_fault_fails_the_chain_and_names_the_step(checkout, fault, step, words):
    done = run(checkout, *TRAINING, fault=fault)
    assert done.returncode == 1
    line = next(row for row in done.stdout.splitlines() if "FAILED at" in row)
    assert f"{step!r}" in line
    assert words in line
    results = checkout / f"test_tipc/output/{MODEL}/lite_train_lite_infer/results_python.log"
    assert results.read_text().count("Run failed") == 1
    report = ElementTree.parse(results.with_suffix(".xml"))
    assert next(case.get("name") for case in report.iter("testcase") if len(case)) == step
    after = results.read_text().splitlines()
    failed_at = next(i for i, row in enumerate(after) if "Run failed" in row)
    assert all("Run not run" in row for row in after[failed_at + 1 :])


def test_changed_answers_fail_against_the_stored_ground_truth(checkout):
    mode = ("whole_infer", TRAINING[1])
    assert run(checkout, *mode).returncode == 0
    truth = checkout / f"test_tipc/results/python_{MODEL}_infer_fp32.txt"
    truth.write_text(truth.read_text().replace("0.7]", "0.71]"))
    done = run(checkout, *mode)
    assert done.returncode == 1
    assert "FAILED at 'compare ground truth'" in done.stdout
    truth.unlink()
    assert run(checkout, *mode).returncode == 1


def test_a_static_graph_must_have_the_losses_of_the_dynamic_one(checkout):
    chain = (config("train_infer_python_cpu"),)
    script = "test_tipc/test_train_dy2static_python.sh"
    done = run(checkout, *chain, script=script)
    assert done.returncode == 0, done.stdout + done.stderr
    done = run(checkout, *chain, script=script, fault="static loss")
    assert done.returncode == 1
    assert "FAILED at 'train to_static'" in done.stdout
    assert "iteration 24: loss 2.1, before 2.2" in done.stdout


def test_the_server_is_asked_and_ended(checkout):
    done = run(checkout, "serving_infer", config("serving_infer_python"))
    assert done.returncode == 0, done.stdout + done.stderr
    log = checkout / f"test_tipc/output/{MODEL}/serving_infer/results_serving.log"
    port = int(re.search(r"--port=(\d+)", log.read_text()).group(1))
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_port_in_use_fails_at_the_start_and_its_owner_lives_on(checkout):
    path = checkout / config("serving_infer_python")
    with socket.create_server(("127.0.0.1", 0)) as owner:
        port = owner.getsockname()[1]
        path.write_text(path.read_text().replace("--workers=1", f"--workers=1 --port={port}"))
        done = run(checkout, "serving_infer", config("serving_infer_python"))
        assert done.returncode == 1
        assert "FAILED at 'start'" in done.stdout
        assert socket.create_connection(("127.0.0.1", port))


def test_sigterm_ends_what_the_chain_started(checkout):
    (checkout / "train.py").write_text("import time\ntime.sleep(100)\n")
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    chain = subprocess.Popen(
        [sys.executable, "-m", "ppcls_lite.tipc", *TRAINING],
        cwd=checkout, env=env, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    log = checkout / f"test_tipc/output/{MODEL}/lite_train_lite_infer/{LABEL}_train.log"
    for _ in range(300):
        if log.exists():
            break
        time.sleep(0.1)
    time.sleep(1)
    chain.terminate()
    assert chain.wait(60) == 143
    left = subprocess.run(["pgrep", "-f", str(checkout)], capture_output=True, text=True).stdout
    assert not left


@pytest.mark.parametrize(
    ("mode", "name", "words"),
    [
        ("lite_infer", "lite_arm_cpu_cpp", "phone"),
        ("cpp_infer", "inference_cpp", "deploy/cpp is not there"),
        ("whole_infer", "train_ptq_infer_python", "tools/quantize.py is not there"),
    ],
)
def test_what_cannot_run_here_is_skipped_which_is_not_passed(checkout, mode, name, words):
    done = run(checkout, mode, config(name))
    assert done.returncode == 77
    assert words in done.stdout
    assert "0 chains passed, 0 failed, 1 skipped (skipped is not passed)" in done.stdout


def test_compare_results_wants_the_same_pictures_classes_and_probabilities(tmp_path):
    truth, log = tmp_path / "truth.txt", tmp_path / "x.log"
    truth.write_text("a.jpg\t[[1, 0.5], [2, 0.4]]\n")

    def status(answers):
        log.write_text(f"a note\na.jpg\t{json.dumps(answers)}\n")
        argv = [f"--gt_file={truth}", f"--log_file={log}", "--atol=1e-3", "--rtol=1e-3"]
        command = [sys.executable, ROOT / "test_tipc/compare_results.py", *argv]
        return subprocess.run(command, capture_output=True).returncode

    assert status([[2, 0.4], [1, 0.5005]]) == 0
    assert status([[1, 0.502], [2, 0.4]]) == 1
    assert status([[1, 0.5], [3, 0.4]]) == 1
    assert status([[1, float("nan")], [2, 0.4]]) == 1
    truth.write_text("")
    assert status([[1, 0.5]]) == 1
