"""The nearest images of a gallery in the answers of /predict; its page: test_serving_page.py."""

import base64
import io
import shutil

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from ppcls_lite.commands.serve import run
from ppcls_lite.deploy.features import Features
from ppcls_lite.deploy.predictor import Predictor
from ppcls_lite.errors import UserError
from ppcls_lite.serving.settings import ServeConfig

for _name in ("fastapi", "uvicorn", "prometheus_client", "httpx"):
    pytest.importorskip(_name)
CAT, COFFEE = ROOT / "test_images/chelsea.jpg", ROOT / "test_images/coffee.jpg"


def write(path, features, paths, labels, network):
    """Writes a gallery whose one class is cat."""
    splits, classes = np.array([""] * len(paths), np.str_), np.array(["cat"])
    names, ids = np.array([str(each) for each in paths], np.str_), np.array(labels, np.int64)
    Features(features, names, ids, splits, classes, np.array(network)).write(path)
    return str(path)


def client_of(exported, **settings):
    from starlette.testclient import TestClient

    from ppcls_lite.serving.app import create_app

    return TestClient(create_app(ServeConfig(exported=str(exported), **settings)))


@pytest.mark.parametrize("explain", ["true", "false"])
def test_the_nearest_come_with_classes_and_small_pictures(exported, tmp_path, explain):
    predictor = Predictor(exported, "onnxruntime")
    places = [tmp_path / "data/cat/a.jpg", tmp_path / "data/cup/b.jpg"]
    for place, source in zip(places, (CAT, COFFEE), strict=True):
        place.parent.mkdir(parents=True)
        shutil.copy(source, place)
    features = predictor.embed(places)
    gallery = write(tmp_path / "f.npz", features, places, [0, -1], predictor.weights_sha256)
    with client_of(exported, gallery=gallery) as client:
        assert client.get("/models").json()[0]["gallery"] == 2
        address = f"/predict?nearest=5&explain={explain}"
        (result,) = client.post(address, content=COFFEE.read_bytes()).json()["results"]
        assert "nearest" not in client.post("/predict", content=CAT.read_bytes()).text
    assert "features" not in result and ("explain" in result) == (explain == "true")
    told = [(each["file"], each["name"]) for each in result["nearest"]]
    assert told == [("cup/b.jpg", ""), ("cat/a.jpg", "cat")]
    a, b = features.astype(np.float64)
    cosine = a @ b / np.sqrt((a @ a) * (b @ b))
    cosines = [each["cosine"] for each in result["nearest"]]
    np.testing.assert_allclose(cosines, [1, cosine], atol=1e-5)
    head, _, data = result["nearest"][0]["picture"].partition(",")
    small = Image.open(io.BytesIO(base64.b64decode(data)))
    whole = Image.open(COFFEE)
    assert (head, max(small.size)) == ("data:image/jpeg;base64", 160)
    expected = whole.resize(small.size, Image.Resampling.BILINEAR)
    assert np.abs(np.asarray(small, int) - np.asarray(expected, int)).mean() < 10  # of another: 60


def test_a_picture_that_is_gone_has_its_name_alone(exported, tmp_path):
    sha256 = Predictor(exported).weights_sha256
    features = np.eye(2, Predictor(exported).embed(CAT).shape[1], dtype=np.float32)
    gallery = write(tmp_path / "f.npz", features, ["d/a\udcff.jpg", "d/b.jpg"], [0, 0], sha256)
    with client_of(exported, gallery=gallery) as client:
        (result,) = client.post("/predict?nearest=1", content=CAT.read_bytes()).json()["results"]
        too_many = client.post("/predict?nearest=101", content=CAT.read_bytes())
    (found,) = result["nearest"]
    assert found["picture"] == "" and "/" not in found["file"]
    assert too_many.status_code == 400


def test_without_a_gallery_of_the_models_weights_it_is_refused(exported, tmp_path):
    with client_of(exported) as client:
        assert client.get("/models").json()[0]["gallery"] == 0
        refused = client.post("/predict?nearest=3", content=CAT.read_bytes())
        assert (refused.status_code, "no --gallery" in refused.text) == (400, True)
    other = write(tmp_path / "other.npz", np.eye(2, dtype=np.float32), "ab", [0, 0], "0" * 64)
    with client_of(exported, gallery=other) as client:
        refused = client.post("/predict?nearest=3", content=CAT.read_bytes())
        assert (refused.status_code, "of other weights" in refused.text) == (400, True)
    empty = write(tmp_path / "e.npz", np.zeros((0, 4), np.float32), [], [], "0" * 64)
    for gallery, words in ((other, "of other weights"), (empty, "no image"), ("no.npz", "no file")):
        with pytest.raises(UserError, match=words):
            run(ServeConfig(exported=str(exported), gallery=gallery))
