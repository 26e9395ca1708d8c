"""Phones' runtimes against the checkpoint: each runs where its packages are installed."""

import importlib.util
import shutil

import numpy as np
import pytest
import yaml
from conftest import run_tool
from small_checkpoint import CLASSES, checkpoint, trained_probabilities

from ppcls_lite.deploy import mobile
from ppcls_lite.deploy.export import export_model
from ppcls_lite.deploy.ranking import softmax
from ppcls_lite.deploy.sidecar import read_sidecar
from ppcls_lite.errors import UserError

TOOL = "tools/export_mobile.py"
MODULES = {"mnn": ("MNN",), "ncnn": ("ncnn", "pnnx"), "paddle_lite": (),
           "tflite": ("ai_edge_litert",)}  # fmt: skip


def needs(format_):
    absent = [m for m in MODULES[format_] if importlib.util.find_spec(m) is None]
    if format_ == "paddle_lite" and shutil.which("paddle_lite_opt") is None:
        absent = ["paddle_lite_opt"]
    return pytest.param(
        format_, marks=pytest.mark.skipif(bool(absent), reason=f"not installed: {absent}")
    )


@pytest.fixture(scope="module", params=[True, False], ids=["softmax", "logits"])
def exported(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mobile")
    formats = ("pdmodel", "onnx")
    export_model(checkpoint(folder), folder / "out", formats=formats, softmax_inside=request.param)
    return folder


@pytest.mark.parametrize("format_", map(needs, MODULES))
def test_a_phones_file_answers_as_the_checkpoint(exported, format_, tmp_path):
    done = run_tool(TOOL, "--exported", exported / "out", "--format", format_, "--out", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "same class 8/8" in done.stdout
    sidecar = read_sidecar(tmp_path)
    assert {*sidecar.files, "inference.yml"} == {f.name for f in tmp_path.iterdir()}
    for name in sidecar.files:
        sidecar.check_file(tmp_path / name)
    (output,) = sidecar.outputs.values()
    assert sidecar.info.classes == CLASSES and sidecar.verification[format_]["passed"]
    # Other pictures than the tool's own check.
    images = np.random.RandomState(3).randn(5, 3, 64, 64).astype("float32")
    answers = mobile.FORMATS[format_].answers(tmp_path, exported / "out", images)
    answers = answers if output["softmax"] else softmax(answers)
    expected = trained_probabilities(exported, images)
    # float32 rounding: seen 6e-7; another network, mean or layout is off by 0.1 and more.
    np.testing.assert_allclose(answers, expected, atol=1e-5)


def test_a_file_that_was_not_exported_is_refused(exported, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(exported / "out", folder)
    file = folder / "inference.onnx"
    file.write_bytes(file.read_bytes()[:-4000])
    done = run_tool(TOOL, "--exported", folder, "--format", "mnn", "--out", tmp_path / "out")
    assert done.returncode == 2 and "SHA-256 differs" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_converter_that_gives_nothing_is_a_message(tmp_path):
    """Some end with status 0 whatever happened."""
    source = tmp_path / "inference.onnx"
    for script, said in (
        ("echo; echo no such operator", "no such operator"),
        ("exit 3", "status 3"),
    ):
        with pytest.raises(UserError, match=said):
            mobile._run("tool", ["sh", "-c", script], source, [tmp_path / "wanted"])


def test_what_is_missing_is_told_with_the_command_that_brings_it(exported, tmp_path, monkeypatch):
    empty = tmp_path / "empty"
    empty.mkdir()
    done = run_tool(TOOL, "--exported", empty, "--format", "mnn", "--out", tmp_path / "out")
    assert done.returncode == 2 and "inference.yml" in done.stderr and "export_model" in done.stderr
    done = run_tool(TOOL, "--exported", empty, "--format", "coreml", "--out", tmp_path / "out")
    assert done.returncode == 2 and "mnn, ncnn, paddle_lite, tflite" in done.stderr
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    for format_, hint in (("mnn", "requirements-mobile"), ("ncnn", "requirements-mobile"),
                          ("paddle_lite", "paddlelite==2.12")):  # fmt: skip
        with pytest.raises(UserError, match="not ") as told:
            mobile.FORMATS[format_].convert(exported / "out", tmp_path, 64)
        assert hint in told.value.hint


def test_the_check_tells_a_wrong_answer(exported, tmp_path, monkeypatch, capsys):
    """A format whose converter copies the file and whose runtime answers another class."""
    from ppcls_lite import cli
    from ppcls_lite.commands import export_mobile
    from ppcls_lite.deploy.settings import ExportMobileConfig

    def convert(export, folder, size):
        (folder / "x").write_bytes(b"x")

    def wrong(folder, export, images):
        return np.eye(10, dtype="float32")[: len(images)]

    made_up = mobile.Format(("inference.onnx",), ("x",), None, convert, wrong)
    monkeypatch.setitem(export_mobile.FORMATS, "mnn", made_up)
    flags = [f"--exported={exported / 'out'}", "--format=mnn", f"--out={tmp_path / 'new'}"]
    assert export_mobile.run(cli.parse(ExportMobileConfig, flags, "export_mobile.py")) == 1
    assert "do not deploy" in capsys.readouterr().err
    written = yaml.safe_load((tmp_path / "new/inference.yml").read_text())
    assert written["verification"]["mnn"]["passed"] is False
