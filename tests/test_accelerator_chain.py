"""The documents' commands, typed as written, in real processes; and what comes out of them."""

import json
import os
import re
import subprocess

import numpy as np
import pytest
from conftest import ROOT, run_tool, warm_python
from small_checkpoint import network_by_formula

from ppcls_lite.accelerator.pixels import CardPreprocess
from ppcls_lite.accelerator.simulator import load_planar
from ppcls_lite.commands import weights_convert
from ppcls_lite.data.preprocess import Preprocess, find_images
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.runtimes import OnnxRuntime
from ppcls_lite.weights.description import save_weights
from ppcls_lite.weights.settings import ConvertConfig

SPEC = Preprocess(36, 32)
CLASSES = ("blue", "green", "red")


@pytest.fixture(scope="module")
def chain(pictures, tmp_path_factory):
    """Runs tests/accelerator_chain.sh once."""
    work = tmp_path_factory.mktemp("chain")
    weights, foreign = work / "best.pdparams", work / "foreign.safetensors"
    model = network_by_formula("mobilenet_v3_small", pictures / "train", SPEC)
    info = ModelInfo("mobilenet_v3_small", 3, classes=CLASSES, preprocess=SPEC)
    save_weights(weights, model.state_dict(), info)
    config = ConvertConfig(
        str(weights), model="mobilenet_v3_small", to="torchvision", out=str(foreign)
    )
    assert weights_convert.run(config) == 0
    done = subprocess.run(
        ["sh", ROOT / "tests/accelerator_chain.sh", work, weights, foreign, pictures],
        capture_output=True, text=True, timeout=1200,
        env=os.environ | {"PYTHON": warm_python(work / "python")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return work


def rates(path):
    match = re.fullmatch(r"\[VACC\]:  top1_rate: ([\d.]+) top5_rate: ([\d.]+)\n", path.read_text())
    return tuple(map(float, match.groups()))


def outputs(folder):
    files = sorted(folder.glob("output_*.npz"))
    assert [f.name for f in files] == [f"output_{n:06d}.npz" for n in range(21)]
    arrays = [np.load(f)["output_0"] for f in files]
    assert all(a.dtype == np.float16 and a.shape == (1, 3) for a in arrays)
    return np.concatenate(arrays).astype(np.float32)


def test_text_and_npz_tell_the_same_accuracy(chain, pictures):
    """And it is what a count by hand says."""
    bundle = chain / "classification/mobilenetv3"
    text = (bundle / "output/mobilenet_v3_result.txt/vacl_cls_result.txt").read_text()
    firsts = re.findall(r"/(\w+)/\d+\.png: Relay top-0 id: (\d), .*class name: (\w+)\n", text)
    assert len(firsts) == 21
    assert all(["blue", "green", "red"][int(number)] == name for _, number, name in firsts)
    by_hand = round(100 * np.mean([folder == name for folder, _, name in firsts]), 3)
    assert rates(chain / "text.line") == rates(chain / "npz.line") == (by_hand, 100.0)
    again = bundle / "output/result.txt/vacl_cls_result.txt"  # of run.sh
    assert again.read_text() == text


def test_the_script_evaluates_any_other_val_set(chain, pictures, tmp_path):
    """Fewer pictures than the run before, a class missing, other names; a relative path."""
    for folder, numbers in (("green", (500, 502)), ("red", (501, 503, 505))):
        (tmp_path / "other" / folder).mkdir(parents=True)
        for number in numbers:
            source = pictures / "val" / folder / f"{number}.png"
            (tmp_path / "other" / folder / f"new {number}.png").write_bytes(source.read_bytes())
    bundle = chain / "classification/mobilenetv3"
    own = json.loads((bundle / "bundle.json").read_text())
    python = warm_python(tmp_path / "python")
    env = os.environ | {"PPCLS": f"{python} -m ppcls_lite", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["sh", bundle / "run.sh", "sim", "other"],
        cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    text = (bundle / "output/result.txt/vacl_cls_result.txt").read_text()
    firsts = re.findall(r"/(\w+)/new \d+\.png: Relay top-0 id: \d, .*class name: (\w+)\n", text)
    assert len(firsts) == 5
    by_hand = round(100 * np.mean([folder == name for folder, name in firsts]), 3)
    lines = re.findall(r"top1_rate: ([\d.]+) top5_rate", done.stdout)
    assert [float(line) for line in lines] == [by_hand, by_hand]
    assert json.loads((bundle / "bundle.json").read_text()) == own


def test_half_precision_answers_as_the_float_file_and_int8_nearly(chain, pictures):
    bundle = chain / "classification/mobilenetv3"
    network = OnnxRuntime(bundle / "onnx/mobilenet_v3_small.onnx")
    card = CardPreprocess(36, False, 32, SPEC.mean, SPEC.std)
    files = find_images(str(pictures / "val"))
    logits = np.concatenate([network(card(load_planar(path))) for path in files])
    full = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert set(full.argmax(axis=1)) == {0, 1, 2}
    # Half precision has 11 bits; the network adds the roundings of 160 layers up.
    np.testing.assert_allclose(outputs(bundle / "fp16"), full, atol=0.01)
    int8, second = outputs(bundle / "output"), outputs(bundle / "second")
    # Random weights suffer more from int8 than trained ones.
    assert 0.01 < np.abs(int8 - full).max() < 0.4
    assert not np.array_equal(int8, second)  # squashed


def test_the_remedied_graph_goes_through_both_sequences(chain, pictures):
    assert rates(chain / "remedied_text.line") == rates(chain / "remedied_npz.line")
    bundle, remedied = (chain / "classification" / n for n in ("mobilenetv3", "remedied"))
    full = outputs(bundle / "fp16")
    plain = np.abs(outputs(bundle / "output") - full).mean()
    # No outliers here, so little to gain: test_remedies.py has what they do where there are some.
    # Seen 0.95; a graph that lost its meaning is at several times the plain noise.
    assert np.abs(outputs(remedied / "output_npz") - full).mean() < 1.5 * plain
    built = [json.loads(f.read_text()) for f in (remedied / "deploy_weights").rglob("*.json")]
    first, second = (description["float_layers"] for description in built)
    assert first == second and len(first) == 3  # the last pooling, two more
    said = (chain / "quantize.txt").read_text()
    assert all(layer in said for layer in first)
    assert (remedied / "onnx/mobilenet_v3_small.onnx").read_bytes() == (
        chain / "int8/accelerator.onnx"
    ).read_bytes()
    kept = re.search(r"^int8 gives (\d+) of 12 cal", (chain / "remedied.txt").read_text(), re.M)
    assert int(kept[1]) > 0


def test_the_printout_has_vamps_lines_and_says_it_is_simulated(chain):
    for name, samples in (("speed", 4), ("profile", 21)):
        text = (chain / f"{name}.txt").read_text()
        assert text.startswith("*** simulated on a CPU")
        instances = "number of instances in each device"
        for line in (
            r"\[max_batch_size_\]: 22",
            r"input\[0\]: \[3,\d+,\d+\], dtype:u1",
            r"output\[0\]: \[1,3\], dtype:f2",
            rf"\*\*\* {instances}:8 \*\*\*\*",
            rf"- {instances}: 8",
            r"  devices: \[0\]",
            r"  batch size: 22",
            rf"  samples: {samples}",
            r"  forwad time \(s\): [\d.]+",
            r"  throughput \(qps\): [\d.e+]+",
            r"  ai utilize \(%\): not simulated",
            r"  e2e latency \(us\):\n    avg latency: \d+\n    min latency: \d+",
        ):
            assert re.search(rf"^{line}$", text, re.M), line


def test_results_lie_in_folders_that_end_in_sim(chain):
    folders = sorted((chain / "classification/mobilenetv3/deploy_weights").iterdir())
    assert [folder.name for folder in folders] == [
        "mobilenet_v3_small-fp16-none-3_32_32-sim",
        "mobilenet_v3_small-int8-percentile-3_32_32-sim",
        "mobilenet_v3_small_int8-sim",
    ]
    files = {file.name for folder in folders for file in folder.iterdir()}
    assert files == {"mobilenet_v3_small.onnx", "mobilenet_v3_small.json", "mod.onnx", "mod.json"}
    for description in (chain / "classification").rglob("*-sim/*.json"):
        assert "simulated" in json.loads(description.read_text())["note"]


def test_the_documents_exporter_and_float_layers(chain):
    folder = chain / "classification/torchvision"
    assert [f.name for f in (folder / "onnx").iterdir()] == ["mobilenet_v3_small_32.onnx"]
    (built,) = (folder / "deploy_weights").rglob("*.json")
    description = json.loads(built.read_text())
    assert description["float_layers"] == ["Conv.0"]
    assert description["calibrate_mode"] == "mse" and description["calibration_pictures"] == 12
    assert "input" not in description["thresholds"]  # the first layer's input stays as it is
    scores = outputs(folder / "output")
    labels = np.repeat([0, 1, 2], 7)
    top1 = round(100 * np.mean(scores.argmax(axis=1) == labels), 3)
    assert rates(chain / "foreign.line") == (top1, 100.0)


def test_a_model_that_was_not_built_and_another_size_are_messages(chain):
    bundle = chain / "classification/mobilenetv3"
    vdsp = bundle / "vdsp_params/vamp/torchvision-mobilenet_v3_small-vdsp_params.json"
    sim = ROOT / "tools/accelerator/sim.py"
    for prefix in ("deploy_weights/none/mod", "mod"):
        done = run_tool(sim, "profile", "-m", prefix, "--vdsp_params", vdsp)
        assert done.returncode == 2 and "sim.py build" in done.stderr
    edited = chain / "other.json"
    edited.write_text(vdsp.read_text().replace('"Value": 32', '"Value": 24'))
    prefix = bundle / "deploy_weights/mobilenet_v3_small_int8/mod"
    done = run_tool(sim, "profile", "-m", prefix, "--vdsp_params", edited)
    assert done.returncode == 2 and "takes 32 pixels, the parameter file crops 24" in done.stderr
    assert run_tool(sim, "fly").returncode == 2
    done = run_tool(
        ROOT / "tools/accelerator/export_timm_torchvision_model.py", "--model_library=timm",
        "--model_name=mobilenet_v3_small", "--pretrained_weights=x.pth",
    )  # fmt: skip
    assert done.returncode == 2 and "it is one of torchvision" in done.stderr
