"""Features: of every engine the same, the last layer's input, searched exactly."""

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import paddle
import pytest
from conftest import ROOT
from golden.data_images import make_image
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from small_checkpoint import checkpoint, network

from ppcls_lite.commands import predict_embed, predict_search
from ppcls_lite.deploy.export import export_model
from ppcls_lite.deploy.features import Gallery, features_of_export, read_features
from ppcls_lite.deploy.predictor import Predictor
from ppcls_lite.deploy.projection import principal_components, umap_places
from ppcls_lite.deploy.settings import EmbedConfig, SearchConfig
from ppcls_lite.errors import UserError

MARKUP = "<b>shirt"  # a class name that is markup


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """best.pdparams, its export, data/ with two splits and flat/ without classes."""
    folder = tmp_path_factory.mktemp("embed")
    export_model(checkpoint(folder), folder / "export", formats=["onnx"])
    for number, name in enumerate(
        (f"data/train/{MARKUP}/a.png", "data/train/hat/b.png", "data/val/hat/c.png", "flat/d.png")
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        make_image(90 + 8 * number, 70, number).save(path)
    (folder / "data/val" / MARKUP).mkdir()
    make_image(60, 64, 9).save(folder / "data/val" / MARKUP / "e.png")
    return folder


def embed(folder, out, data="data", **more):
    config = EmbedConfig(
        pretrained=str(folder / "best.pdparams"), data_path=str(folder / data), out=str(out), **more
    )
    return predict_embed.run(config)


def by_hand(folder, path):
    """The input of the last layer: the network without it."""
    model = network(folder)
    setattr(model.classifier, list(model.classifier._sub_layers)[-1], paddle.nn.Identity())
    predictor = Predictor(folder / "best.pdparams")
    images = predictor.info.preprocess([Image.open(path).convert("RGB")])
    return model(paddle.to_tensor(images)).numpy()[0]


def test_the_file_holds_what_the_last_layer_reads_with_paths_splits_and_labels(folder, tmp_path):
    assert embed(folder, tmp_path / "sub/f.npz", batch_size=3) == 0
    found = read_features(tmp_path / "sub/f.npz")
    rows = {(s, p.rpartition("/")[2], found.class_name(i)): i
            for i, (s, p) in enumerate(zip(found.splits, found.paths, strict=True))}  # fmt: skip
    assert set(rows) == {
        ("train", "a.png", MARKUP), ("train", "b.png", "hat"),
        ("val", "c.png", "hat"), ("val", "e.png", MARKUP),
    }  # fmt: skip
    assert found.features.dtype == np.float32
    for row, path in enumerate(found.paths):
        np.testing.assert_allclose(found.features[row], by_hand(folder, path), atol=1e-5)


def test_every_engine_gives_the_same_and_onnx_needs_no_paddle(folder):
    picture = folder / "flat/d.png"
    expected = Predictor(folder / "best.pdparams").embed(picture)
    code = (
        "import sys; sys.modules['paddle'] = None\n"  # importing it would raise
        "import numpy as np\n"
        "from ppcls_lite import Predictor\n"
        "np.save(sys.argv[3], Predictor(sys.argv[1]).embed(sys.argv[2]))"
    )
    out = folder / "onnx.npy"
    argv = [sys.executable, "-c", code, folder / "export", picture, out]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(out), expected, atol=1e-5 * np.abs(expected).max())


def test_a_file_put_there_since_is_refused(folder, tmp_path):
    shutil.copytree(folder / "export", tmp_path / "export")
    predictor = Predictor(tmp_path / "export")
    file = tmp_path / "export/inference.onnx"
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(UserError, match="SHA-256 differs"):
        predictor.embed(folder / "flat/d.png")
    with pytest.raises(UserError, match="there is none beside it"):
        features_of_export(tmp_path / "inference.json", None, "cpu")


def test_pictures_without_classes_and_broken_ones(folder, tmp_path, capsys):
    flat = tmp_path / "flat"
    flat.mkdir()
    make_image(40, 40, 1).save(flat / "good.png")
    (flat / "bad.png").write_bytes(b"words")
    assert embed(folder, tmp_path / "f.npz", flat) == 1
    said = capsys.readouterr()
    assert "1 images, 512 features each" in said.out
    assert "1 of 2 images failed" in said.err and "bad.png: " in said.err
    found = read_features(tmp_path / "f.npz")
    assert (found.labels.tolist(), found.class_name(0), found.splits[0]) == ([-1], "", "")


def test_the_plot_is_of_scikit_learns_components(folder, tmp_path):
    random = np.random.RandomState(4)
    features = (random.standard_normal((40, 6)) * [1, 5, 2, 1, 3, 1]).astype(np.float32)
    places, shares = principal_components(features)
    known = PCA(2).fit(features)
    expected = known.transform(features)
    np.testing.assert_allclose(np.abs(places), np.abs(expected), atol=1e-4)
    np.testing.assert_allclose(shares, known.explained_variance_ratio_, rtol=1e-5)
    assert embed(folder, tmp_path / "f.npz", plot=str(tmp_path / "f.png")) == 0
    with Image.open(tmp_path / "f.png") as image:
        assert image.size == (1080, 720)
    with pytest.raises(UserError, match=r"ends in .png"):
        EmbedConfig(plot="f.svg")


def test_umap_is_drawn_where_it_is_installed(folder, tmp_path, capsys):
    pytest.importorskip("umap")
    features = np.repeat(np.eye(2, 8, dtype=np.float32), 40, axis=0)
    features += np.random.RandomState(4).standard_normal(features.shape).astype(np.float32) / 20
    places = umap_places(features)
    left, right = places[:40], places[40:]
    apart = np.linalg.norm(left.mean(axis=0) - right.mean(axis=0))
    assert apart > 2 * max(left.std(axis=0).max(), right.std(axis=0).max())


def test_parquet_holds_the_same(folder, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    for name in ("f.npz", "f.parquet"):
        assert embed(folder, tmp_path / name) == 0
    found, table = read_features(tmp_path / "f.npz"), parquet.read_table(tmp_path / "f.parquet")
    assert table.column("path").to_pylist() == found.paths.tolist()
    assert table.column("class").to_pylist() == [found.class_name(i) for i in range(4)]
    assert np.array_equal(np.stack(table.column("feature").to_numpy()), found.features)


def test_nearest_equals_scikit_learns():
    random = np.random.RandomState(3)
    gallery = random.standard_normal((70_000, 7)).astype(np.float32)  # more than one part
    gallery[5] = 0
    query = random.standard_normal(7).astype(np.float32)
    rows, cosines = Gallery(gallery).nearest(query, 9)
    known = NearestNeighbors(n_neighbors=9, metric="cosine", algorithm="brute").fit(gallery)
    distances, expected = known.kneighbors(query[None])
    assert rows.tolist() == expected[0].tolist()
    np.testing.assert_allclose(cosines, 1 - distances[0], atol=1e-6)


def test_an_index_of_faiss_finds_what_a_comparison_with_all_finds():
    pytest.importorskip("faiss")
    random = np.random.RandomState(3)
    features = random.standard_normal((2000, 7)).astype(np.float32)
    exact, flat, graph = (Gallery(features, index) for index in ("", "Flat", "HNSW32"))
    for query in random.standard_normal((5, 7)).astype(np.float32):
        rows, cosines = exact.nearest(query, 9)
        assert flat.nearest(query, 9)[0].tolist() == rows.tolist()
        np.testing.assert_allclose(flat.nearest(query, 9)[1], cosines, atol=1e-5)
        assert len(np.intersect1d(graph.nearest(query, 9)[0], rows)) >= 7
    assert [len(part) for part in Gallery(features[:3], "Flat").nearest(features[0], 9)] == [3, 3]
    for wrong, cause in (("NoSuch", "could not parse"), ("IVF4096,Flat", "training points")):
        with pytest.raises(UserError, match=f"no index '{wrong}' of 2000 images: .*{cause}"):
            Gallery(features, wrong)


def test_without_faiss_an_index_is_refused_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UserError, match="faiss") as refused:
        Gallery(np.ones((3, 2), np.float32), "Flat")
    assert "pip install faiss-cpu" in refused.value.hint


class Texts(HTMLParser):
    """What a page shows, and its elements."""

    def __init__(self, page):
        super().__init__()
        self.text, self.tags = "", []
        self.feed(page)

    def handle_data(self, data):
        self.text += data

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))


@pytest.mark.parametrize("gallery", ["folder", "npz"])
def test_search_finds_the_picture_itself_first_and_writes_a_page(folder, tmp_path, capsys, gallery):
    given = folder / "data"
    if gallery == "npz":
        given = tmp_path / "f.npz"
        embed(folder, given)
        capsys.readouterr()
    query = folder / "data/train" / MARKUP / "a.png"
    config = SearchConfig(
        gallery=str(given), img_path=str(query), pretrained=str(folder / "export"), topk=3,
        html=str(tmp_path / "out/found.html"),
    )  # fmt: skip
    assert predict_search.run(config) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(query)
    found = [re.fullmatch(r"  (\d\.\d{4})  (\S+)  (\S+)", line).groups() for line in lines[1:4]]
    assert found[0] == ("1.0000", str(query), MARKUP)
    assert [score for score, *_ in found] == sorted((s for s, *_ in found), reverse=True)
    page = Texts((tmp_path / "out/found.html").read_text())
    assert MARKUP in page.text and found[2][1] in page.text
    pictures = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 4 and all(p.startswith("data:image/jpeg") for p in pictures)
    assert sum(tag == "b" for tag, _ in page.tags) == 3  # the labels of what was found, no name's


def test_what_cannot_be_searched_is_said(folder, tmp_path):
    def search(gallery):
        weights, query = str(folder / "best.pdparams"), str(folder / "flat/d.png")
        config = SearchConfig(gallery=str(gallery), img_path=query, pretrained=weights)
        return predict_search.run(config)

    embed(folder, tmp_path / "f.npz")
    arrays = dict(np.load(tmp_path / "f.npz"))
    np.savez(tmp_path / "other.npz", **arrays | {"network": np.array("00")})
    with pytest.raises(UserError, match="features of other weights"):
        search(tmp_path / "other.npz")
    np.savez(tmp_path / "short.npz", **arrays | {"labels": np.zeros(2, np.int64)})
    (tmp_path / "words.npz").write_text("words")
    for name in ("short.npz", "words.npz", "missing.npz"):
        with pytest.raises(UserError, match="is no file of features"):
            search(tmp_path / name)
    with pytest.raises(UserError, match=r"ends in .npz or .parquet"):
        EmbedConfig(out="features.csv")
