"""Pictures of none of the classes: limits found, kept, and the same verdict in every program."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import paddle
import pytest
from PIL import Image
from scipy.special import log_softmax
from small_checkpoint import CLASSES, INFO, trained_like_state

from ppcls_lite import create_model
from ppcls_lite.commands import predict, weights_convert
from ppcls_lite.data.preprocess import find_images
from ppcls_lite.deploy.predictor import Predictor
from ppcls_lite.deploy.settings import PredictConfig
from ppcls_lite.deploy.sidecar import read_sidecar, write_sidecar
from ppcls_lite.engine.unknown import fit_limits
from ppcls_lite.errors import UserError
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.weights.description import save_weights
from ppcls_lite.weights.formats import read_weights
from ppcls_lite.weights.settings import ConvertConfig

ENGINES = {
    "paddle_inference": "inference.pdmodel",
    "onnxruntime": "inference.onnx",
    "openvino": "inference.onnx",
}


def answers(seed, pictures, classes=5):
    """Logits and labels of classes that differ in size and in spread."""
    draws = np.random.default_rng(seed)
    labels = draws.integers(0, classes, pictures)
    logits = draws.standard_normal((pictures, classes)) * np.linspace(0.5, 2, classes)
    logits[np.arange(pictures), labels] += np.linspace(4, 9, classes)[labels]
    return logits, labels


def reaches(limits, logits):
    return ~np.array(ModelInfo("m", 5, known_limits=tuple(limits)).unknown(np.exp(
        log_softmax(logits, axis=1)
    ).astype(np.float32)))  # fmt: skip


def test_limits_are_the_standardised_largest_logits_and_keep_the_share():
    (train, labels), (val, _) = answers(0, 2000), answers(1, 400)
    limits = fit_limits(train, labels, val, 0.9)
    centred = val - val.mean(axis=1, keepdims=True)
    own = [(train - train.mean(axis=1, keepdims=True))[labels == k, k] for k in range(5)]
    scores = ((centred - [x.mean() for x in own]) / [x.std() for x in own]).max(axis=1)
    kept = reaches(limits, val)
    assert kept.sum() == 360 and scores[kept].min() > scores[~kept].max()
    assert reaches(fit_limits(train, labels, val, 1.0), val).all()
    foreign = np.random.default_rng(2).standard_normal((400, 5))
    assert reaches(limits, foreign).mean() < 0.1


def test_a_temperature_and_a_log_prior_change_no_verdict():
    (train, labels), (val, _) = answers(0, 2000), answers(1, 400)
    plain = reaches(fit_limits(train, labels, val, 0.9), val)
    shift, few = np.array([3.0, -1, 0, 0.5, -2]), labels != 4

    def changed(x):
        return (x - shift) / 0.6

    limits = fit_limits(changed(train), labels, changed(val), 0.9)
    assert (reaches(limits, changed(val)) == plain).all()
    # A class without training pictures takes the others' statistics.
    assert np.isfinite(fit_limits(train[few], labels[few], val, 0.9)).all()


def test_limits_travel_as_numbers_and_older_files_have_none():
    info = dataclasses.replace(INFO, known_limits=tuple(np.linspace(0, 1, 10).tolist()))
    state = json.loads(json.dumps(info.to_dict()))
    assert ModelInfo.from_dict(state) == info
    assert "known_limits" not in INFO.to_dict()
    assert INFO.unknown(np.ones((2, 10)) / 10) == [None, None]
    state["known_limits"].pop()
    with pytest.raises(ValueError, match="9 numbers for 10 classes"):
        ModelInfo.from_dict(state)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """train/ and val/ of three classes out of ten, and the two photographs."""
    root, draws = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 6)):
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
        for name in CLASSES[:3]:
            for number in range(count):
                grid = draws.integers(0, 256, (6, 8, 3)).astype(np.uint8)
                image = Image.fromarray(grid).resize((96, 80), Image.Resampling.BICUBIC)
                image.save(root / split / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def limited(exported, pictures, tmp_path_factory):
    """An export with limits that some of the pictures do not reach, and which those are."""
    folder = tmp_path_factory.mktemp("limited") / "all"
    shutil.copytree(exported, folder)
    files = find_images(str(pictures))
    logits = Predictor(exported / "inference.onnx").logits(
        INFO.preprocess([Image.open(f).convert("RGB") for f in files])
    )
    best = (logits - logits.mean(axis=1, keepdims=True)).max(axis=1)
    limit = float(np.sort(best)[len(best) // 2 :][:2].mean())
    sidecar = read_sidecar(folder)
    info = dataclasses.replace(sidecar.info, known_limits=(limit,) * 10)
    write_sidecar(folder, dataclasses.replace(sidecar, info=info))
    return folder, dict(zip(map(str, files), (best < limit).tolist(), strict=True))


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_says_unknown_of_the_same_pictures(limited, exported, engine):
    pytest.importorskip({"paddle_inference": "paddle"}.get(engine, engine))
    folder, expected = limited
    file = folder / ENGINES[engine]
    rankings = Predictor(file, engine)(list(expected))
    assert [r.unknown for r in rankings] == list(expected.values())
    assert set(expected.values()) == {True, False}
    # What it says beside that is what the export without limits says.
    assert rankings == Predictor(exported / file.name, engine)(list(expected))


def test_predict_says_it_in_words_and_in_json(limited, pictures, capsys):
    folder, expected = limited
    config = PredictConfig(pretrained=str(folder), img_path=str(pictures), engine="onnxruntime")
    assert predict.run(config) == 0
    text = capsys.readouterr().out
    assert text.count("unknown: none of the classes") == sum(expected.values())
    assert predict.run(dataclasses.replace(config, json=True)) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["file"]: row["unknown"] for row in rows} == expected
    assert all(len(row["topk"]) == 5 for row in rows)


def test_the_server_says_it(limited):
    pytest.importorskip("prometheus_client")
    from starlette.testclient import TestClient

    from ppcls_lite.serving.app import create_app
    from ppcls_lite.serving.settings import ServeConfig

    folder, expected = limited
    config = ServeConfig(exported=str(folder), engine="onnxruntime", reload_seconds=0)
    with TestClient(create_app(config)) as client:
        files = [("file", (name, Path(name).read_bytes())) for name in expected]
        results = client.post("/predict", files=files).json()["results"]
    assert {row["file"]: row["unknown"] for row in results} == expected
    assert all(len(row["topk"]) == 5 for row in results)


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """Weights, and pictures in the classes that the network names, one in four elsewhere."""
    root = tmp_path_factory.mktemp("answered")
    model = create_model(INFO.name, 10, **INFO.overrides)
    state = trained_like_state(model)
    save_weights(root / "w.pdparams", state, INFO)
    model.set_state_dict(state)
    model.eval()
    draws = np.random.default_rng(1)
    grids = draws.integers(0, 256, (96, 2, 2, 3)).astype(np.uint8)
    images = [Image.fromarray(g).resize((72, 72), Image.Resampling.BICUBIC) for g in grids]
    with paddle.no_grad():
        logits = model(paddle.to_tensor(INFO.preprocess(images))).numpy()
    for split in ("train", "val"):
        for name in CLASSES:
            (root / "data" / split / name).mkdir(parents=True)
    for number, (image, best) in enumerate(zip(images, logits.argmax(axis=1), strict=True)):
        split = ("train", "val")[number % 2]
        label = int(best) if number % 8 > 1 else number % 10
        image.save(root / "data" / split / CLASSES[label] / f"{number:02}.png")
    return root


def convert(root, out, **settings):
    return weights_convert.run(
        ConvertConfig(weights=str(root / "w.pdparams"), out=str(out),
                      data_path=str(root / "data"), **settings)
    )  # fmt: skip


def seen(path, root):
    predictor = Predictor(path)
    files = find_images(str(root / "data/val"))
    images = INFO.preprocess([Image.open(file) for file in files])
    labels = np.array([CLASSES.index(file.parent.name) for file in files])
    return predictor.logits(images), labels, predictor(files)


@pytest.mark.slow  # answers all pictures four times
def test_one_command_calibrates_draws_and_finds_the_limits(answered, tmp_path, capsys):
    out = tmp_path / "t.pdparams"
    assert convert(answered, out, calibrate=True, unknown=True, keep_known=0.75) == 0
    printed = capsys.readouterr().out
    before, labels, plain = seen(answered / "w.pdparams", answered)
    after, _, rankings = seen(out, answered)
    found = json.loads(out.with_suffix(".json").read_text())
    temperature = found["calibration"]["temperature"]
    np.testing.assert_allclose(after, before / temperature, atol=1e-4)
    assert abs(temperature - 1) > 0.02
    for name, logits in (("before", before), ("after", after)):
        nll = -log_softmax(logits.astype(float), axis=1)[np.arange(len(labels)), labels].mean()
        assert found["calibration"][name]["nll"] == pytest.approx(nll, abs=1e-5)
        said = re.search(rf"^{name} +calibration: NLL ([\d.]+), ECE ([\d.]+)$", printed, re.M)
        assert float(said[1]) == pytest.approx(nll, abs=1e-4)
        assert float(said[2]) == pytest.approx(found["calibration"][name]["ece"], abs=1e-4)
    assert found["calibration"]["after"]["nll"] < found["calibration"]["before"]["nll"]
    assert [r[0].class_id for r in rankings] == [r[0].class_id for r in plain]
    assert sum(not r.unknown for r in rankings) == round(0.75 * len(labels)) == 36
    assert found["unknown"]["kept"] == 0.75
    with Image.open(tmp_path / "t.reliability.png") as image:
        assert image.width > 300
    # Only the last layer is another.
    arrays = [read_weights(p) for p in (answered / "w.pdparams", out)]
    changed = {n for n in arrays[0] if not np.array_equal(arrays[0][n], arrays[1][n])}
    assert changed == {"classifier.3.weight", "classifier.3.bias"}


def test_limits_are_dropped_with_the_answers_they_are_of(answered, tmp_path):
    first, second = tmp_path / "a.pdparams", tmp_path / "b.pdparams"
    assert convert(answered, first, unknown=True) == 0
    assert np.array_equal(*(read_weights(p)["classifier.3.bias"] for p in (
        answered / "w.pdparams", first)))  # fmt: skip
    shutil.copytree(answered / "data", tmp_path / "data")
    first.rename(tmp_path / "w.pdparams")
    (tmp_path / "a.json").rename(tmp_path / "w.json")
    assert Predictor(tmp_path / "w.pdparams").info.known_limits
    assert convert(tmp_path, second, logit_adjustment=0.5) == 0
    assert not Predictor(second).info.known_limits


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"unknown": True, "out": "w.npz"}, "--unknown with --out w.npz"),
        ({"keep_known": 0.9}, "--keep-known has no effect"),
        ({"data_path": "x"}, "--data-path is for"),
        ({"unknown": True}, "--data-path is missing"),
    ],
)
def test_what_has_no_effect_is_refused(settings, said, answered, tmp_path):
    flags = {"out": str(tmp_path / "w.pdparams"), "weights": str(answered / "w.pdparams")}
    with pytest.raises(UserError, match=said):
        weights_convert.run(ConvertConfig(**(flags | settings)))
