"""train.py as a process: what it prints and keeps, evaluation, fine-tuning, and misuse."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import numpy as np
import pytest
from conftest import TINY_FLAGS, run_tool, same_weights, train
from PIL import Image

from ppcls_lite.environment import cpu_flags
from ppcls_lite.weights.formats import read_weights


def test_lines_have_step6s_form(straight):
    _, done = straight
    number = r"\d+\.\d{5}"
    line = (
        rf"\[Epoch 1, iter: 3\] top1: {number}, top5: {number}, lr: {number}, loss: {number},"
        rf" avg_reader_cost: {number} sec, avg_batch_cost: {number} sec,"
        rf" avg_samples: \d+\.\d, avg_ips: {number} images/sec\."
    )
    assert re.search(line, done.stdout)
    assert re.search(
        r"Test:  \[0/3\]  eta: \d:\d\d:\d\d  loss: \d\.\d{4} \(\d\.\d{4}\)  acc1: \d\.\d{4} \(\d\."
        r"\d{4}\)  acc5: 1\.0000 \(1\.0000\)  time: \d\.\d{4}  data: \d\.\d{4}",
        done.stdout,
    )
    assert re.search(
        r"\nTest: Total time: 0:00:\d\d\n \* Acc@1 \d\.\d{3} Acc@5 1\.000\n", done.stdout
    )
    assert done.stderr == "", "nothing but results, and no escapes, off a terminal"
    assert "\x1b" not in done.stdout


def test_the_plan_says_what_will_happen(straight):
    _, done = straight
    for part in (
        "mobilenet_v3_small, 3 classes",
        "42 train, 21 val images",
        "8 per device x 1 x 1 accumulated = 8; 6 steps per epoch",
        "0.02 as given, step schedule (0.1 per 256 images would be 0.00313)",
        "width=0.5 (command line)",
    ):
        assert part in done.stdout


def test_run_folder_holds_what_the_design_promises(straight):
    out, _ = straight
    for name in ("latest", "best", "model_0", "model_1", "model_2", "model_3"):
        assert all((out / f"{name}{s}").is_file() for s in (".pdparams", ".pdopt", ".json"))
    state = json.loads((out / "latest.json").read_text())
    assert state["progress"]["epoch"] == 4 and state["progress"]["step"] == 24
    assert state["classes"] == ["blue", "green", "red"]
    assert state["preprocess"]["crop_size"] == 32 and state["config"]["epochs"] == 4
    assert {"paddle", "numpy", "pillow", "python"} <= state["versions"].keys()
    assert not list(out.glob(".*.part"))


def test_the_printed_config_of_a_run_repeats_it(straight, pictures, tmp_path):
    out, _ = straight
    again = run_tool("train.py", "-c", out / "config.yaml", "--output-dir", tmp_path)
    assert again.returncode == 0, again.stderr
    assert same_weights(out / "model_3.pdparams", tmp_path / "model_3.pdparams")


def test_metrics_hold_every_line_and_every_evaluation(straight):
    out, done = straight
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [r["step"] for r in records if r["event"] == "train"]
    assert steps == list(range(2, 25, 2))
    evals = [r for r in records if r["event"] == "eval"]
    assert [r["epoch"] for r in evals] == [0, 1, 2, 3]
    printed = re.findall(r"\* Acc@1 (\d\.\d{3})", done.stdout)
    assert printed == [f"{r['top1']:.3f}" for r in evals]


def test_more_workers_change_nothing(straight, pictures, tmp_path):
    out, _ = straight
    done = train(pictures, tmp_path, "--epochs=4", "--workers=2")
    assert done.returncode == 0, done.stderr
    assert same_weights(out / "model_3.pdparams", tmp_path / "model_3.pdparams")


def test_augmented_training_is_the_same_with_any_number_of_workers(straight, pictures, tmp_path):
    out, _ = straight
    for workers in (0, 2):
        flags = ("--epochs=1", "--auto-augment=imagenet", "--random-erase=0.5")
        done = train(pictures, tmp_path / str(workers), *flags, f"--workers={workers}")
        assert done.returncode == 0, done.stderr
    assert same_weights(tmp_path / "0/model_0.pdparams", tmp_path / "2/model_0.pdparams")
    plain = read_weights(out / "model_0.pdparams")
    augmented = read_weights(tmp_path / "0/model_0.pdparams")
    assert any(not np.array_equal(plain[name], augmented[name]) for name in plain)


def test_dry_run_takes_a_step_estimates_and_writes_nothing(pictures, tmp_path):
    done = train(pictures, tmp_path / "out", "--dry-run", "--epochs=4")
    assert done.returncode == 0, done.stderr
    assert re.search(r"dry run +loss \d+\.\d+, \d+\.\d+ s per batch, \d:\d\d:\d\d per", done.stdout)
    assert re.search(r"memory +\d+ MiB", done.stdout)
    assert not (tmp_path / "out").exists()


def test_mixed_precision_without_kernels_warns_once_and_changes_nothing(pictures, tmp_path):
    for name, level in (("mixed", "O2"), ("float32", "O0")):
        flags = ("--epochs=2", "--cpu-kernels=off", f"--amp-level={level}")
        done = train(pictures, tmp_path / name, *flags)
        assert done.returncode == 0, done.stderr
        warned = done.stdout.count("--amp-level O2 has no effect on a CPU without AVX512-BF16")
        assert warned == (name == "mixed")
    assert same_weights(tmp_path / "mixed/latest.pdparams", tmp_path / "float32/latest.pdparams")


@pytest.mark.skipif("avx512_bf16" not in cpu_flags(), reason="a CPU without AVX512-BF16")
def test_mixed_precision_on_a_cpu_that_multiplies_bfloat16_is_that_of_the_kernels(
    pictures, tmp_path
):
    runs = {"level": "--amp-level=O1", "kernels": "--cpu-kernels=bf16", "float32": "--amp-level=O0"}
    for name, flag in runs.items():
        done = train(pictures, tmp_path / name, "--epochs=2", flag)
        assert done.returncode == 0, done.stderr
        assert ("bf16 kept and multiplied" in done.stdout) == (name != "float32")
        assert "has no effect" not in done.stdout
    level, kernels, float32 = (tmp_path / name / "latest.pdparams" for name in runs)
    assert same_weights(level, kernels)
    with pytest.raises(AssertionError):
        same_weights(level, float32)


def test_mixed_precision_without_the_instruction_says_so(pictures, tmp_path):
    script = tmp_path / "c++-of-an-older-cpu"
    script.write_text('#!/bin/sh\nexec c++ $(echo "$*" | sed "s/-O3/-O0/; s/-march=native//")\n')
    script.chmod(0o755)
    environment = os.environ | {"CXX": str(script), "PPCLS_LITE_HOME": str(tmp_path / "home")}
    done = train(pictures, tmp_path / "out", "--dry-run", "--amp-level=O1", env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("--amp-level O1 has no effect on a CPU without AVX512-BF16") == 1
    assert "13 of 13 parts" in done.stdout and "bf16 kept" not in done.stdout


def test_a_static_graph_trains_the_same_network(pictures, tmp_path):
    for name, flag in (("dynamic", "--cpu-kernels=off"), ("static", "--to-static")):
        done = train(pictures, tmp_path / name, "--epochs=2", flag)
        assert done.returncode == 0 and done.stderr == "", done.stderr
    assert same_weights(tmp_path / "dynamic/latest.pdparams", tmp_path / "static/latest.pdparams")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--to-static", "--pact-quant"], "--to-static traces Paddle's own layers"),
        (["--sync-bn"], "--sync-bn: paddle has no synchronised batch norm on a CPU"),
        (["--device=gpu"], "--device gpu: this paddle sees no GPU"),
        (["--device=cpu", "--use-gpu=True"], "--device cpu and --use-gpu True disagree"),
        (["--model=mobilenet_v3_smal"], "did you mean mobilenet_v3_small?"),
        (["--num-classes=2"], "--num-classes 2: the data has 3 classes"),
        (["--pretrained=nowhere.pdparams"], "no weights file nowhere.pdparams"),
        (["--resume=nowhere.pdparams"], "no weights file nowhere.pdparams"),
    ],
)
def test_what_cannot_work_is_said_in_one_message(pictures, tmp_path, flags, message):
    done = train(pictures, tmp_path, *flags)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr and "Traceback" not in done.stderr


def test_fine_tuning_takes_the_rows_of_the_classes_that_it_knows(straight, pictures, tmp_path):
    out, _ = straight
    data = tmp_path / "two"
    for split in ("train", "val"):
        for name in ("green", "red"):
            shutil.copytree(pictures / split / name, data / split / name)
    flags = [f for f in TINY_FLAGS if not f.startswith("--width")]  # the weights know their own
    done = run_tool(
        "train.py", f"--data-path={data}", f"--output-dir={tmp_path}/out", *flags, "--epochs=1",
        f"--pretrained={out}/best.pdparams", "--lr=0", "--confusion-matrix",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "the last layer: 2 of 2 rows by name (green, red)" in done.stdout
    before, after = (
        read_weights(out / "best.pdparams"),
        read_weights(tmp_path / "out/best.pdparams"),
    )
    assert np.array_equal(before["classifier.0.weight"], after["classifier.0.weight"])
    assert np.array_equal(before["classifier.3.weight"][:, 1:], after["classifier.3.weight"])
    assert (tmp_path / "out/confusion_matrix.csv").read_text().count("\n") == 3
    assert (tmp_path / "out/confusion_matrix.png").is_file()


def test_test_only_takes_everything_from_the_checkpoint(straight, pictures, tmp_path):
    out, done = straight
    argv = ("train.py", "--test-only", f"--data-path={pictures}", "--device=cpu")
    lines = {
        run_tool(*argv, f"--pretrained={out}/latest.pdparams", *flags).stdout.splitlines()[-1]
        for flags in (["--batch-size=7"], ["--batch-size=32"], ["--eval-engine=exported"])
    }
    assert lines == {re.findall(r" \* Acc@1 .*", done.stdout)[-1]}


def test_test_only_refuses_data_of_other_classes(straight, pictures, tmp_path):
    out, _ = straight
    shutil.copytree(pictures / "val/red", tmp_path / "val/crimson")
    done = run_tool(
        "train.py", "--test-only", f"--data-path={tmp_path}", f"--pretrained={out}/best.pdparams"
    )
    assert done.returncode == 2 and "only in val: crimson; only in the model: blue" in done.stderr


def test_confusion_matrix_on_request(straight, pictures, tmp_path):
    out, _ = straight
    done = run_tool(
        "train.py", "--test-only", f"--data-path={pictures}", "--confusion-matrix",
        f"--pretrained={out}/latest.pdparams", f"--output-dir={tmp_path}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [
        line.split(",") for line in (tmp_path / "confusion_matrix.csv").read_text().splitlines()
    ]
    counts = np.array([row[1:] for row in rows[1:]], int)
    assert rows[0][1:] == ["blue", "green", "red"] and counts.sum(axis=1).tolist() == [7, 7, 7]
    top1 = float(re.search(r"Acc@1 (\S+)", done.stdout).group(1))
    assert top1 == pytest.approx(counts.trace() / 21, abs=5e-4)  # three printed digits
    per_class = (tmp_path / "per_class.csv").read_text().splitlines()
    assert per_class[1].startswith(f"blue,7,{counts[0, 0] / 7:.4f}")
    with Image.open(tmp_path / "confusion_matrix.png") as image:
        assert image.size[0] > 400


def test_curves_are_drawn(straight, tmp_path):
    out, _ = straight
    done = run_tool("tools/plot_run.py", "--run", out, "--out", tmp_path / "curves.png")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "curves.png") as image:
        assert image.size[1] > 600 and len(image.convert("RGB").getcolors(1 << 20)) > 50


def test_visualdl_page_shows_the_curves(straight):
    """The real VisualDL server, asked through its HTTP interface."""
    out, _ = straight
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = f"from visualdl.server import app; app.run({str(out)!r}, host='127.0.0.1', port={port})"
    server = subprocess.Popen(
        [sys.executable, "-c", code], start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def ask(path, **query):
        url = f"http://127.0.0.1:{port}/app/api/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as reply:
            return json.load(reply)["data"]

    try:
        for _ in range(60):
            try:
                runs = ask("runs")
                break
            except OSError:
                time.sleep(0.5)
        (run,) = runs
        tags = ask("scalar/tags")
        tags = tags["tags"][0] if isinstance(tags, dict) else tags[0]
        assert {"train/loss", "train/lr", "train/top1", "eval/top1"} <= set(tags)
        values = [row[2] for row in ask("scalar/list", run=run, tag="eval/top1")]
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    expected = [r["top1"] for r in records if r["event"] == "eval"]
    assert values == pytest.approx(expected, rel=1e-6)  # VisualDL keeps float32
