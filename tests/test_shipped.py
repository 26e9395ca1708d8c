"""The trained networks that come with the package: offline, by tag, as their card says."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, run_tool

from ppcls_lite.engine.evaluate import dygraph_forward
from ppcls_lite.engine.norms import is_folded
from ppcls_lite.slim.network import network_of
from ppcls_lite.weights.find import find_weights
from ppcls_lite.weights.load import load_weights
from ppcls_lite.weights.tags import WEIGHTS

SHIPPED = [tag for tag in WEIGHTS if tag.shipped]
CLOTHES = [tag for tag in SHIPPED if tag.tag == "clothing10"]
IMAGENET = "tf_mobilenetv3_small_100.imagenet"
SHARED = ROOT.parent / "shared/data"
CLOTHING10 = ROOT.parent / "shared/data/clothing10"
CARD = (ROOT / "ppcls_lite/pretrained/README.md").read_text()


def fetched(home):
    """The files of a cache folder but for C++ that was compiled."""
    return [path for path in home.rglob("*") if path.is_file() and path.parent.name != "compiled"]


@pytest.mark.parametrize("tag", CLOTHES, ids=str)
def test_it_is_whole_and_knows_its_classes(tag, monkeypatch, tmp_path):
    monkeypatch.setenv("PPCLS_LITE_HOME", str(tmp_path / "nothing"))
    weights = find_weights(str(tag))
    assert weights.path.is_file() and weights.description["name"] == tag.model  # the hash agrees
    done = run_tool(
        "tools/predict.py", f"--pretrained={tag}", "--img-path=test_images/chelsea.jpg", "--json"
    )
    assert done.returncode == 0, done.stderr
    names = {answer["name"] for answer in json.loads(done.stdout)["topk"]}
    assert names <= {"dress", "hat", "longsleeve", "outwear", "pants", "shirt", "shoes", "shorts",
                     "skirt", "t-shirt"}  # fmt: skip
    assert fetched(tmp_path / "nothing") == []


@pytest.mark.parametrize("tag", CLOTHES, ids=str)
@pytest.mark.skipif(not CLOTHING10.is_dir(), reason="the images are not here")
def test_its_accuracy_is_the_one_on_its_card(tag):
    stated = re.search(rf"\| `{re.escape(str(tag))}` \|[^|]*\| ([\d.]+) \|", CARD).group(1)
    done = run_tool(
        "train.py", "--test-only", f"--data-path={CLOTHING10}", f"--pretrained={tag}",
        "--device=cpu", "--batch-size=32",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = re.search(r"\* Acc@1 ([\d.]+)", done.stdout).group(1)
    # One picture of 341 may fall the other way with another build of the kernels.
    assert abs(float(found) - float(stated)) <= 1.5 / 341


def test_every_shipped_file_has_a_tag():
    folder = Path(ROOT / "ppcls_lite/pretrained")
    files = {path.name for path in folder.glob("*.safetensors")}
    assert files == {tag.file_name for tag in SHIPPED}


def test_the_network_of_imagenet_knows_a_cat(monkeypatch, tmp_path):
    monkeypatch.setenv("PPCLS_LITE_HOME", str(tmp_path / "nothing"))
    done = run_tool(
        "tools/predict.py", f"--pretrained={IMAGENET}", "--img-path=test_images/chelsea.jpg",
        "--json", "--topk=3",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    names = {answer["name"] for answer in json.loads(done.stdout)["topk"]}
    assert names & {"tabby", "tiger cat", "Egyptian cat"}
    assert fetched(tmp_path / "nothing") == []
    licence = (ROOT / f"ppcls_lite/pretrained/{IMAGENET}.LICENSE.txt").read_text()
    assert "MIT License" in licence and "WPI" in licence


@pytest.mark.skipif(not (SHARED / "imagenet_weights").is_dir(), reason="its source is not here")
def test_the_network_of_imagenet_answers_as_the_file_it_is_from():
    source = find_weights(str(SHARED / "imagenet_weights/mobilenet_v3_small_int8_float_io.tflite"))
    shipped = find_weights(IMAGENET)
    assert source.sha256 in CARD and shipped.info == source.info
    images = np.random.default_rng(0).normal(size=(8, 3, 224, 224)).astype(np.float32)
    answers = []
    for weights in (source, shipped):
        model = network_of(weights.info)
        load_weights(model, weights)
        assert is_folded(model)  # training on it has to see that
        answers.append(dygraph_forward(model)(images))
    # float16 has 11 bits: 2 ** -12 of each weight, over 50 layers.
    assert np.abs(answers[0] - answers[1]).max() < 0.02 * np.abs(answers[0]).max()


@pytest.mark.skipif(not (SHARED / "imagenet200").is_dir(), reason="the images are not here")
def test_the_accuracy_of_the_network_of_imagenet_is_the_one_on_its_card():
    stated = re.search(r"([\d.]+) % of 200 images", CARD).group(1)
    done = run_tool(
        "train.py", "--test-only", f"--data-path={SHARED / 'imagenet200'}",
        f"--pretrained={IMAGENET}", "--device=cpu", "--batch-size=50",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = re.search(r"\* Acc@1 ([\d.]+)", done.stdout).group(1)
    assert abs(100 * float(found) - float(stated)) <= 0.51  # one picture of 200
