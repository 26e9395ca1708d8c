"""Heatmaps, held against pytorch-grad-cam and captum, finite differences, and sums by hand.

The first two's numbers come from tests/golden/make_explain_golden.py, those of trained weights from
make_explain_trained_golden.py.
"""

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import paddle
import pytest
from conftest import ROOT
from golden import formula
from golden.data_images import make_image
from golden.explain_cases import (
    BATCH,
    CASES,
    OCCLUDED,
    OCCLUDED_CLASS,
    STEP,
    TRAINED,
    images,
    photographs,
)
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from PIL import Image
from small_checkpoint import CLASSES, SPEC, checkpoint, trained_like_state

from ppcls_lite import create_model
from ppcls_lite.commands.predict import run
from ppcls_lite.deploy import explain as explain_module
from ppcls_lite.deploy.explain import Explanation, grad_cam, heatmaps, occlusion, stretched
from ppcls_lite.deploy.export import export_model
from ppcls_lite.deploy.onnx_head import Head, NoHeadError
from ppcls_lite.deploy.predictor import Predictor
from ppcls_lite.deploy.settings import PredictConfig
from ppcls_lite.dygraph_runtime import DygraphRuntime
from ppcls_lite.engine.checkpoint import Progress, save_checkpoint
from ppcls_lite.errors import UserError
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.runtimes import OnnxRuntime

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
    logits, ids, maps, method, _ = heatmaps(run, run, pixels, class_id, layer or None)
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


@pytest.mark.parametrize(("tag", "layer", "path"), TRAINED)
def test_trained_models_see_on_photographs_what_pytorch_grad_cam_says(tag, layer, path):
    golden = np.load(Path(__file__).parent / "golden/explain_trained.npz")
    run = Predictor(tag)._run
    _, ids, maps, *_ = heatmaps(run, run, photographs(), None, layer or None)
    assert ids.tolist() == golden[f"{tag}/{layer}/classes"].tolist()
    expected = golden[f"{tag}/{layer}"]
    assert expected.std() > 0.1
    np.testing.assert_allclose(maps[:, ::STEP, ::STEP], expected, atol=1e-5)


def test_occlusion_equals_captums(runtimes):
    found = [occlusion(runtimes[OCCLUDED], image, OCCLUDED_CLASS) for image in images()]
    expected = np.maximum(GOLDEN["occlusion"], 0)
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-4)  # of logarithms up to 10


def test_the_gradients_are_what_small_steps_of_the_last_map_give(runtimes):
    """By the head alone, in float64 and central differences: nothing of Paddle's is in it."""
    run = runtimes["mobilenet_v3_small"]
    logits, maps, gradients, *_ = run.gradients(images()[:1], lambda scores: np.array([2]))
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
    logits, maps, gradients, linear, _ = run.gradients(
        images(), lambda scores: scores.argmax(axis=1)
    )
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
    ones = np.ones((1, 3, 96, 96), np.float32)
    *_, maps, method, features = heatmaps(bright_corner, bright_corner, ones)
    assert features == [None]
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


@pytest.mark.parametrize("path", ["best.pdparams", "export"])
def test_predict_writes_a_png_a_picture_and_answers_as_without(folder, tmp_path, capsys, path):
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
    assert [file.name for file in files] == ["a_grad_cam.png", "a_grad_cam_2.png"]
    (why,) = Predictor(folder / path).explain(folder / "pictures/a.png")
    shown = np.asarray(Image.open(files[0]).convert("RGB"))
    expected = np.asarray(why.side_by_side())
    assert (shown[: expected.shape[0], : expected.shape[1]] == expected).all()


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "MobileNetV3_small_x0_35", "mnasnet0_5"])
def test_an_onnx_files_heatmaps_are_the_checkpoints_in_one_run(name, folder, tmp_path, monkeypatch):
    """Heads of each kind: two layers with and without biases, and one, whose CAM is exact."""
    if name == "mobilenet_v3_small":
        weights, exported = folder / "best.pdparams", folder / "export"
    else:
        model = create_model(name, 10)
        model.set_state_dict(trained_like_state(model))
        weights, exported = tmp_path / "best.pdparams", tmp_path / "export"
        info = ModelInfo(name, 10, {}, CLASSES, SPEC)
        save_checkpoint(weights, model.state_dict(), {}, info, Progress(), {})
        export_model(weights, exported, formats=["onnx"])
    pictures = sorted((folder / "pictures").rglob("a.*"))
    expected = Predictor(weights).explain(pictures)
    runs, every = [], OnnxRuntime.every
    monkeypatch.setattr(
        OnnxRuntime, "every", lambda run, images: runs.append(1) or every(run, images)
    )
    predictor = Predictor(exported, engine="onnxruntime")
    before = (exported / "inference.onnx").read_bytes()
    monkeypatch.setattr(Predictor, "raw", None)  # the answer comes from the same run
    found = predictor.explain(pictures)
    assert len(runs) == 1 and (exported / "inference.onnx").read_bytes() == before
    for mine, right in zip(found, expected, strict=True):
        assert (mine.method, mine.class_id) == (right.method, right.class_id)
        np.testing.assert_allclose(mine.heatmap, right.heatmap, atol=1e-5)
        for one, other in zip(mine.answer, right.answer, strict=True):
            assert one.prob == pytest.approx(other.prob, abs=1e-5)
    assert right.method == ("cam" if name == "mnasnet0_5" else "grad_cam")
    features = np.stack([each.features for each in found])
    expected = [each.features for each in expected], Predictor(weights).embed(pictures)
    for right in expected:
        np.testing.assert_allclose(features, right, atol=1e-5 * np.abs(features).max())


def test_an_export_is_explained_without_paddle(folder):
    code = (
        "import sys; sys.modules['paddle'] = None\n"  # importing it would raise
        "from ppcls_lite import Predictor\n"
        "print(Predictor(sys.argv[1]).explain(sys.argv[2])[0].method)"
    )
    argv = [sys.executable, "-c", code, folder / "export", folder / "pictures/a.png"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "grad_cam\n"), done.stderr


def test_occlusion_stays_where_there_is_no_head_or_no_onnx(folder, tmp_path, monkeypatch):
    picture = folder / "pictures/a.png"
    model = onnx.load(str(folder / "export/inference.onnx"))
    for node in model.graph.node:
        if node.op_type == "GlobalAveragePool":
            node.op_type = "GlobalMaxPool"  # whose gradient is not the same all over a map
    onnx.save(model, str(tmp_path / "inference.onnx"))
    assert Predictor(tmp_path / "inference.onnx").explain(picture)[0].method == "occlusion"
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setattr(explain_module, "is_installed", lambda name: name != "onnx")
    assert Predictor(folder / "export").explain(picture)[0].method == "occlusion"


def test_an_onnx_file_that_was_replaced_is_refused(folder, tmp_path):
    shutil.copytree(folder / "export", tmp_path / "export")
    predictor = Predictor(tmp_path / "export")
    file = tmp_path / "export/inference.onnx"
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(UserError, match="SHA-256 differs"):
        predictor.explain(folder / "pictures/a.png")


def head_graph(*nodes, outputs=3, **arrays):
    """A graph of a pooling of [N, 4, 2, 3] and a head, in float64 where it is no int8."""
    kind = onnx.TensorProto.DOUBLE
    made = [helper.make_node("GlobalAveragePool", ["maps"], ["pooled"]), *nodes]
    graph = helper.make_graph(
        made, "head",
        [helper.make_tensor_value_info("maps", kind, ["N", 4, 2, 3])],
        [helper.make_tensor_value_info("answer", kind, ["N", outputs])],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in arrays.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)])


DRAWN = np.random.RandomState(5)
ARRAYS = {
    "w1": DRAWN.randn(5, 4, 1, 1), "b1": DRAWN.randn(5), "w2": DRAWN.randn(3, 5),
    "b2": DRAWN.randn(3), "three": np.array(3.0), "zero": np.array(0.0), "six": np.array(6.0),
    "half": np.array([0.5]), "w": DRAWN.randn(4, 3), "b": DRAWN.randn(1, 3),
}  # fmt: skip
node = helper.make_node
HEADS = {
    "a convolution, hard-swish in pieces, Gemm": [
        node("Conv", ["pooled", "w1", "b1"], ["x"]), node("Add", ["x", "three"], ["y"]),
        node("Clip", ["y", "zero", "six"], ["z"]), node("Mul", ["x", "z"], ["u"]),
        node("Div", ["u", "six"], ["v"]), node("Flatten", ["v"], ["f"]),
        node("Gemm", ["f", "w2", "b2"], ["answer"], transB=1, alpha=2.0),
    ],
    "hard-sigmoid times, dropout's factor, Relu": [
        node("Conv", ["pooled", "w1"], ["x"]),
        node("HardSigmoid", ["x"], ["y"], alpha=1 / 6, beta=0.5),
        node("Mul", ["y", "x"], ["z"]), node("Mul", ["half", "z"], ["u"]),
        node("Flatten", ["u"], ["f"]), node("Relu", ["f"], ["v"]),
        node("Gemm", ["v", "w2", "b2"], ["answer"], transB=1),
    ],
    "one layer": [
        node("Flatten", ["pooled"], ["f"]), node("MatMul", ["f", "w"], ["x"]),
        node("Add", ["x", "b"], ["y"]), node("Identity", ["y"], ["answer"]),
    ],
}  # fmt: skip


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", HEADS)
def test_a_heads_slopes_are_what_small_steps_give(name, count):
    """In ONNX's own reference evaluator, in float64 and central differences."""
    model = head_graph(*HEADS[name], **ARRAYS)
    evaluate = ReferenceEvaluator(model)
    pooled, ids = DRAWN.randn(count, 4), DRAWN.randint(0, 3, count)
    head = Head(onnx, model.graph)
    assert head.is_linear == (name == "one layer")

    def logit(values):
        maps = np.broadcast_to(values[:, :, None, None], (count, 4, 2, 3))
        return evaluate.run(None, {"maps": maps.copy()})[0][np.arange(count), ids]

    expected = np.empty((count, 4))
    for channel in range(4):
        step = np.zeros((count, 4))
        step[:, channel] = 1e-5
        expected[:, channel] = (logit(pooled + step) - logit(pooled - step)) / 2e-5
    np.testing.assert_allclose(head.slopes(pooled, ids), expected, atol=1e-6)


def test_an_int8_heads_slopes_are_its_own_rounded_weights():
    """By hand: what lies beyond the range of a step counts nothing, the rest as if not rounded."""
    weights, steps = np.array([[10, -20, 0], [3, 4, 5], [1, 1, 1], [7, 0, -7]], np.int8), [2, 4, 8]
    model = head_graph(
        node("Squeeze", ["pooled", "axes"], ["f"]),
        node("QuantizeLinear", ["f", "step", "low"], ["q"]),
        node("DequantizeLinear", ["q", "step", "low"], ["x"]),
        node("DequantizeLinear", ["weights", "steps", "lows"], ["w"], axis=1),
        node("MatMul", ["x", "w"], ["answer"]),
        axes=np.array([2, 3]), step=np.float32(0.5), low=np.uint8(100), weights=weights,
        steps=np.float32(steps), lows=np.zeros(3, np.int8),
    )  # fmt: skip
    head = Head(onnx, model.graph)
    pooled = np.float32([[0.3, 60, -70, 99]])  # of -50 to 77.5
    assert head.slopes(pooled, np.array([1]))[0].tolist() == [-80, 16, 0, 0]
    assert head.is_linear


def test_heads_that_are_not_known_are_refused():
    twice = node("MatMul", ["f", "f"], ["answer"])
    tanh = node("Tanh", ["f"], ["answer"])
    for last in (twice, tanh, node("Relu", ["f"], ["answer"])):
        with pytest.raises(NoHeadError):
            Head(onnx, head_graph(node("Flatten", ["pooled"], ["f"]), last).graph)
    wide = node("Conv", ["pooled", "w1"], ["answer"])
    with pytest.raises(NoHeadError, match="a convolution"):
        Head(onnx, head_graph(wide, w1=np.zeros((3, 4, 3, 3))).graph)


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
