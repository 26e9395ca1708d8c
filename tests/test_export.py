"""Exported files, loaded in their real runtimes and held against the trained network."""

import hashlib
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import paddle
import pytest
import yaml
from conftest import REAL_POPEN, ROOT, run_tool
from paddle import inference
from PIL import Image
from small_checkpoint import CLASSES, checkpoint, network, trained_probabilities

from ppcls_lite import create_model
from ppcls_lite.commands.export import run
from ppcls_lite.deploy import export, verify
from ppcls_lite.deploy.choose import ENGINES_OF_SUFFIX
from ppcls_lite.deploy.export import export_model
from ppcls_lite.deploy.settings import ExportConfig
from ppcls_lite.errors import UserError
from ppcls_lite.graph import StaticGraph
from ppcls_lite.runtimes import FILE_RUNTIMES, PaddleInferenceRuntime, in_batches


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """All formats with softmax inside, written once by the command."""
    folder = tmp_path_factory.mktemp("export")
    weights = checkpoint(folder)
    config = ExportConfig(pretrained=str(weights), save_inference_dir=str(folder / "all"))
    with pytest.MonkeyPatch.context() as patch:
        # Paddle writes Python's stack into .pdmodel, and that of a fork is longer.
        patch.setattr(subprocess, "Popen", REAL_POPEN)
        assert run(config) == 0
    return folder / "all"


def batch(size: int = 64) -> np.ndarray:
    return np.random.RandomState(1).randn(5, 3, size, size).astype("float32")


def run_paddle_inference(model_file: Path, images: np.ndarray) -> np.ndarray:
    config = inference.Config(str(model_file), str(model_file.with_suffix(".pdiparams")))
    config.disable_gpu()
    config.disable_glog_info()
    predictor = inference.create_predictor(config)
    predictor.get_input_handle("input").copy_from_cpu(images)
    predictor.run()
    return predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()


def run_onnxruntime(model_file: Path, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(model_file), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": images})[0]


def test_the_folder_holds_the_documented_files_and_nothing_else(exported):
    assert sorted(path.name for path in exported.iterdir()) == [
        "inference.json",
        "inference.onnx",
        "inference.pdiparams",
        "inference.pdiparams.info",
        "inference.pdmodel",
        "inference.yml",
    ]


@pytest.mark.parametrize(
    ("name", "run_file"),
    [
        ("inference.pdmodel", run_paddle_inference),
        ("inference.json", run_paddle_inference),
        ("inference.onnx", run_onnxruntime),
    ],
)
def test_every_file_answers_like_the_trained_network(exported, name, run_file):
    images = batch()
    expected = trained_probabilities(exported.parent, images)
    answer = run_file(exported / name, images)
    assert answer.shape == (5, 10)
    # fp32 engines differ in the order of their sums; the issue allows 1e-5.
    assert np.abs(answer - expected).max() <= 1e-5
    assert (answer.argmax(1) == expected.argmax(1)).all()


def test_a_fixed_batch_stands_in_every_file_and_any_number_of_pictures_is_answered(tmp_path):
    sidecar = export_model(checkpoint(tmp_path), tmp_path / "out", batch=2)
    assert sidecar.input["shape"] == [2, 3, 64, 64]
    assert all(row["passed"] for row in sidecar.verification["engines"])
    (value,) = onnx.load(tmp_path / "out/inference.onnx").graph.input
    assert [d.dim_value for d in value.type.tensor_type.shape.dim] == [2, 3, 64, 64]
    expected = trained_probabilities(tmp_path, batch())
    for name in ("inference.pdmodel", "inference.json", "inference.onnx"):
        runtime = FILE_RUNTIMES[ENGINES_OF_SUFFIX[Path(name).suffix][0]](tmp_path / "out" / name)
        assert runtime.batch == 2, name
        np.testing.assert_allclose(in_batches(runtime, batch()), expected, atol=1e-5)
    with pytest.raises(UserError, match="any batch size"):
        ExportConfig(pretrained="x", batch=2, triton_repository="y")


def test_the_onnx_file_is_valid_has_the_asked_opset_and_a_free_batch_size(exported):
    model = onnx.load(exported / "inference.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 14)]
    (tensor,) = model.graph.input
    assert tensor.name == "input"
    batch_size, *rest = tensor.type.tensor_type.shape.dim
    assert batch_size.dim_param and [d.dim_value for d in rest] == [3, 64, 64]


def test_the_sidecar_says_how_to_feed_the_files(exported):
    sidecar = yaml.safe_load((exported / "inference.yml").read_text(encoding="utf-8"))
    weights = (exported.parent / "best.pdparams").read_bytes()
    assert sidecar["version"] == 1
    assert sidecar["model"]["name"] == "mobilenet_v3_small"
    assert sidecar["model"]["overrides"] == {"width": 0.5}
    assert sidecar["model"]["source"]["sha256"] == hashlib.sha256(weights).hexdigest()
    assert sidecar["classes"] == list(CLASSES)
    assert sidecar["preprocess"] == {
        "resize_size": 72,
        "crop_size": 64,
        "interpolation": "bilinear",
        "mean": [0.4, 0.5, 0.6],
        "std": [0.2, 0.25, 0.3],
    }
    assert sidecar["input"] == {"name": "input", "shape": [-1, 3, 64, 64], "dtype": "float32"}
    session = onnxruntime.InferenceSession(exported / "inference.onnx")
    assert sidecar["outputs"]["inference.onnx"] == {
        "name": session.get_outputs()[0].name,
        "softmax": True,
    }
    for name, entry in sidecar["files"].items():
        data = (exported / name).read_bytes()
        assert entry["sha256"] == hashlib.sha256(data).hexdigest()
        assert entry["bytes"] == len(data)
    assert sidecar["files"]["inference.onnx"]["opset"] == 14
    checks = sidecar["verification"]
    assert checks["images"] == 8
    ran = {(row["file"], row["engine"]) for row in checks["engines"] if row["passed"]}
    assert {("inference.pdmodel", "paddle_inference"), ("inference.onnx", "onnxruntime")} <= ran
    assert (("inference.onnx", "openvino") in ran) == bool(importlib.util.find_spec("openvino"))
    passed = [row for row in checks["engines"] if row["passed"]]
    assert all(row["ms"] > 0 and row["ms_in_eight"] > 0 for row in passed)
    for name in ("inference.pdmodel", "inference.json", "inference.onnx"):
        assert checks["files"][name]["same_top1"] == 8
        assert checks["files"][name]["max_abs_diff"] <= checks["limit"] == 1e-5


def test_the_paddle2onnx_command_of_the_documents_works_on_the_output(exported, tmp_path):
    target = tmp_path / "model.onnx"
    command = [Path(sys.executable).parent / "paddle2onnx", "--model_dir", exported]
    command += ["--model_filename", "inference.pdmodel"]
    command += ["--params_filename", "inference.pdiparams"]
    command += ["--save_file", target, "--opset_version", "10", "--enable_onnx_checker", "True"]
    # Its optimizer would start pip for packages it misses; tests install nothing.
    environment = os.environ | {"PIP_NO_INDEX": "1"}
    process = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    images = batch()
    difference = run_onnxruntime(target, images) - trained_probabilities(exported.parent, images)
    assert np.abs(difference).max() <= 1e-5  # as above


def test_logits_another_size_and_one_format(exported, tmp_path):
    sidecar = export_model(
        exported.parent / "best.pdparams",
        tmp_path,
        formats=["onnx"],
        opset_version=14,
        image_size=96,
        softmax_inside=False,
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inference.onnx", "inference.yml"]
    # 72 : 64 = 108 : 96, the same share of the picture
    assert (sidecar.info.preprocess.resize_size, sidecar.info.preprocess.crop_size) == (108, 96)
    assert onnx.load(tmp_path / "inference.onnx").opset_import[0].version == 14
    images = batch(96)
    expected = network(exported.parent)(paddle.to_tensor(images)).numpy()
    answer = run_onnxruntime(tmp_path / "inference.onnx", images)
    # Logits: rounding grows with their scale.
    assert np.abs(answer - expected).max() <= 1e-5 * np.abs(expected).max()
    assert not sidecar.outputs["inference.onnx"]["softmax"]


def test_a_file_that_disagrees_ends_with_status_1_and_says_so(
    exported, tmp_path, monkeypatch, capsys
):
    def graph_of_another_network(model, image_size, softmax_inside, batch):
        other = create_model("mobilenet_v3_small", 10, width=0.5)
        other.set_state_dict({k: v.flip(0) for k, v in model.state_dict().items()})
        return StaticGraph(other, image_size, softmax_inside, batch)

    monkeypatch.setattr(export, "StaticGraph", graph_of_another_network)
    weights = str(exported.parent / "best.pdparams")
    config = ExportConfig(pretrained=weights, save_inference_dir=str(tmp_path), format="json")
    assert run(config) == 1
    assert "inference.json disagrees" in capsys.readouterr().err
    assert (tmp_path / "inference.json").is_file()
    sidecar = yaml.safe_load((tmp_path / "inference.yml").read_text(encoding="utf-8"))
    assert sidecar["verification"]["files"]["inference.json"]["passed"] is False


@pytest.mark.slow  # exports
def test_exporting_leaves_a_training_network_as_it_was(tmp_path):
    model = create_model("mobilenet_v3_small", 10, width=0.5)
    model.features[0].eval()  # a frozen part stays frozen, the rest stays in training
    forward = model.forward
    modes = [layer.training for layer in model.sublayers(include_self=True)]
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    StaticGraph(model, 64).save(tmp_path / "inference")
    assert model.forward == forward
    assert [layer.training for layer in model.sublayers(include_self=True)] == modes
    for name, value in model.state_dict().items():
        assert (value.numpy() == before[name]).all(), name
    model(paddle.to_tensor(batch())).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if not p.stop_gradient)


@pytest.mark.slow  # exports, twice
def test_a_graph_saved_again_holds_the_weights_of_that_moment(tmp_path):
    model = create_model("mobilenet_v3_small", 10, width=0.5)
    graph = StaticGraph(model, 64)
    for round_ in range(2):
        model.train()
        for p in [p for p in model.parameters() if not p.stop_gradient]:
            p.set_value(p * 1.01)
        model(paddle.to_tensor(batch()))  # moves the batch-norm statistics
        graph.save(tmp_path / str(round_))
        answer = PaddleInferenceRuntime(tmp_path / f"{round_}.json")(batch())
        model.eval()
        expected = model(paddle.to_tensor(batch())).numpy()
        # Rounding grows with the scale of the logits.
        assert np.abs(answer - expected).max() <= 1e-5 * np.abs(expected).max()


def test_the_weights_file_serves_both_paddle_formats(exported, tmp_path):
    """Also when other networks were built before in the process that exports."""
    create_model("mobilenet_v3_small", 10)
    weights = exported.parent / "best.pdparams"
    sidecar = export_model(weights, tmp_path, formats=["json"])
    told = yaml.safe_load((exported / "inference.yml").read_text(encoding="utf-8"))
    assert sidecar.files["inference.pdiparams"] == told["files"]["inference.pdiparams"]


def test_an_export_ended_by_sigterm_leaves_nothing(exported, tmp_path):
    command = [sys.executable, "tools/export_model.py", "--save-inference-dir", str(tmp_path)]
    command += ["--pretrained", str(exported.parent / "best.pdparams"), "--format", "json"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob(".export-*/*")):  # one without a file is about to have an owner
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.terminate()
    assert process.wait() == 143, process.stderr.read()
    assert list(tmp_path.iterdir()) == []


def test_blanks_between_formats_are_allowed(exported, tmp_path):
    weights = str(exported.parent / "best.pdparams")
    config = ExportConfig(
        pretrained=weights, save_inference_dir=str(tmp_path), format="json, pdmodel"
    )
    assert run(config) == 0
    assert (tmp_path / "inference.json").is_file() and (tmp_path / "inference.pdmodel").is_file()


def test_an_interrupted_export_leaves_the_old_one_untouched(exported, tmp_path, monkeypatch):
    weights = exported.parent / "best.pdparams"
    export_model(weights, tmp_path, formats=["json"])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "verify", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_model(weights, tmp_path, formats=["json"], image_size=32)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"formats": ["onxx"]}, "did you mean onnx"),
        ({"formats": []}, "no format given"),
        ({"opset_version": 5}, "--opset-version 5; allowed: 7 to 21"),
        ({"formats": ["onnx"]}, "holds inference.pdmodel, inference.json of an earlier export"),
    ],
)
def test_impossible_requests_are_named_before_anything_is_written(exported, arguments, message):
    before = (exported / "inference.yml").read_bytes()
    with pytest.raises(UserError, match=message):
        export_model(exported.parent / "best.pdparams", exported, **arguments)
    assert (exported / "inference.yml").read_bytes() == before


def test_weights_without_a_json_need_only_the_name_of_the_network(exported, tmp_path):
    """Step6's files are bare; K is in the weights."""
    model = create_model("mnasnet0_5", 7)
    bare = tmp_path / "bare.pdparams"
    paddle.save(model.state_dict(), str(bare))
    sidecar = export_model(
        bare, tmp_path / "out", formats=["json"], image_size=32, model="mnasnet0_5"
    )
    assert (sidecar.info.name, sidecar.info.num_classes) == ("mnasnet0_5", 7)


def test_the_command_prints_only_its_report(exported, tmp_path):
    """paddle2onnx and Paddle write on the terminal from C++: a real process shows it."""
    process = run_tool(
        "tools/export_model.py", "--pretrained", exported.parent / "best.pdparams",
        "--save-inference-dir", tmp_path, fresh=True,
    )  # fmt: skip
    assert process.returncode == 0
    assert process.stderr == ""
    first, *_ = process.stdout.splitlines()
    assert first.startswith("mobilenet_v3_small, 10 classes, 64 x 64 pixels")
    assert "Paddle2ONNX" not in process.stdout
    assert f"tools/predict.py --pretrained {tmp_path}" in process.stdout
    again = yaml.safe_load((tmp_path / "inference.yml").read_text())
    told = yaml.safe_load((exported / "inference.yml").read_text())
    for name in set(told["files"]) - {"inference.json"}:  # Paddle counts a process's layers there
        assert again["files"][name] == told["files"][name]  # a repeated export has the same bytes


def test_check_pictures_are_pictures():
    pictures = verify.check_images()
    assert len(pictures) == verify.CHECK_IMAGES
    assert all(isinstance(picture, Image.Image) for picture in pictures)
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)
