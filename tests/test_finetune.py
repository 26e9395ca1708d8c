"""Quantization-aware training: the same numbers as ONNX Runtime, its gradients, what it is for."""

import numpy as np
import onnx
import paddle
import pytest
from conftest import ROOT
from onnx import TensorProto, helper, numpy_helper
from small_checkpoint import trained_like_state
from test_accelerator_zoo import FAMILIES, SPEC

from ppcls_lite import cli, create_model
from ppcls_lite.data.decode import load_image
from ppcls_lite.deploy.export import export_model
from ppcls_lite.errors import UserError
from ppcls_lite.int8.qdq import ARITHMETIC, float_graph, insert_qdq
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.quantize import finetune
from ppcls_lite.quantize.autograd import PaddleGraph
from ppcls_lite.quantize.recipe import Recipe, logits, quantize, score, thresholds_of
from ppcls_lite.quantize.scaling import plant_outliers
from ppcls_lite.quantize.settings import QuantizeConfig
from ppcls_lite.weights.description import save_weights

TAG = "mobilenet_v3_small.clothing10"
SIDE = 64  # pixels; the network's own are too slow to train at here


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """The float graph of the network in the package, and windows of two photographs."""
    folder = tmp_path_factory.mktemp("shipped")
    sidecar = export_model(
        TAG, folder, formats=("onnx",), opset_version=11, softmax_inside=False, image_size=SIDE
    )
    random = np.random.default_rng(0)
    images = []
    for path in sorted((ROOT / "test_images").glob("*.jpg")):
        photo = load_image(path)
        for _ in range(32):
            side = random.integers(100, 250)
            left, top = (random.integers(0, length - side) for length in photo.size)
            window = photo.crop((left, top, left + side, top + side))
            images.append(sidecar.info.preprocess([window]))
    return float_graph(folder / "inference.onnx"), images


def batch(images):
    return paddle.to_tensor(np.concatenate(images))


def snr(answers, wanted):
    return score(answers, wanted, wanted.argmax(1))["snr"]


@pytest.mark.parametrize(
    ("name", "overrides"), FAMILIES, ids=[" ".join([name, *more]) for name, more in FAMILIES]
)
def test_every_family_computes_what_onnx_runtime_does(name, overrides, tmp_path):
    model = create_model(name, 3, **overrides)
    model.set_state_dict(trained_like_state(model))
    info = ModelInfo(name, 3, overrides, ("blue", "green", "red"), SPEC)
    save_weights(tmp_path / "best.pdparams", model.state_dict(), info)
    weights = str(tmp_path / "best.pdparams")
    export_model(weights, tmp_path / "out", formats=("onnx",), opset_version=11,
                 softmax_inside=False)  # fmt: skip
    graph = float_graph(tmp_path / "out/inference.onnx")
    random = np.random.default_rng(0)
    images = [random.normal(size=(1, 3, 32, 32)).astype(np.float32) for _ in range(12)]
    wanted = logits(graph, images)
    # float32 has 24 bits; the roundings of 150 layers add up.
    np.testing.assert_allclose(
        PaddleGraph(graph)(batch(images), {}).numpy(),
        wanted,
        atol=2e-5 * np.abs(wanted).max(),
    )
    for target, arithmetic in ARITHMETIC.items():
        trained = finetune.Trained(graph, arithmetic.weight_steps)
        techniques = ("channels",) if arithmetic.unsigned else ()
        small = quantize(graph, images, Recipe("max", techniques, (), target)).int8
        wanted = logits(small, images)
        got = PaddleGraph(small)(batch(images), trained.values_in(small)).numpy()
        equal = np.abs(got - wanted).max(axis=1) <= 2e-5 * np.abs(wanted).max()
        # A value on the border between two steps may fall to either side, which differs between
        # CPUs, and takes the rest of its image with it: by less than int8 did.
        assert equal.sum() >= 2, target
        assert snr(got, wanted) > snr(wanted, logits(graph, images)), target


def test_gradients_are_those_of_onnx_runtimes_answers(shipped):
    """Of float answers, against differences between two of ONNX Runtime's."""
    graph, images = shipped
    images = images[:4]
    values = finetune.Trained(graph).values()
    for value in values.values():
        value.retain_grads()
    (PaddleGraph(graph)(batch(images), values) ** 2).sum().backward()
    layers = [node for node in graph.graph.node if node.op_type in ("Conv", "Gemm")]
    for node in (layers[0], layers[1], layers[20], layers[-1]):
        for name in node.input[1:]:
            tensor = next(t for t in graph.graph.initializer if t.name == name)
            before, gradient = numpy_helper.to_array(tensor), values[name].grad.numpy()
            # Uphill, so that the difference is large against the roundings of float32.
            way = gradient * np.float32(1e-4 * np.linalg.norm(before) / np.linalg.norm(gradient))
            heights = []
            for moved in (before - way, before + way):
                tensor.CopyFrom(numpy_helper.from_array(moved, name))
                heights.append((logits(graph, images).astype(np.float64) ** 2).sum())
            tensor.CopyFrom(numpy_helper.from_array(before, name))
            # The logits are not straight lines: Relu's and hard-swish's corners.
            expected = pytest.approx(2 * (gradient * way).sum(), rel=0.02)
            assert heights[1] - heights[0] == expected, name


@pytest.mark.parametrize("threshold", [1.0, (-1.0, 1.0)], ids=["int8", "uint8"])
def test_gradients_pass_through_rounding_but_not_beyond_the_threshold(threshold):
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 5]) for n in ("x", "sum")]
    node = helper.make_node("Add", ["x", "x"], ["sum"], "Add.0")
    graph = helper.make_graph([node], "g", values[:1], values[1:])
    opsets = [helper.make_opsetid("", 13)]
    small = insert_qdq(
        helper.make_model(graph, opset_imports=opsets, ir_version=7), {"x": threshold}
    )
    x = np.asarray([[-1.5, -0.5, 0.003, 0.9, 1.5]], np.float32)
    given = paddle.to_tensor(x, stop_gradient=False)
    answers = PaddleGraph(small)(given, {})
    answers.sum().backward()
    assert given.grad.numpy().tolist() == [[0, 2, 2, 2, 0]]
    expected = logits(small, [x])
    np.testing.assert_allclose(answers.numpy(), expected, rtol=1e-6)  # one product in float32
    assert np.abs(expected - 2 * np.clip(x, -1, 1)).max() > 1e-3  # it was rounded


def test_training_brings_a_collapsed_network_back(shipped, monkeypatch):
    """The twin with outlier channels, without any other technique, on pictures it did not see."""
    graph, images = shipped
    monkeypatch.setattr(finetune, "BATCH", 2)
    monkeypatch.setattr(finetune, "EPOCHS", 8)
    training, others = images[::2], images[1::2]
    wanted = logits(graph, others)
    twin = onnx.ModelProto()
    twin.CopyFrom(graph)
    plant_outliers(twin, 100)
    before = twin.SerializeToString()
    plain = quantize(twin, training[:8], Recipe()).int8
    made = quantize(twin, training[:8], Recipe(techniques=("train",)), training).int8
    assert twin.SerializeToString() == before
    # dB; 4.3 here, where 32 windows of two photographs are all there is to learn from.
    assert snr(logits(made, others), wanted) > snr(logits(plain, others), wanted) + 3


def test_training_is_repeatable_and_leaves_a_float_graph(shipped, monkeypatch):
    graph, images = shipped
    monkeypatch.setattr(finetune, "BATCH", 4)
    training, told = images[:12], []
    recipe = Recipe("mse", ("gates", "split", "equalise", "train"), ("pool",))
    made = quantize(graph, training, recipe, training, told.append)
    again = quantize(graph, training, recipe, training)
    assert again.int8 == made.int8 and again.graph == made.graph
    assert [line.split(",")[0] for line in told] == [f"train: epoch {i} of 3" for i in (1, 2, 3)]
    # It is what the compiler gets, which calibrates it and finds what was trained for.
    thresholds = thresholds_of(made.graph, training, recipe, made.float_layers)
    assert insert_qdq(made.graph, thresholds, made.float_layers) == made.int8
    kinds = {node.op_type for node in made.graph.graph.node}
    assert kinds == {node.op_type for node in graph.graph.node} | {"Clip"}
    with pytest.raises(UserError, match="no image to train with"):
        quantize(graph, training, recipe)


def test_pictures_to_train_with_need_the_technique_that_trains():
    argv = ["--pretrained=x", "--data-path=x", "--train-images=10"]
    with pytest.raises(UserError, match="--train-images has no effect"):
        cli.parse(QuantizeConfig, argv, "quantize.py")
    for flag in ("--remedies=gates,train", "--table"):
        assert cli.parse(QuantizeConfig, [*argv, flag], "quantize.py").train_images == 10


def test_an_operator_that_cannot_be_trained_is_named(shipped):
    graph, images = shipped
    other = onnx.ModelProto()
    other.CopyFrom(graph)
    node = next(node for node in other.graph.node if node.op_type == "Relu")
    node.op_type = "Softplus"
    with pytest.raises(UserError, match=f"{node.name}: Softplus cannot be trained"):
        quantize(other, images[:2], Recipe(techniques=("train",)), images[:2])
