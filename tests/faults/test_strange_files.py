"""Sidecars and settings as strangers write them: read, or refused in one message."""

import copy
import json
import math

import pytest
import yaml
from conftest import run_tool

from ppcls_lite.deploy.sidecar import Sidecar, read_sidecar
from ppcls_lite.errors import UserError
from ppcls_lite.model_info import ModelInfo

STRANGE = [None, True, -1, 0, 3, 10**12, 1.5, math.nan, math.inf, "", "x" * 5000, [], [[]], {},
           {"a": 1}, {3: None}]  # fmt: skip


def leaves(value, place=()):
    """The place of every value in nested dicts and lists."""
    if place:
        yield place
    if isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(child, (*place, key))


def changed(value, place, new):
    """A copy with another value at one place; without it where `new` is Ellipsis."""
    value = copy.deepcopy(value)
    part = value
    for key in place[:-1]:
        part = part[key]
    if new is ...:
        del part[place[-1]]
    else:
        part[place[-1]] = new
    return value


def check_read(folder, text):
    """Reads it as a sidecar: the answer is a Sidecar or one short message."""
    (folder / "inference.yml").write_text(text, encoding="utf-8")
    try:
        sidecar = read_sidecar(folder)
    except UserError as error:
        assert len(error.message) < 1500 and "\n" not in error.message
        return None
    assert isinstance(sidecar, Sidecar)
    return sidecar


def test_a_sidecar_with_any_value_changed_is_read_or_refused(exported, tmp_path):
    good = yaml.safe_load((exported / "inference.yml").read_text(encoding="utf-8"))
    assert check_read(tmp_path, yaml.safe_dump(good)) is not None
    places = list(leaves(good))
    refused = 0
    for number, place in enumerate(places):
        for new in (..., STRANGE[number % len(STRANGE)], STRANGE[-number % 7]):
            refused += check_read(tmp_path, json.dumps(changed(good, place, new))) is None
    assert refused > len(places) / 4


@pytest.mark.parametrize(
    "place, new",
    [(("model", "num_classes"), 10**12), (("preprocess", "crop_size"), 10**9),
     (("preprocess", "mean"), [0, math.nan, 0]), (("preprocess", "std"), [1, math.inf, 1]),
     (("preprocess", "std"), [1, 0, 1]), (("preprocess", "resize_size"), "256"),
     (("preprocess", "crop_size"), "x" * 5000),
     (("classes",), [1, 2, 3]), (("input", "shape"), [3, 64]), (("files", "inference.onnx"), "x"),
     (("outputs", "inference.onnx", "softmax"), "yes"), (("version",), "x" * 10**6)],
)  # fmt: skip
def test_these_values_are_refused(exported, tmp_path, place, new):
    good = yaml.safe_load((exported / "inference.yml").read_text(encoding="utf-8"))
    assert check_read(tmp_path, yaml.safe_dump(changed(good, place, new))) is None


def test_aliases_and_depth_are_refused_wherever_yaml_is_read(exported, tmp_path):
    for text, words in (
        ("a: &a [1]\nb: *a\n", "alias"),
        ("a: " + "[" * 60 + "]" * 60 + "\n", "levels"),
    ):
        sidecar, settings = tmp_path / "inference.yml", tmp_path / "my.yaml"
        sidecar.write_text(text)
        settings.write_text(text)
        with pytest.raises(UserError, match=words):
            read_sidecar(tmp_path)
        for argv in (
            ("train.py", "-c", settings),
            ("tools/accelerator/lint.py", settings),
            ("tools/predict.py", "--pretrained", tmp_path, "--img-path", "test_images"),
        ):
            done = run_tool(*argv)
            assert done.returncode == 2 and words in done.stderr, argv
            assert "Traceback" not in done.stderr and len(done.stderr) < 1000


def test_large_and_binary_files_are_refused(tmp_path):
    (tmp_path / "inference.yml").write_bytes(b"a: " + b"x" * 2**24)
    with pytest.raises(UserError, match="bytes; allowed"):
        read_sidecar(tmp_path)
    (tmp_path / "inference.yml").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(UserError, match="not UTF-8"):
        read_sidecar(tmp_path)


def test_countless_values_are_refused_before_they_are_all_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("ppcls_lite.safe_yaml.MOST", 1000)
    (tmp_path / "inference.yml").write_text("version: 1\n# x\na: [" + "1, " * 900 + "1]\n")
    with pytest.raises(UserError, match="model"):  # read, and found to be none
        read_sidecar(tmp_path)
    (tmp_path / "inference.yml").write_text("a:\n" + "- [1, 2, 3]\n" * 300_000)
    with pytest.raises(UserError, match="more than 1,000 values"):
        read_sidecar(tmp_path)


def test_a_file_that_the_sidecar_does_not_know_is_refused(exported, tmp_path):
    sidecar = read_sidecar(exported)
    (tmp_path / "other.onnx").write_bytes(b"x")
    with pytest.raises(UserError, match="not the file that"):
        sidecar.check_file(tmp_path / "other.onnx")


def test_what_is_written_is_read_back():
    info = ModelInfo("x", 3, {"width": 0.5}, ("a", "b", "c"), quant_skip=("d",))
    assert ModelInfo.from_dict(info.to_dict()) == info
    assert ModelInfo.from_dict(json.loads(json.dumps(info.to_dict()))) == info
