"""Network files of strangers are loaded by a child first; files that are vouched for are not."""

import shutil
import signal

import numpy as np
import pytest
from conftest import ROOT

from ppcls_lite.deploy import first_load
from ppcls_lite.deploy.predictor import Predictor
from ppcls_lite.errors import UserError

# In the place of ONNX Runtime, in the child alone: it dies as a parser does that overruns a buffer.
CRASH = "import os, signal\nos.kill(os.getpid(), signal.{})\n"


@pytest.fixture
def stranger(exported, tmp_path):
    """The same network without anything that vouches for it."""
    return shutil.copy(exported / "inference.onnx", tmp_path / "x.onnx")


def test_a_file_without_a_sidecar_is_tried_in_a_child_and_answers(stranger, exported, monkeypatch):
    tried = []
    real = first_load.subprocess.run

    def run(argv, **options):
        tried.append(argv)
        return real(argv, **options)

    monkeypatch.setattr(first_load.subprocess, "run", run)
    images = np.zeros((1, 3, 64, 64), np.float32)
    known = Predictor(exported, "onnxruntime").probabilities(images)
    assert tried == []  # its SHA-256 stands in the sidecar: nothing is slower
    assert np.array_equal(Predictor(stranger, "onnxruntime").probabilities(images), known)
    assert len(tried) == 1


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT"])
def test_an_engine_that_crashes_is_one_message(stranger, tmp_path, monkeypatch, name):
    assert hasattr(signal, name)
    (tmp_path / "stub").mkdir()
    (tmp_path / "stub/onnxruntime.py").write_text(CRASH.format(name))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "stub"))
    with pytest.raises(UserError, match=rf"onnxruntime crashed while it read .*x\.onnx \({name}\)"):
        Predictor(stranger, "onnxruntime")


def test_what_an_engine_says_of_a_bad_file_is_passed_on(stranger):
    # A graph without a node: a sound message that no engine runs.
    with open(stranger, "wb") as file:
        file.write(bytes([0x08, 0x08, 0x3A, 0x04, 0x12, 0x02, 0x67, 0x67]))
    with pytest.raises(UserError, match="ONNX Runtime cannot read"):
        Predictor(stranger, "onnxruntime")


def test_a_picture_named_onnx_is_no_network(stranger):
    shutil.copy(ROOT / "test_images/chelsea.jpg", stranger)
    with pytest.raises(UserError, match=r"is no \.onnx file"):
        Predictor(stranger, "onnxruntime")
