"""`--test-only` with an export folder: every engine counts as the trained network does."""

import re
from importlib.util import find_spec

import pytest
from conftest import run_tool

from ppcls_lite.commands import validate
from ppcls_lite.deploy.export import export_model
from ppcls_lite.engine import evaluate
from ppcls_lite.engine.settings import ValidateConfig
from ppcls_lite.errors import UserError
from ppcls_lite.native import Unavailable

FIRST = "model_0.pdparams"  # of later epochs this network's logits are in the millions


@pytest.fixture(scope="module")
def folder(straight, tmp_path_factory):
    """softmax/ and logits/: exports of a trained network."""
    out, _ = straight
    folder = tmp_path_factory.mktemp("exports")
    export_model(out / FIRST, folder / "softmax")
    export_model(out / FIRST, folder / "logits", softmax_inside=False)
    return folder


def evaluated(pictures, capsys, **settings) -> tuple[str, dict[str, float]]:
    """What is printed, and the means of it."""
    sources = dict.fromkeys(settings, "command line")
    config = ValidateConfig(
        data_path=str(pictures), device="cpu", workers=0, batch_size=8, sources=sources, **settings
    )
    assert validate.run(config) == 0
    printed = capsys.readouterr().out
    last = printed[printed.rindex("Test:  [") :]
    means = {key: float(re.search(rf"{key}: \S+ \((\S+)\)", last)[1]) for key in ("loss", "acc1")}
    return printed, means | {"top1": float(re.search(r"Acc@1 (\S+)", printed)[1])}


@pytest.mark.parametrize("name", ["softmax", "logits"])
@pytest.mark.parametrize("engine", ["paddle_inference", "onnxruntime", "openvino"])
def test_every_engine_counts_as_the_trained_network_does(
    folder, straight, pictures, capsys, name, engine
):
    if engine == "openvino" and find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    weights = str(straight[0] / FIRST)
    _, expected = evaluated(pictures, capsys, pretrained=weights, eval_engine="dygraph")
    printed, found = evaluated(pictures, capsys, pretrained=str(folder / name), engine=engine)
    assert f"{folder / name} in {engine}: mobilenet_v3_small, 3 classes; 21 images" in printed
    assert found["top1"] == expected["top1"]
    # Four digits are printed, and the engines sum in different orders.
    assert found == pytest.approx(expected, abs=1.1e-4)


@pytest.mark.parametrize("kernels", [True, False])
def test_many_images_go_through_the_kernels_where_they_run(
    straight, pictures, capsys, monkeypatch, kernels
):
    """Either engine counts as the network's own layers do."""
    weights, used = str(straight[0] / FIRST), []
    _, expected = evaluated(pictures, capsys, pretrained=weights, eval_engine="dygraph")

    def noted(name):
        real = getattr(evaluate, name)
        monkeypatch.setattr(evaluate, name, lambda *given: used.append(name) or real(*given))

    def unavailable(*given):
        raise Unavailable("no compiler")

    for module in (validate, evaluate):
        monkeypatch.setattr(module, "FEWEST", 21)
    for name in ("kernel_forward", "exported_forward"):
        noted(name)
    if not kernels:
        monkeypatch.setattr(validate, "accelerate", unavailable)
    printed, found = evaluated(pictures, capsys, pretrained=weights)
    assert used == ["kernel_forward" if kernels else "exported_forward"]
    assert "evaluating with dygraph" not in printed
    assert found == pytest.approx(expected, abs=1.1e-4)


def test_the_command_takes_a_file_of_a_folder_and_says_which_engine_auto_took(folder, pictures):
    flags = (f"--data-path={pictures}", "--device=cpu", "--workers=0", "--confusion-matrix")
    done = run_tool("train.py", "--test-only", f"--pretrained={folder / 'softmax'}", *flags)
    assert done.returncode == 0, done.stderr
    assert "ms an image in runs of eight when this was exported" in done.stdout
    assert " * Acc@1 " in done.stdout
    assert (folder / "softmax" / "confusion_matrix.csv").is_file()
    file = folder / "logits" / "inference.onnx"
    done = run_tool("train.py", "--test-only", f"--pretrained={file}", *flags)
    assert done.returncode == 0 and f"{file} in onnxruntime" in done.stdout


def test_a_file_without_a_sidecar_is_tested_on_stated_assumptions(
    folder, pictures, tmp_path, capsys
):
    data = (folder / "softmax" / "inference.onnx").read_bytes()
    (tmp_path / "inference.onnx").write_bytes(data)
    printed, _ = evaluated(
        pictures, capsys, pretrained=str(tmp_path), val_resize_size=36, val_crop_size=32
    )
    assert "has no inference.yml" in printed and "3 classes" in printed
    assert "resize_size=36, crop_size=32" in printed


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"pretrained": "softmax", "engine": "dygraph"}, "no model for engine dygraph"),
        ({"pretrained": "best.pdparams", "engine": "openvino"}, "engine openvino cannot run"),
        ({"pretrained": "softmax", "eval_engine": "dygraph"}, "--eval-engine dygraph"),
        ({"pretrained": "softmax", "val_crop_size": 48}, "is for 32 pixels"),
        ({"pretrained": "softmax", "model": "mnasnet0_5"}, "holds mobilenet_v3_small"),
    ],
)
def test_what_cannot_be_is_told(folder, straight, pictures, capsys, settings, told):
    given = settings["pretrained"]
    path = (straight[0] if given.endswith("pdparams") else folder) / given
    with pytest.raises(UserError, match=told):
        evaluated(pictures, capsys, **settings | {"pretrained": str(path)})


def test_an_engine_without_test_only_is_refused(pictures):
    done = run_tool("train.py", f"--data-path={pictures}", "--engine=onnxruntime")
    assert done.returncode == 2 and "--test-only" in done.stderr
