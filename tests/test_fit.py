"""Whole pictures: --fit pad and squash against Pillow's own, in a run and whatever comes of it."""

import json

import numpy as np
import pytest
from conftest import run_tool, train
from golden.make_resize_golden import noise
from PIL import Image, ImageOps

from ppcls_lite.data.decode import load_image, open_image
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.deploy.sidecar import read_sidecar
from ppcls_lite.engine.distributed import World
from ppcls_lite.engine.resolve import resolve
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.errors import UserError
from ppcls_lite.weights.find import find_weights


@pytest.mark.parametrize("size", [(400, 936), (93, 40), (50, 50), (1000, 2), (31, 33)], ids=str)
def test_the_whole_picture_is_seen(size, tmp_path):
    image = Image.fromarray(noise(size[1], size[0]))
    image.save(tmp_path / "x.jpg", quality=90)
    image = load_image(tmp_path / "x.jpg")
    squashed = np.asarray(image.resize((64, 64), Image.Resampling.BILINEAR))
    for picture in (image, open_image(tmp_path / "x.jpg")):
        assert np.array_equal(Preprocess(64, 64, fit="squash").pixels(picture), squashed)
        padded = Preprocess(64, 64, fit="pad").pixels(picture)
        w, h = (max(64 * side // max(size), 1) for side in size)
        inside = image.resize((w, h), Image.Resampling.BILINEAR)
        left, top = (64 - w) // 2, (64 - h) // 2
        expected = ImageOps.expand(inside, (left, top, 64 - w - left, 64 - h - top))
        assert np.array_equal(padded, np.asarray(expected))


def test_files_of_the_usual_fit_are_as_they_were_and_others_are_refused():
    assert "fit" not in Preprocess().to_dict()
    pad = Preprocess(64, 64, fit="pad")
    assert Preprocess.from_dict(pad.to_dict()) == pad
    with pytest.raises(UserError, match="fit: 'stretch' is not one of crop, pad, squash"):
        Preprocess(fit="stretch")


def test_a_run_keeps_it_and_so_does_its_export(pictures, tmp_path):
    out = tmp_path / "out"
    done = train(pictures, out, "--fit=squash", "--epochs=1")
    assert done.returncode == 0, done.stderr
    assert find_weights(out / "best.pdparams").info.preprocess.fit == "squash"
    # Whole pictures unless a size is given; weights hand their fit on.
    best = str(out / "best.pdparams")
    for flags, expected in (
        ({"fit": "pad"}, ("pad", 224)),
        ({"fit": "pad", "val_resize_size": 240}, ("pad", 240)),
        ({"pretrained": best}, ("squash", 224)),
        ({"pretrained": best, "fit": "crop"}, ("crop", 256)),
    ):
        given = TrainConfig(**flags, sources=dict.fromkeys(flags, "a test"))
        config = resolve(given, World(0, 1, "cpu")).config
        assert (config.fit, config.val_resize_size) == expected
    inference = tmp_path / "inference"
    argv = [f"--pretrained={out / 'best.pdparams'}", f"--save-inference-dir={inference}"]
    done = run_tool("tools/export_model.py", *argv, "--format=onnx")
    assert done.returncode == 0, done.stderr
    spec = read_sidecar(inference).info.preprocess
    assert (spec.fit, spec.resize_size, spec.crop_size) == ("squash", 36, 32)
    words = (inference / "inference.yml").read_text()
    assert "both sides 36" in words
    answers = {}
    for name, model in (("paddle", out / "best.pdparams"), ("onnx", inference)):
        picture = next((pictures / "val/red").iterdir())
        done = run_tool(
            "tools/predict.py", f"--pretrained={model}", f"--img-path={picture}", "--json"
        )
        answers[name] = json.loads(done.stdout.splitlines()[0])
    assert answers["paddle"]["topk"][0] == pytest.approx(answers["onnx"]["topk"][0], abs=1e-4)
