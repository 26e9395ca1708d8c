"""The benchmark: its turns with real processes, peers that fail, what it prints. No timings."""

import dataclasses
import importlib.util
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, run_tool, warm_benchmarks
from small_checkpoint import network_by_formula

from ppcls_lite import cli
from ppcls_lite.benchmark import infer, loader, start
from ppcls_lite.benchmark.builds import OURS
from ppcls_lite.benchmark.channel import peak_mib
from ppcls_lite.benchmark.machine import Limits, machine
from ppcls_lite.benchmark.peers import Measured, Peer, measure, ours_over, percentile
from ppcls_lite.benchmark.settings import BenchmarkConfig
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.engine.evaluate import AGREEMENT
from ppcls_lite.environment import SPINS
from ppcls_lite.errors import UserError
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.weights.description import save_weights
from ppcls_lite.weights.find import find_weights

# A competitor that writes down when it works, and has the misfortunes it is told to have.
SCRIPT = """
import json, os, sys
from ppcls_lite.benchmark.channel import serve

WARM_UP = 2

asked = json.loads(sys.argv[1])
print("a line of chatter")
if asked.get("missing"):
    sys.exit("this peer has no torch")
taken = []

def step():
    taken.append(0)
    with open(asked["diary"], "a") as diary:
        diary.write(f"{asked['name']}{os.environ['OMP_NUM_THREADS']} begins\\n")
        diary.write(f"{asked['name']}{os.environ['OMP_NUM_THREADS']} ends\\n")
    if asked.get("dies_after") == len(taken) - WARM_UP:
        print("out of luck", flush=True)
        os._exit(7)
    return float(len(taken))

serve(asked["socket"], step, {"images": 4, "versions": {"luck": "1.0"}})
"""


@pytest.fixture
def competitor(tmp_path):
    script = tmp_path / "competitor.py"
    script.write_text(SCRIPT)

    def make(name, **request):
        request |= {"name": name, "diary": str(tmp_path / "diary")}
        return Peer(name, str(script), request, threads=3)

    return make


def test_peers_take_turns_and_never_work_at_the_same_time(competitor, tmp_path):
    results = measure([competitor("a"), competitor("b")], 2, 3, lambda text: None)
    work = [["a3 begins", "a3 ends"], ["b3 begins", "b3 ends"]]
    warm_up = 2 * work[0] + 2 * work[1]
    expected = warm_up + 2 * (3 * work[0] + 3 * work[1])
    assert (tmp_path / "diary").read_text().splitlines() == expected
    for result in results:
        row = result.row()
        assert row["steps"] == len(result.seconds) == 6
        assert row["value"] == 8  # 2 to warm up, 6 that count
        assert row["versions"] == {"luck": "1.0"}
        assert row["peak_mib"] > 1
        assert row["images_per_second"] == pytest.approx(
            4 / np.median(result.seconds), rel=0.01, abs=0.01
        )


def test_a_peer_that_fails_is_a_row_with_its_reason_and_the_others_go_on(competitor):
    nowhere = competitor("nowhere")
    object.__setattr__(nowhere, "python", "/no/such/python")
    peers = [competitor("dying", dies_after=3), competitor("missing", missing=True)]
    results = measure([*peers, nowhere, competitor("well")], 3, 2, lambda text: None)
    rows = [result.row() for result in results]
    assert rows[0] == {"peer": "dying", "error": "out of luck"}
    assert rows[1] == {"peer": "missing", "error": "this peer has no torch"}
    assert rows[2]["error"] == "/no/such/python: No such file or directory"
    assert rows[3]["steps"] == 6


def test_an_interpreter_may_be_given_relative_to_where_the_user_is(competitor, monkeypatch):
    """As --versus-python ENV/bin/python is; a link stays one, or an environment would be lost."""
    environment, name = Path(sys.executable).parents[1].resolve(), Path(sys.executable).name
    monkeypatch.chdir(environment)
    near = competitor("near")
    object.__setattr__(near, "python", f"bin/{name}")
    (result,) = measure([near], 1, 1, lambda text: None)
    assert result.row()["steps"] == 1
    assert near.command({})[0] == str(environment / "bin" / name)


def test_percentiles_are_numpys():
    draws = np.random.default_rng(0).random(57).tolist()
    for percent in (50, 90, 99):
        assert percentile(draws, percent) == np.percentile(draws, percent, method="inverted_cdf")


def test_how_much_faster_ours_is_comes_from_each_round():
    """By hand: 2 / 1, 2 / 5, 5 / 2; the medians of all steps are 2 and 2."""
    ours, other = (
        Measured(Peer(name, "", {}), rounds=rounds)
        for name, rounds in (("ours", [1.0, 5.0, 2.0]), ("other", [2.0, 2.0, 5.0]))
    )
    expected = {"ours_over": 2.0, "ours_over_range": {"lowest": 0.4, "highest": 2.5}}
    assert ours_over(ours, other) == expected
    assert ours_over(ours, Measured(other.peer, error="out of luck")) == {}


def test_several_processes_count_together():
    peer = Peer("two", "", {}, processes=2)
    result = Measured(peer, {"images": 8}, seconds=[0.5, 0.25, 1.0])
    assert result.row()["images_per_second"] == 32  # 2 processes x 8 pictures in 0.5 s


def test_the_limit_is_the_one_computed_by_hand():
    """mobilenet_v3_small at 224: 339 MFLOP in 4.71 ms at 72 GFLOP/s; six passes over 5.65 MB at
    17.6 GB/s are 1.93 ms. So 151 pictures/s one after the other, 212 at the same time."""
    limits = Limits(threads=2, gemm=72, copy=17.6, add=0)
    apart, together = limits.images_per_second(56_510_000, 5_650_000 // 4)
    assert (round(apart), round(together)) == (151, 212)


def test_the_machine_is_described():
    about = machine()
    assert about["cores"] >= 1
    assert about["memory_gib"] > 0.1
    assert isinstance(about["cpu"], str) and about["cpu"]
    json.dumps(about)


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["eval", "--versus=torch"], "--versus has no effect on eval"),
        (["epoch", "--versus=torch.compile"], "epoch cannot be compared with 'torch.compile'"),
        (["infer", "--versus=paddle"], r"infer --versus takes build:PATH\[,PYTHON\]"),
        (["start", "--versus=paddle"], "start cannot be compared with 'paddle'"),
        (["train", "--versus=build:.,a,b"], "train cannot be compared with 'b'"),
        (["train", "--plot=x.png"], "--plot has no effect on train"),
        (["train", "--versus=tensorflow"], "paddle, torch"),
        (["fly"], "train, epoch, eval, loader, infer, serve"),
        (["train", "--batch-size="], "--batch-size"),
    ],
)
def test_flags_that_cannot_work_are_told(argv, told):
    with pytest.raises(UserError, match=told):
        cli.parse(BenchmarkConfig, argv, "benchmark.py")


def test_a_build_and_its_interpreter_share_a_comma_with_the_list():
    def competitors(*texts):
        return BenchmarkConfig("train", versus=texts).competitors()

    assert competitors("build:/a", "/b/python") == ("build:/a,/b/python",)
    assert competitors("build:/a", "torch", "build:/b") == ("build:/a", "torch", "build:/b")
    assert competitors("bf16", "build:/a,/b", "build:/c", "/d") == (
        "bf16", "build:/a,/b", "build:/c,/d",
    )  # fmt: skip


@pytest.mark.parametrize(("here", "there"), [(None, None), (SPINS, None), ("0", "0")])
def test_only_the_users_own_spinning_reaches_the_peers(monkeypatch, here, there):
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    if here:
        monkeypatch.setenv("GOMP_SPINCOUNT", here)
    assert Peer("torch", "torch_peer.py", {}).environment().get("GOMP_SPINCOUNT") == there


def test_a_peers_threads_are_its_own(monkeypatch):
    """Not those this process was started with, which load_paddle keeps for our kernels."""
    monkeypatch.setenv("PPCLS_LITE_KERNEL_THREADS", "7")
    variables = Peer("ours", "our_peer.py", {}, threads=3).environment()
    code = (
        "from ppcls_lite.environment import kernel_threads, load_paddle\n"
        "load_paddle(); print(kernel_threads())"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.split()[-1] == "3", done.stderr


def benchmark(*argv):
    done = run_tool("tools/benchmark.py", *argv, "--json", env=os.environ | warm_benchmarks())
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert {"what", "machine", "rows"} <= result.keys()
    assert {"cpu", "cores", "memory_gib", "isa", "versions"} <= result["machine"].keys()
    return result, done.stdout


def test_training_is_compared_with_stock_paddle_in_one_run():
    flags = ["--size=32", "--batch-size=4", "--threads=1", "--rounds=2", "--steps=1"]
    flags += ["--versus=paddle,torch", "--versus-python=/no/such/python", "--profile"]
    result, text = benchmark("train", *flags)
    ours, stock, torch = result["rows"]
    assert [ours["peer"], stock["peer"]] == ["ours", "paddle"]
    assert "No such file" in torch["error"] and torch["error"] in text
    for row in (ours, stock):
        assert row["steps"] == 2
        assert math.isfinite(row["loss"])
        ends = row["ours_over_range"]
        assert ends["lowest"] <= row["ours_over"] <= ends["highest"]
    # Of two rounds with one step each it is a mean of the rounds' ratios, whatever those are.
    over = ours["images_per_second"] / stock["images_per_second"]
    ends = stock["ours_over_range"]
    assert 0.99 * ends["lowest"] <= over <= 1.01 * ends["highest"]
    assert result["images_per_second"] == ours["images_per_second"]
    assert {limit["threads"] for limit in result["limits"]} >= {1}
    assert all(limit["gemm"] > 0 and limit["copy"] > 0 for limit in result["limits"])
    (profile,) = result["profiles"]
    assert sum(row["share_of_step"] for row in profile["by_stage"]) == pytest.approx(1, abs=0.02)
    assert "| depthwise backward |" in text and "| block 10 |" in text


def test_a_start_is_counted_in_bare_starts_and_ends_at_the_first_step(pictures):
    result, _ = benchmark("start", "--rounds=1")
    (row,) = result["rows"]
    assert row["started"] == "train --help" and row["ours_over"] == 1 < row["bare_starts"]

    config = BenchmarkConfig(what="start", batch_size=(4,), size=(32,), workers=(0,))
    begin = time.perf_counter()
    taken = start.first_step(OURS, config, pictures)
    assert 0 < taken < time.perf_counter() - begin
    ends_at_once = dataclasses.replace(OURS, name="echo", python="/bin/echo")
    with pytest.raises(UserError, match=r"echo ended before its first step: .*--print-freq=1"):
        start.first_step(ends_at_once, config, pictures)
    fails = dataclasses.replace(OURS, name="ls", python="/bin/ls")
    with pytest.raises(UserError, match=r"ls does not start: .*ls: cannot access") as caught:
        start.finished(fails, ["/bin/ls", "/no/such"])
    assert "PYTHON" in str(caught.value.hint)


def test_an_epoch_is_train_py_as_it_is(pictures):
    flags = [f"--data-path={pictures}", "--batch-size=8", "--size=32", "--workers=0", "--rounds=1"]
    result, _ = benchmark("epoch", *flags, "--versus=paddle,torch", "--versus-python=/no/such")
    ours, stock, torch = result["rows"]
    assert "No such file" in torch["error"]
    images = len(list((pictures / "train").rglob("*.*")))
    for row in (ours, stock):
        assert row["minutes"] == pytest.approx(images / row["images_per_second"] / 60, abs=1e-3)


def test_evaluation_counts_the_same_hits_in_every_engine(pictures):
    flags = [f"--data-path={pictures}", "--batch-size=8", "--workers=0", "--rounds=1"]
    result, _ = benchmark("eval", *flags)
    rows = {row["peer"]: row for row in result["rows"]}
    assert rows["exported"]["top1"] == rows["dygraph"]["top1"]
    if importlib.util.find_spec("openvino") is None:
        assert "openvino is not installed" in rows["openvino"]["error"]
    assert result["images_per_second"] == rows["exported"]["images_per_second"]


def test_reading_is_measured_for_every_number_of_workers(pictures):
    flags = [f"--data-path={pictures}", "--batch-size=8", "--workers=0,1", "--rounds=1"]
    result, _ = benchmark("loader", *flags, "--size=32")
    assert [row["workers"] for row in result["rows"]] == [0, 1]
    assert all(row["images_per_second"] > 0 for row in result["rows"])
    assert all(row["ours_over"] == 1 for row in result["rows"])


def test_reading_is_compared_with_ours_that_reads_in_the_same_way(tmp_path):
    other = dataclasses.replace(OURS, name="build:x", root=tmp_path)
    config = BenchmarkConfig("loader", decode=("exact", "fast"), versus=("torch",))
    group = loader.peers(config, [other], tmp_path, {})
    seconds = {"ours, exact": 2.0, "build:x, exact": 4.0, "ours, fast": 1.0, "build:x, fast": 5.0}
    results = [
        Measured(p, {"images": 1}, [s], [s])
        for p, s in ((p, seconds.get(p.name, 6.0)) for p in group)
    ]
    found = {row["peer"]: row["ours_over"] for row in loader.compared(results)}
    assert found == {
        "ours, exact": 1, "build:x, exact": 2, "ours, fast": 1, "build:x, fast": 5, "torchvision": 3
    }  # fmt: skip


def test_inference_lists_every_engine_with_its_agreement(pictures, tmp_path):
    weights, spec = tmp_path / "best.pdparams", Preprocess(36, 32)
    model = network_by_formula("mobilenet_v3_small", pictures / "train", spec)
    info = ModelInfo("mobilenet_v3_small", 3, classes=("blue", "green", "red"), preprocess=spec)
    save_weights(weights, model.state_dict(), info)
    plot = tmp_path / "engines.png"
    flags = [f"--pretrained={weights}", f"--data-path={pictures}", "--size=32", "--threads=1"]
    flags += ["--batch-size=1,2", "--rounds=1", "--steps=5"]
    result, text = benchmark("infer", *flags, f"--plot={plot}")
    assert plot.read_bytes()[:4] == b"\x89PNG"
    columns = "| size | threads | ms, bs=1 | ms, bs=2 | agreement |"  # as PaddleClas has them
    assert columns in text and text.count("| onnxruntime |") == 2
    assert len(result["rows"]) == 2 * 10
    rows = {(r["engine"], r["precision"], r["file"]): r for r in result["rows"][:10]}
    ran = [key for key, row in rows.items() if "error" not in row]
    assert {
        ("dygraph", "f32", "best.pdparams"),
        ("paddle_inference", "f32", "inference.pdmodel"),
        ("paddle_inference", "f32", "inference.json"),
        ("onnxruntime", "f32", "inference.onnx"),
        ("onnxruntime", "int8", "inference.onnx"),
    } <= set(ran)
    for key in ran:
        latency = rows[key]["latency_ms"]
        assert 0 < latency["median"] <= latency["p90"] <= latency["p99"]
        assert rows[key]["megabytes"] > 1
        if key[1] == "f32":
            # Rounding of fp32 engines, relative to the logits' scale: engine.evaluate's limit.
            assert rows[key]["largest_difference"] <= AGREEMENT and rows[key]["agreement"] == 1
    size = {precision: rows["onnxruntime", precision, "inference.onnx"]["megabytes"]
            for precision in ("f32", "int8")}  # fmt: skip
    assert size["int8"] < size["f32"]  # of a network by formula, most weights stay in float
    assert all(row["error"] for key, row in rows.items() if key not in ran)
    missing = rows["openvino", "int8", "inference.onnx"].get("error", "")
    assert bool(missing) == is_missing("openvino")
    assert not missing or ("not installed" in missing and missing in text)
    assert {"median", "p90", "p99"} == result["latency_ms"].keys()


def is_missing(module):
    return importlib.util.find_spec(module) is None


def test_why_there_is_no_int8_file_is_told():
    """By quantize itself, whose process may end in any way."""
    about = (find_weights("mobilenet_v3_small.clothing10"), 32, Path(), lambda text: None)
    problems = infer.int8_files(BenchmarkConfig("infer"), OURS, *about)
    assert problems.keys() == {"onnxruntime", "openvino"}
    assert all("--data-path" in p for p in problems.values())
    config = BenchmarkConfig("infer", data_path="/no/such/folder")
    problems = infer.int8_files(config, OURS, *about)
    assert problems.keys() == {"onnxruntime", "openvino"}
    assert all("/no/such/folder" in p for p in problems.values())


def test_memory_is_that_of_the_process_not_of_its_parent(competitor):
    """Linux's getrusage would tell what this process has, Paddle and all."""
    (result,) = measure([competitor("a")], 1, 1, lambda text: None)
    assert 0 < result.peak_mib < peak_mib() / 2


def test_two_servers_are_driven_in_turns_and_answer_every_request():
    pytest.importorskip("fastapi")
    flags = ["--clients=1,3", "--seconds=0.5", "--rounds=1", "--workers=1"]
    result, _ = benchmark("serve", *flags)
    rows = result["rows"]
    assert [(row["peer"], row["clients"]) for row in rows] == [
        ("ours", 1), ("minimal FastAPI", 1), ("ours", 3), ("minimal FastAPI", 3),
    ]  # fmt: skip
    for row in rows:
        assert row["failed"] == 0 and row["images_per_second"] > 0
        assert row["latency_ms"]["median"] <= row["latency_ms"]["p90"] <= row["latency_ms"]["p99"]
    done = run_tool("tools/benchmark.py", "serve", "--versus-command=false {port}")
    assert done.returncode == 2 and "does not answer" in done.stderr
