"""Heatmaps, held against pytorch-grad-cam and captum, finite differences, and sums by hand.

The first two's numbers come from tests/golden/make_explain_golden.py.
"""

import json
import threading
from pathlib import Path

import numpy as np
import paddle
import pytest
from golden import formula
from golden.data_images import make_image
from golden.explain_cases import (
    BATCH,
    CASES,
    OCCLUDED,
    OCCLUDED_CLASS,
    STEP,
    images,
)
from PIL import Image
from small_checkpoint import checkpoint

from ppcls_lite import create_model
from ppcls_lite.commands.predict import run
from ppcls_lite.deploy.explain import Explanation, grad_cam, heatmaps, occlusion, stretched
from ppcls_lite.deploy.export import export_model
from ppcls_lite.deploy.predictor import Predictor
from ppcls_lite.deploy.settings import PredictConfig
from ppcls_lite.dygraph_runtime import DygraphRuntime
from ppcls_lite.errors import UserError

GOLDEN_CLASS = {name: class_id for name, _, _, class_id in CASES}
GOLDEN = dict(np.load(Path(__file__).parent / "golden/explain.npz"))


def network(name):
    model = create_model(name, num_classes=formula.NUM_CLASSES)
    model.set_state_dict(
        {key: formula.weight(key, tuple(t.shape)) for key, t in model.state_dict().items()}
    )
    return model


@pytest.fixture(scope="module")
def runtimes():
    return {name: DygraphRuntime(network(name)) for name in {case[0] for case in CASES}}


@pytest.mark.parametrize(("name", "layer", "path", "class_id"), CASES)
def test_heatmaps_equal_pytorch_grad_cams(name, layer, path, class_id):
    run = DygraphRuntime(network(name).to(dtype="float64"))  # the golden numbers are computed so
    pixels = images().astype(np.float64)
    logits, ids, maps, method = heatmaps(run, run, pixels, class_id, layer or None)
    assert method == ("cam" if path == "layers" else "grad_cam")
    assert ids.tolist() == [class_id] * BATCH
    np.testing.assert_allclose(logits, run(pixels), atol=1e-9)  # watched, it answers the same
    expected = GOLDEN[f"{name}/{layer}"]
    assert expected.std() > 0.1
    np.testing.assert_allclose(maps[:, ::STEP, ::STEP], expected, atol=1e-6)  # stored as float32


@pytest.mark.parametrize("name", ["mnasnet0_5", "mobilenet_v3_small"])
def test_in_float32_too(runtimes, name):
    maps = heatmaps(runtimes[name], runtimes[name], images(), GOLDEN_CLASS[name])[2]
    np.testing.assert_allclose(maps[:, ::STEP, ::STEP], GOLDEN[f"{name}/"], atol=1e-5)


def test_occlusion_equals_captums(runtimes):
    found = [occlusion(runtimes[OCCLUDED], image, OCCLUDED_CLASS) for image in images()]
    expected = np.maximum(GOLDEN["occlusion"], 0)
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-4)  # of logarithms up to 10


def test_the_gradients_are_what_small_steps_of_the_last_map_give(runtimes):
    """By the head alone, in float64 and central differences: nothing of Paddle's is in it."""
    run = runtimes["mobilenet_v3_small"]
    logits, maps, gradients, _ = run.gradients(images()[:1], lambda scores: np.array([2]))
    first, _, _, last = run._model.classifier
    weights = [
        x.numpy().astype(np.float64) for layer in (first, last) for x in (layer.weight, layer.bias)
    ]

    def score(value):
        hidden = value.mean(axis=(1, 2)) @ weights[0] + weights[1]
        hidden *= np.clip(hidden + 3, 0, 6) / 6  # hard-swish
        return (hidden @ weights[2] + weights[3])[2]

    whole = maps[0].astype(np.float64)  # [C, h, w]
    assert score(whole) == pytest.approx(logits[0, 2], abs=1e-4)
    for place in [(0, 0, 0), (7, 2, 3), (300, 4, 4), (575, 1, 0)]:
        step = np.zeros_like(whole)
        step[place] = 1e-4
        slope = (score(whole + step) - score(whole - step)) / 2e-4
        assert gradients[0][place] == pytest.approx(slope, abs=1e-6)


def test_a_cam_sums_up_to_the_logit(runtimes):
    run = runtimes["mnasnet0_5"]
    logits, maps, gradients, linear = run.gradients(images(), lambda scores: scores.argmax(axis=1))
    assert linear
    cam = (gradients * maps).sum(axis=(1, 2, 3)) + run._model.classifier[-1].bias.numpy()[
        logits.argmax(axis=1)
    ]
    np.testing.assert_allclose(cam, logits.max(axis=1), rtol=1e-4)


def test_threads_that_predict_and_explain_do_not_meet(runtimes):
    run = runtimes["mobilenet_v3_small"]
    expected = run(images())
    answers = []

    def explain():
        answers.extend(heatmaps(run, run, images())[0] for _ in range(3))

    threads = [threading.Thread(target=explain) for _ in range(2)]
    for thread in threads:
        thread.start()
    answers.extend(run(images()) for _ in range(3))
    for thread in threads:
        thread.join()
    assert len(answers) == 9
    for answer in answers:
        np.testing.assert_allclose(answer, expected, atol=1e-4)
    with paddle.no_grad():
        assert run._model(paddle.to_tensor(images())).stop_gradient


def test_what_cannot_be_explained_is_said(runtimes):
    run = runtimes["mobilenet_v3_small"]
    with pytest.raises(UserError, match=r"no layer 'feature.8'; did you mean features.8\?"):
        heatmaps(run, run, images(), layer="feature.8")
    with pytest.raises(UserError, match=r"'classifier' gives \[2, 10\]; .*'features' does"):
        heatmaps(run, run, images(), layer="classifier")
    with pytest.raises(UserError, match="class_id is 10; allowed: 0 to 9"):
        heatmaps(run, run, images(), class_id=10)
    with pytest.raises(UserError, match="an exported file gives no gradients"):
        heatmaps(lambda x: x, run, images(), layer="features.8")


def bright_corner(images):
    """Logits of a network that looks at the upper left quarter alone: the brighter, the more 1."""
    quarter = images[:, :, : images.shape[2] // 2, : images.shape[3] // 2].mean(axis=(1, 2, 3))
    return np.stack([np.zeros_like(quarter), quarter], axis=1)


def test_occlusion_points_at_what_the_network_looks_at():
    *_, maps, method = heatmaps(bright_corner, bright_corner, np.ones((1, 3, 96, 96), np.float32))
    assert method == "occlusion"
    assert maps[0, :42, :42].min() > 0.5  # half a cell from the edge
    # Squares that reach into the quarter end after 5 of 8 cells; half a cell is interpolated.
    assert maps[0, 67:].max() == maps[0, :, 67:].max() == 0


def test_sizes_of_every_kind_and_flat_maps():
    assert occlusion(bright_corner, np.ones((3, 61, 35), np.float32), 1).shape == (8, 8)
    assert (stretched(np.full((5, 5), 0.3), (20, 10)) == np.zeros((10, 20))).all()
    wide = stretched(np.arange(4.0).reshape(2, 2), (6, 4))
    assert (wide.shape, wide.min(), wide.max()) == ((4, 6), 0, 1)
    assert (grad_cam(np.ones((1, 2, 3, 3)), -np.ones((1, 2, 3, 3))) == 0).all()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """best.pdparams, its export, and two pictures, one of which has the other's stem."""
    folder = tmp_path_factory.mktemp("explain")
    export_model(checkpoint(folder), folder / "export", formats=["onnx"])
    for name, seed in (("a.png", 1), ("sub/a.jpg", 2)):
        (folder / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        make_image(90, 70, seed).save(folder / "pictures" / name)
    return folder


@pytest.mark.parametrize(
    ("path", "method"), [("best.pdparams", "grad_cam"), ("export", "occlusion")]
)
def test_predict_writes_a_png_a_picture_and_answers_as_without(
    folder, tmp_path, capsys, path, method
):
    def predict(**more):
        config = PredictConfig(
            pretrained=str(folder / path), img_path=str(folder / "pictures"), json=True, **more
        )
        assert run(config) == 0
        return capsys.readouterr()

    plain, told = predict(), predict(explain=str(tmp_path / "why"))
    assert f"2 heatmaps saved to {tmp_path / 'why'}" in told.err
    for before, after in zip(
        *(map(json.loads, x.out.splitlines()) for x in (plain, told)), strict=True
    ):
        assert [row["class_id"] for row in before["topk"]] == [
            row["class_id"] for row in after["topk"]
        ]
        for old, new in zip(before["topk"], after["topk"], strict=True):
            assert new["prob"] == pytest.approx(old["prob"], abs=1e-5)
    files = sorted((tmp_path / "why").iterdir())
    assert [file.name for file in files] == [f"a_{method}.png", f"a_{method}_2.png"]
    (why,) = Predictor(folder / path).explain(folder / "pictures/a.png")
    shown = np.asarray(Image.open(files[0]).convert("RGB"))
    expected = np.asarray(why.side_by_side())
    assert (shown[: expected.shape[0], : expected.shape[1]] == expected).all()


def test_the_layer_is_the_one_asked_for(folder, tmp_path, capsys):
    def heatmap(**more):
        config = PredictConfig(
            pretrained=str(folder / "best.pdparams"), img_path=str(folder / "pictures/a.png"),
            explain=str(tmp_path), **more,
        )  # fmt: skip
        assert run(config) == 0
        return (tmp_path / "a_grad_cam.png").read_bytes()

    assert heatmap() != heatmap(explain_layer="features.4")
    with pytest.raises(UserError, match="--explain-layer has no effect without --explain"):
        PredictConfig(pretrained="x", img_path="y", explain_layer="features.4")
    with pytest.raises(UserError, match="--explain has no effect with --shards"):
        PredictConfig(pretrained="x", img_path="y", explain="why", shards="out")


def test_another_class_has_another_heatmap(folder):
    predictor = Predictor(folder / "best.pdparams")
    picture = folder / "pictures/a.png"
    ((first,), (second,)) = (predictor.explain(picture, class_id=k) for k in (0, 1))
    assert (first.class_id, second.class_id) == (0, 1)
    assert first.answer == second.answer == predictor(picture)[0]
    assert np.abs(first.heatmap - second.heatmap).max() > 0.1
    assert (first.seen == predictor.see(Image.open(picture))).all()


def test_the_colours_lie_over_the_photograph():
    seen = np.full((2, 2, 3), 200, np.uint8)
    heat = np.array([[0, 1], [0, 1]], np.float32)
    over = np.asarray(Explanation([], 0, "cam", heat, seen).overlay()).astype(int)
    assert over.shape == (2, 2, 3)
    assert (over[:, 0] < 160).all()  # dark where nothing counts
    assert (over[:, 1, 0] > 230).all() and (over[:, 1, 2] < 180).all()  # yellow where most does
