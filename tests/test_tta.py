"""`--tta flip`: the mean of the logits of a picture and of its mirror image, in every engine."""

import json
import re

import numpy as np
import paddle
import pytest
from conftest import ROOT
from PIL import Image, ImageOps
from scipy.special import log_softmax
from small_checkpoint import CLASSES, INFO, network

from ppcls_lite.commands import predict, validate
from ppcls_lite.data.decode import load_image
from ppcls_lite.deploy.predictor import Predictor
from ppcls_lite.deploy.settings import PredictConfig
from ppcls_lite.engine.settings import TrainConfig, ValidateConfig
from ppcls_lite.errors import UserError

FILES = {
    "dygraph": "best.pdparams",
    "paddle_inference": "all/inference.pdmodel",
    "onnxruntime": "all/inference.onnx",
    "openvino": "all/inference.onnx",
}
PHOTOS = [ROOT / "test_images" / name for name in ("chelsea.jpg", "coffee.jpg")]


@pytest.fixture(scope="module")
def wanted(exported):
    """Log-probabilities [2, 10] of the photographs: the mean logits of both sides, and of one."""
    model = network(exported.parent)
    images = INFO.preprocess([load_image(file) for file in PHOTOS])
    with paddle.no_grad():
        one, other = (
            model(paddle.to_tensor(x.copy())).numpy() for x in (images, images[..., ::-1])
        )
    return log_softmax((one + other) / 2, axis=1), log_softmax(one, axis=1)


@pytest.mark.parametrize("engine", FILES)
def test_every_engine_takes_the_mean_of_both_sides(exported, wanted, engine):
    pytest.importorskip(engine if engine in ("onnxruntime", "openvino") else "paddle")
    path = exported.parent / FILES[engine]
    flipped, plain = (
        [[p.prob for p in sorted(r, key=lambda p: p.class_id)] for r in
         Predictor(path, engine, tta=tta)(PHOTOS, topk=10)]
        for tta in ("flip", "none")
    )  # fmt: skip
    np.testing.assert_allclose(flipped, np.exp(wanted[0]), atol=1e-5)
    np.testing.assert_allclose(plain, np.exp(wanted[1]), atol=1e-5)
    assert np.abs(np.array(flipped) - plain).max() > 1e-3


def test_predict_answers_a_picture_and_its_mirror_image_alike(exported, tmp_path, capsys):
    side = INFO.preprocess.crop_size
    square = ImageOps.fit(Image.open(PHOTOS[0]), (side + 8, side + 8))
    square.save(tmp_path / "a.png")
    ImageOps.mirror(square).save(tmp_path / "b.png")

    def answers(tta):
        config = PredictConfig(pretrained=str(exported), img_path=str(tmp_path), json=True,
                               engine="onnxruntime", tta=tta)  # fmt: skip
        assert predict.run(config) == 0
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return [[p["prob"] for p in row["topk"]] for row in rows]

    one, other = answers("flip")
    assert one == pytest.approx(other, abs=1e-6)
    one, other = answers("none")
    assert one != pytest.approx(other, abs=1e-4)


@pytest.mark.parametrize("engine", ["dygraph", "exported", "folder"])
def test_an_evaluation_counts_the_mean(exported, wanted, engine, tmp_path, capsys):
    for name in CLASSES:
        (tmp_path / "val" / name).mkdir(parents=True)
    for file in PHOTOS:  # both are of class 3
        (tmp_path / "val" / CLASSES[3] / file.name).write_bytes(file.read_bytes())
    network = exported if engine == "folder" else exported.parent / "best.pdparams"
    how = {} if engine == "folder" else {"eval_engine": engine}
    for tta, log_probs in zip(("flip", "none"), wanted, strict=True):
        config = ValidateConfig(data_path=str(tmp_path), pretrained=str(network), device="cpu",
                                workers=0, tta=tta, **how)  # fmt: skip
        assert validate.run(config) == 0
        loss = float(re.findall(r"loss: \S+ \((\S+)\)", capsys.readouterr().out)[-1])
        assert loss == pytest.approx(-log_probs[:, 3].mean(), abs=1e-4)


def test_where_it_has_no_effect_it_is_refused():
    with pytest.raises(UserError, match="--tta is for --test-only"):
        TrainConfig(tta="flip")
    with pytest.raises(UserError, match="one run of an image"):
        PredictConfig(tta="flip", explain="heatmaps")
