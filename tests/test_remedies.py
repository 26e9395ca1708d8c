"""Int8 techniques on the shipped network: exact in float, and what they are for."""

import importlib.util
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest
import yaml
from conftest import ROOT, picture, run_tool
from matplotlib.figure import Figure
from PIL import Image
from small_checkpoint import checkpoint

from ppcls_lite import cli
from ppcls_lite.data.decode import load_image
from ppcls_lite.deploy.export import export_model
from ppcls_lite.deploy.predictor import Predictor
from ppcls_lite.deploy.verify import check_images
from ppcls_lite.errors import UserError
from ppcls_lite.int8.qdq import (
    float_graph,
    insert_qdq,
    layer_names,
    quantize_weights,
    resolve_layers,
)
from ppcls_lite.int8.stretch import is_stretched, stretch_weights, unstretched
from ppcls_lite.quantize.channels import is_depthwise, with_one_zero
from ppcls_lite.quantize.folding import fold_channel_steps, spell_out
from ppcls_lite.quantize.gates import join_hard_swish
from ppcls_lite.quantize.integers import float_where_unrounded, integer_hard_swish
from ppcls_lite.quantize.recipe import Recipe, logits, prepare, quantize, score
from ppcls_lite.quantize.roles import multiplications
from ppcls_lite.quantize.scaling import plant_outliers
from ppcls_lite.quantize.sensitivity import (
    Damage,
    noise_by_role,
    plot,
    sensitivity,
    with_worst,
    within_budget,
)
from ppcls_lite.quantize.settings import QuantizeConfig
from ppcls_lite.quantize.targets import ENOUGH, TARGETS, for_compiler

TAG = "mobilenet_v3_small.clothing10"
needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="needs openvino"
)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """The float graph of the network in the package, and ten pictures for it."""
    folder = tmp_path_factory.mktemp("shipped")
    sidecar = export_model(TAG, folder, formats=("onnx",), opset_version=11, softmax_inside=False)
    photos = [load_image(p) for p in sorted((ROOT / "test_images").glob("*.jpg"))]
    spec = sidecar.info.preprocess
    images = [spec([picture]) for picture in [*check_images(), *photos]]
    return float_graph(folder / "inference.onnx"), images


def snr(graph, images, wanted):
    return score(logits(graph, images), wanted, wanted.argmax(1))["snr"]


@pytest.mark.parametrize(
    "techniques", [("gates",), ("split",), ("equalise",), ("gates", "split", "equalise")]
)
def test_rewrites_leave_the_float_answers(shipped, techniques):
    graph, images = shipped
    wanted = logits(graph, images)
    changed, _, _ = prepare(graph, images, Recipe(techniques=techniques))
    assert changed != graph
    # float32 has 24 bits; the roundings of 150 layers add up.
    np.testing.assert_allclose(logits(changed, images), wanted, atol=2e-5 * np.abs(wanted).max())
    single = for_compiler(changed)
    assert [e.version for e in single.opset_import] == [11]
    np.testing.assert_allclose(logits(single, images), wanted, atol=2e-5 * np.abs(wanted).max())


def conv_network(weights, relu):
    """A ReLU, if wanted, and a convolution by weights [O, I / groups, k, k] that pads: opset 13."""
    groups = 1 if weights.shape[1] > 1 else len(weights)
    pads = [weights.shape[2] // 2] * 4
    nodes = [onnx.helper.make_node("Relu" if relu else "Identity", ["x"], ["r"], "first")]
    nodes.append(
        onnx.helper.make_node("Conv", ["r", "w"], ["y"], "Conv.0", group=groups, pads=pads)
    )
    width = weights.shape[1] * groups
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, channels, 6, 5])
        for name, channels in (("x", width), ("y", len(weights)))
    ]
    constant = onnx.numpy_helper.from_array(weights, "w")
    graph = onnx.helper.make_graph(nodes, "g", values[:1], values[1:], [constant])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)])


@pytest.mark.parametrize("depthwise", [True, False])
def test_affine_gives_a_channel_of_its_own_range_all_steps(depthwise):
    """Zeros around a picture stay zeros, and the noise is that of steps of a 255th of the range."""
    random = np.random.default_rng(0)
    sizes = np.array([1.0, 50.0, 4.0, 4.0] if depthwise else [50.0] * 4, np.float32)
    weights = random.normal(size=(4, 1, 3, 3) if depthwise else (4, 4, 1, 1)).astype(np.float32)
    graph = conv_network(weights, relu=True)
    images = [
        (sizes[:, None, None] * random.uniform(-0.97, 0.97, (1, 4, 6, 5))).astype(np.float32)
        for _ in range(40)
    ]
    images[0][0, :, 0, 0] = sizes  # the only ones in the top fiftieth, which is clipped
    changed, kept, _ = prepare(graph, images, Recipe(techniques=("affine",)))
    wanted = logits(graph, images)[1:]
    close = 1e-5 * np.abs(wanted).max()
    np.testing.assert_allclose(logits(changed, images)[1:], wanted, atol=close)
    assert kept == {"Conv.0/Mul", "Conv.0/Add"} if depthwise else kept == {"Conv.0/Add"}
    made = quantize(graph, images, Recipe("max", ("affine",), ("elementwise",))).int8
    error = (logits(made, images)[1:] - wanted).std((0, 2, 3))
    of_weights = (logits(insert_qdq(graph, {}), images)[1:] - wanted).std((0, 2, 3))
    # Each value that is not 0 is wrong by up to half a step, each as often; half of them are 0.
    # Depthwise, all but the widest channel have room for half as much again.
    step = sizes * ([1.5, 0.98, 1.5, 1.5] if depthwise else [0.98] * 4) / 255
    expected = np.sqrt((weights**2).sum((1, 2, 3)) * step**2 / 24 + of_weights**2)
    np.testing.assert_allclose(error, expected, rtol=0.15)


def test_affine_leaves_the_float_answers_but_for_what_it_clips(shipped, tmp_path):
    graph, images = shipped
    wanted = logits(graph, images)
    changed, kept, _ = prepare(graph, images, Recipe(techniques=("affine",)))
    assert len(kept) > 40
    assert score(logits(changed, images), wanted, wanted.argmax(1))["snr"] > 30  # dB
    single = for_compiler(changed)
    np.testing.assert_allclose(logits(single, images), logits(changed, images), atol=1e-4)
    # Whoever reads the file finds the layers by name, as exclude_layers of a bundle has them.
    onnx.save(single, tmp_path / "single.onnx")
    assert resolve_layers(float_graph(tmp_path / "single.onnx"), kept) == kept


@pytest.mark.parametrize("shape", [(4, 3, 1, 1), (5, 1, 3, 3)])
def test_stretched_weights_get_the_steps_of_127(shape):
    """Divided by 128 and clipped at 127 they are what others are, divided by 127."""
    weights = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    graph = conv_network(weights, relu=False)
    stretch_weights(graph)
    assert is_stretched(graph)
    stretched = onnx.numpy_helper.to_array(graph.graph.initializer[0])
    found, wanted = (
        quantize_weights(stretched, 0, steps=128),
        quantize_weights(weights, 0, steps=127),
    )
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_allclose(found[1], wanted[1], rtol=1e-6)
    back = onnx.numpy_helper.to_array(unstretched(graph).graph.initializer[0])
    np.testing.assert_allclose(back, weights, rtol=1e-6)
    kept = conv_network(weights, relu=False)
    stretch_weights(kept, ["Conv.0"])
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(kept.graph.initializer[0]), weights)


def quantized(shipped, target, float_layers=()):
    graph, images = shipped
    return quantize(graph, images[:4], Recipe("max", (), float_layers, target)).int8, images


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_joined_hard_swish_keeps_the_bits(shipped, target):
    made, images = quantized(shipped, target)
    joined = onnx.ModelProto()
    joined.CopyFrom(made)
    assert join_hard_swish(joined) == 19
    assert [n.op_type for n in made.graph.node].count("HardSwish") == 0
    assert [n.op_type for n in joined.graph.node].count("HardSwish") == 19  # as in the paper
    assert [n.op_type for n in joined.graph.node].count("HardSigmoid") == 9  # the gates
    onnx.checker.check_model(joined, full_check=True)
    np.testing.assert_array_equal(logits(joined, images), logits(made, images))


def test_what_is_no_hard_swish_is_not_joined():
    def product(alpha, other, extra=()):
        nodes = [
            onnx.helper.make_node("HardSigmoid", ["x"], ["g"], alpha=alpha, beta=0.5),
            onnx.helper.make_node("Mul", ["g", other], ["out"], "out"),
        ]
        tensors = [
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 4])
            for name in ("x", "y", "out", *extra)
        ]
        graph = onnx.helper.make_graph(nodes, "g", tensors[:2], tensors[2:])
        return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)])

    assert join_hard_swish(product(1 / 6, "x")) == 1
    assert join_hard_swish(product(0.2, "x")) == 0  # another slope: ONNX's own default
    assert join_hard_swish(product(1 / 6, "y")) == 0  # a gate: it scales something else
    assert join_hard_swish(product(1 / 6, "x", ["g"])) == 0  # the gate is an output itself


@needs_openvino
def test_openvino_fuses_what_follows_a_convolution(shipped, tmp_path):
    """Counted in the graph that it runs, as it tells it itself."""
    made, _ = quantized(shipped, "openvino")
    before = layers_in_openvino(made, tmp_path)
    after = layers_in_openvino(TARGETS["openvino"].final(made), tmp_path)
    assert before["Convolution"] == after["Convolution"] == 52
    # Each of the 19 was a layer for the gate and one for the product, often with a reordering.
    assert sum(after.values()) <= sum(before.values()) - 2 * 19
    assert after["Reorder"] < before["Reorder"]


def layers_in_openvino(graph, folder):
    import openvino

    onnx.save(graph, folder / "model.onnx")
    core = openvino.Core()
    model = core.read_model(folder / "model.onnx")
    model.reshape({0: [1, *list(model.input(0).partial_shape)[1:]]})
    running = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return Counter(
        str(op.get_rt_info()["layerType"].value) for op in running.get_runtime_model().get_ops()
    )


def test_the_twin_answers_the_same_collapses_and_recovers(shipped):
    graph, images = shipped
    wanted = logits(graph, images)
    twin = onnx.ModelProto()
    twin.CopyFrom(graph)
    assert plant_outliers(twin, 100) > 10
    np.testing.assert_allclose(logits(twin, images), wanted, atol=1e-4 * np.abs(wanted).max())
    found = {
        name: snr(quantize(network, images, recipe).int8, images, wanted)
        for name, network, recipe in (
            ("plain", graph, Recipe(float_layers=("pool",))),
            ("twin", twin, Recipe(float_layers=("pool",))),
            ("mended", twin, Recipe(techniques=("gates", "equalise"), float_layers=("pool",))),
        )
    }
    assert found["twin"] < found["plain"] - 10  # dB; 22 on photographs
    assert found["mended"] > found["plain"] - 1


def test_rounding_does_no_worse_than_the_nearest_step(shipped):
    """In one convolution with everything else in float, on the pictures it was fitted to."""
    graph, images = shipped
    wanted = logits(graph, images)
    others = tuple(name for name in layer_names(graph) if name != "Conv.45")
    plain = snr(quantize(graph, images, Recipe("max", (), others)).int8, images, wanted)
    made = quantize(graph, images, Recipe("max", ("rounding",), others))
    assert snr(made.int8, images, wanted) > plain - 0.5


def test_sensitivity_measures_each_layer_alone(shipped):
    graph, images = shipped
    rows = sensitivity(graph, images[:4])
    assert {row.layer for row in rows} == set(layer_names(graph))
    assert [row.noise for row in rows] == sorted((row.noise for row in rows), reverse=True)
    assert set(noise_by_role(rows)) == {row.role for row in rows}
    first = with_worst(graph, images[:4], Recipe(float_layers=("worst:2",))).float_layers
    assert first == tuple(row.layer for row in rows[:2])
    # Each row is an ordinary int8 graph with all other layers in float.
    others = set(layer_names(graph)) - {rows[0].layer}
    made = quantize(graph, images[:4], Recipe(float_layers=tuple(others)))
    assert insert_qdq(made.graph, made.thresholds, others) == made.int8
    wanted = logits(graph, images[:4])
    assert 10 ** (-snr(made.int8, images[:4], wanted) / 10) == pytest.approx(rows[0].noise)
    with pytest.raises(UserError, match="no number"):
        with_worst(graph, images, Recipe(float_layers=("worst:",)))


def with_channels(shipped, target):
    graph, images = shipped
    recipe = Recipe("max", ("channels",), ("se",), target)
    return quantize(graph, images[:4], recipe).int8, images


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_steps_of_channels_move_into_the_layers_beside_them(shipped, target):
    made, images = with_channels(shipped, target)
    wanted, exact = logits(shipped[0], images), logits(made, images)
    final = TARGETS[target].final(made)
    scales = {t.name: len(t.dims) for t in final.graph.initializer}
    makers = {name: node for node in final.graph.node for name in node.output}
    layers = [n for n in final.graph.node if n.op_type in ("Conv", "Gemm")]
    sources = [makers[n.input[0]] for n in layers if n.input[0] in makers]
    read = [node for node in sources if node.op_type == "DequantizeLinear"]
    assert len(read) > 30 and not any(scales[node.input[1]] for node in read)
    # Sums of float32 in another order put values on the other side of a border between two steps.
    assert snr(final, images, exact) > snr(made, images, wanted) + 3


def fused(graph, folder):
    """How many nodes of each kind ONNX Runtime makes of a graph."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "fused.onnx")
    onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return Counter(node.op_type for node in onnx.load(folder / "fused.onnx").graph.node)


def test_onnx_runtime_gets_integer_kernels_and_vectors(shipped, tmp_path):
    """What it runs, read from the graph that it optimised itself."""
    made, images = with_channels(shipped, "onnxruntime")
    folded = onnx.ModelProto()
    folded.CopyFrom(made)
    join_hard_swish(folded)
    assert fold_channel_steps(folded) > 20
    plain = logits(folded, images)
    assert spell_out(folded) > 20
    np.testing.assert_array_equal(logits(folded, images), plain)
    kinds = fused(TARGETS["onnxruntime"].final(made), tmp_path)
    # 18 of 52 are the gates', in float; so is what only they read, behind the first block's ReLU.
    assert kinds["QLinearConv"] == 33 and kinds["QGemm"] == 2
    assert kinds["DequantizeLinear"] < 10  # of small maps: pooled ones, and the last answers


def test_the_fast_file_for_onnx_runtime_is_integers_but_for_gates(shipped, tmp_path):
    graph, images = shipped
    target = TARGETS["onnxruntime"]
    made = quantize(graph, images, replace(target.fast, float_layers=()))
    kinds = fused(target.final(made.int8), tmp_path)
    # 19 hard-swish are a sum and a product each; 6 residual sums, 9 blocks with a gate.
    assert (kinds["QLinearConv"], kinds["QGemm"], kinds["Conv"]) == (52, 2, 0)
    assert (kinds["QLinearAdd"], kinds["QLinearMul"]) == (19 + 6, 19 + 9)
    assert (kinds["QLinearGlobalAveragePool"], kinds["HardSigmoid"]) == (10, 9)
    wanted = logits(graph, images)
    assert snr(target.final(made.int8), images, wanted) > snr(made.int8, images, wanted) - 1


def test_hard_swish_of_integers_is_wrong_by_half_a_255th_of_what_it_reads():
    node = onnx.helper.make_node
    x = np.linspace(-4, 8, 256, dtype=np.float32).reshape(1, 256)
    scales = {"s": np.float32(12 / 255), "z": np.uint8(85), "t": np.float32(1e-3)}
    graph = onnx.helper.make_graph(
        [
            node("QuantizeLinear", ["input", "s", "z"], ["q"]),
            node("DequantizeLinear", ["q", "s", "z"], ["x"]),
            node("HardSwish", ["x"], ["h"], "swish"),
            node("QuantizeLinear", ["h", "t", "wide"], ["o"]),
            node("DequantizeLinear", ["o", "t", "wide"], ["out"]),
        ],
        "swish",
        [onnx.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, [1, 256])],
        [onnx.helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, [1, 256])],
        [
            onnx.numpy_helper.from_array(np.asarray(value), name)
            for name, value in (scales | {"wide": np.int16(0)}).items()
        ],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)])
    before = logits(model, [x])
    assert integer_hard_swish(model) == 1
    off = np.abs(logits(model, [x]) - before)[0]
    assert 0.004 < off.max() <= 3 / 510 + 2e-3 and off[x[0] > 3.1].max() == 0


def test_a_convolution_before_a_float_layer_gets_float_weights_and_the_same_answers(
    shipped, tmp_path
):
    graph, images = shipped
    depthwise = tuple(node.name for node in graph.graph.node if is_depthwise(node))
    recipe = Recipe("percentile", (), depthwise, "onnxruntime")
    made = quantize(graph, images[:4], recipe).int8
    join_hard_swish(made)
    before = logits(made, images)
    plain = fused(made, tmp_path)
    assert float_where_unrounded(made) == 2  # before a ReLU; hard-swish has them rounded
    np.testing.assert_allclose(logits(made, images), before, atol=1e-4)
    after = fused(made, tmp_path)
    assert after["QLinearConv"] == plain["QLinearConv"]
    # Of the weights and of what was rounded for nobody.
    assert after["DequantizeLinear"] + 4 == plain["DequantizeLinear"]


def test_a_channel_far_from_the_others_keeps_its_steps():
    """Conv, hard-swish, depthwise convolution; channels of 0.01 to 100, against their own steps."""
    random = np.random.default_rng(0)
    width = 8
    sizes = np.geomspace(0.01, 100, width).astype(np.float32)
    first = random.normal(size=(width, 3, 1, 1)) * sizes[:, None, None, None]
    second = random.normal(size=(width, 1, 3, 3)) / sizes[:, None, None, None]
    node = onnx.helper.make_node
    nodes = [
        node("Conv", ["input", "w"], ["c"], "Conv.0"),
        node("HardSigmoid", ["c"], ["g"], "Gate.0", alpha=1 / 6, beta=0.5),
        node("Mul", ["c", "g"], ["s"], "Mul.0"),
        node("Conv", ["s", "d"], ["out"], "Conv.1", group=width, pads=[1, 1, 1, 1]),
    ]
    tensors = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, count, 6, 6])
        for name, count in (("input", 3), ("out", width))
    ]
    weights = [
        onnx.numpy_helper.from_array(value.astype(np.float32), name)
        for name, value in (("w", first), ("d", second))
    ]
    graph = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "g", tensors[:1], tensors[1:], weights),
        opset_imports=[onnx.helper.make_opsetid("", 13)],
        ir_version=7,
    )
    images = [random.normal(size=(1, 3, 6, 6)).astype(np.float32) for _ in range(4)]
    wanted = logits(graph, images)
    for target in ("onnxruntime", "openvino"):
        noise = []
        for techniques in ((), ("channels",)):
            made = quantize(graph, images, Recipe("max", techniques, (), target)).int8
            errors = (logits(made, images) - wanted).std((0, 2, 3)) / wanted.std((0, 2, 3))
            noise.append(errors.max())
        assert noise[0] > 0.5 and noise[1] < 0.05, target  # the smallest had less than one step
    low, high = np.asarray([-0.3, 0, -0.375, -5.0]), np.asarray([0.1, 7, 90, 5])
    below, above = with_one_zero(low, high)
    assert (below <= low + 1e-9).all() and (above >= high - 1e-9).all()
    assert np.ptp(np.round(-below / (above - below) * 255)) == 0


def test_a_budget_buys_what_makes_the_most_noise_for_its_products():
    def row(layer, noise):
        return Damage(layer, "pointwise", noise, 1.0, 1.0, 1.0, 1.0, 1.0)

    rows = [row("large", 0.5), row("small", 0.2), row("dear", 0.2), row("tiny", 0.0001)]
    products = {"large": 60, "small": 2, "dear": 37, "tiny": 1}
    assert within_budget(rows, products, 0.61) == ["small", "dear"]  # large would not fit
    assert within_budget(rows, products, 0.62) == ["small", "large"]
    assert within_budget(rows, products, 1.0) == ["small", "large", "dear"]  # tiny makes no noise


def test_products_are_those_of_the_paper(shipped):
    """56 M at 224 pixels (arXiv 1905.02244, table 4), of which 1,000 classes have a million."""
    graph, _ = shipped
    side = graph.graph.input[0].type.tensor_type.shape.dim[2].dim_value
    found = sum(multiplications(graph).values())
    assert found == pytest.approx(55.5e6 * (side / 224) ** 2, rel=0.03)


def test_channels_are_refused_where_the_compiler_finds_the_thresholds():
    argv = ["--pretrained=x", "--data-path=x", "--remedies=channels"]
    with pytest.raises(UserError, match="one threshold for all channels"):
        cli.parse(QuantizeConfig, argv, "quantize.py")
    parsed = cli.parse(QuantizeConfig, [*argv, "--target=openvino"], "quantize.py")
    assert parsed.remedies == ("channels",)
    argv = ["--pretrained=x", "--data-path=x", "--remedies=affine", "--target=openvino"]
    with pytest.raises(UserError, match="steps of its own"):
        cli.parse(QuantizeConfig, argv, "quantize.py")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Weights by formula of ten classes, and pictures for them, made by formula too."""
    folder = tmp_path_factory.mktemp("trained")
    for split, count in (("train", 2), ("val", 1)):
        for number in range(10):
            (folder / split / f"kind {number}").mkdir(parents=True)
            for copy in range(count):
                picture(number % 3, 10 * number + copy).save(
                    folder / split / f"kind {number}" / f"{copy}.png"
                )
    return checkpoint(folder), folder


def test_each_target_keeps_the_answers(shipped):
    """On the shipped network, with its own recipe, from its own runtime."""
    graph, images = shipped
    wanted = logits(graph, images)
    for name, target in TARGETS.items():
        if target.engine is None or importlib.util.find_spec(target.engine):
            made = quantize(graph, images, with_worst(graph, images[:4], target.recipe))
            found = score(target.answers(made.int8, images), wanted, wanted.argmax(1))
            assert found["snr"] > 20, name  # dB; 27 and more on photographs
            sizes = [t.data_type for t in made.int8.graph.initializer if len(t.dims) == 4]
            least = 30 if name == "accelerator" else 15  # of 52
            assert sizes.count(onnx.TensorProto.INT8) > least, name


def test_the_fast_recipe_is_taken_where_answers_keep(shipped):
    """On the network that it was made for, and not on its twin with channels far apart."""
    graph, images = shipped
    twin = onnx.ModelProto()
    twin.CopyFrom(graph)
    plant_outliers(twin, 1000)
    said: list[str] = []
    recipe, made = TARGETS["openvino"].try_fast(graph, images[-4:], said.append)
    assert recipe == TARGETS["openvino"].fast and not made.float_layers
    assert snr(made.int8, images[-4:], logits(graph, images[-4:])) >= ENOUGH
    assert TARGETS["openvino"].try_fast(twin, images[-4:], said.append) is None
    assert "enough" in said[0] and "too little" in said[1]
    assert TARGETS["accelerator"].try_fast(graph, images, said.append) is None  # it has one recipe


def test_the_table_has_val_and_train(trained):
    weights, data = trained
    done = run_tool(
        "tools/quantize.py", "--pretrained", weights, "--data-path", data, "--table", "--json",
        "--target=onnxruntime", "--float-layers=worst:2", "--calibration-images=4",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])["rows"]
    assert rows[0]["name"] == "fp32" and rows[0]["agreement"] == rows[0]["train_agreement"] == 1
    names = [row["name"] for row in rows]
    assert "int8, mse" in names and "mse + channels; 12 worst in float" in names
    assert f"| {names[-1]} | {rows[-1]['top1']:.3f} |" in done.stdout


def test_quantize_writes_a_folder_that_predicts(trained, tmp_path):
    weights, data = trained
    common = ("--pretrained", weights, "--data-path", data, "--out", tmp_path / "int8")
    for target, files in (
        ("accelerator", ["accelerator.onnx", "inference.onnx", "inference.yml"]),
        ("onnxruntime", ["inference.onnx", "inference.yml"]),
    ):
        flags = ("--target", target, "--min-agreement=0.3", "--float-layers=pool", "--json")
        done = run_tool("tools/quantize.py", *common, *flags)
        assert done.returncode == 0, done.stderr + done.stdout
        assert sorted(f.name for f in (tmp_path / "int8").iterdir()) == files
        sidecar = yaml.safe_load((tmp_path / "int8/inference.yml").read_text())
        measured = sidecar["verification"]["int8"]
        assert measured["target"] == target and measured["pictures"] == 10
        (line,) = (x for x in done.stdout.splitlines() if x.startswith("{"))
        assert json.loads(line) == measured
        names = sorted(data.glob("val/*/*.png"))
        wanted = [row[0].class_id for row in Predictor(weights)(names, 1)]
        small = [row[0].class_id for row in Predictor(tmp_path / "int8")(names, 1)]
        same = np.mean(np.equal(wanted, small))
        if target == "onnxruntime":  # the accelerator's rounding is not what the Predictor's has
            assert same == pytest.approx(measured["agreement"])
        again = run_tool("tools/quantize.py", *common, *flags)
        assert again.returncode == 2 and "not an empty folder" in again.stderr
        for file in (tmp_path / "int8").iterdir():
            file.unlink()


def test_quantize_trains_where_that_is_asked_for(trained, tmp_path):
    weights, data = trained
    done = run_tool(
        "tools/quantize.py", "--pretrained", weights, "--data-path", data, "--out", tmp_path / "q",
        "--remedies=gates,train", "--train-images=12", "--float-layers=", "--min-agreement=0",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "train: epoch 3 of 3, 12 images" in done.stdout
    sidecar = yaml.safe_load((tmp_path / "q/inference.yml").read_text())
    assert sidecar["verification"]["int8"]["recipe"]["remedies"] == ["gates", "train"]


def test_a_collapse_is_an_exit_status(trained, tmp_path):
    weights, data = trained
    done = run_tool(
        "tools/quantize.py", "--pretrained", weights, "--data-path", data, "--outliers=3000",
        "--out", tmp_path / "int8", "--remedies=", "--float-layers=", "--min-agreement=1",
        "--calibration-mode=max",
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "do not deploy them" in done.stderr and "channels up to 3000 x" in done.stdout


def test_what_cannot_be_is_a_message(trained, tmp_path):
    weights, data = trained
    common = ("--pretrained", weights, "--data-path", data, "--out", tmp_path / "int8")
    done = run_tool("tools/quantize.py", *common, "--float-layers=worst:")
    assert done.returncode == 2 and "float layers 'worst:': no number" in done.stderr
    assert not (tmp_path / "int8").exists()


def test_sensitivity_writes_its_ranking_and_a_plot(trained, tmp_path):
    weights, data = trained
    done = run_tool(
        "tools/sensitivity.py", "--pretrained", weights, "--data-path", data, "--out", tmp_path,
        "--calibration-images=2", "--rows=3",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ranking = json.loads((tmp_path / "sensitivity.json").read_text())
    assert ranking["layers"][0]["layer"] in done.stdout.splitlines()[1]
    assert Image.open(tmp_path / "sensitivity.png").size[0] == 1100


def test_the_legend_of_the_plot_has_the_colours_of_the_bars(tmp_path, monkeypatch):
    drawn = []
    save = Figure.savefig

    def savefig(figure, *to, **how):
        drawn.append(figure)
        save(figure, *to, **how)

    monkeypatch.setattr(Figure, "savefig", savefig)
    kinds = ["depthwise", "first", "hswish", "last", "other", "pointwise", "pool", "se"]
    rows = [Damage(f"{kind}.0", kind, 0.1, 1.0, 1.0, 1.0, 2.0, 2.0) for kind in kinds]
    plot(rows, "title", tmp_path / "plot.png")
    left = drawn[0].axes[0]
    bars = {
        name.get_text().partition(".")[0]: bar.get_facecolor()
        for name, bar in zip(left.get_yticklabels(), left.patches, strict=True)
    }
    (legend,) = drawn[0].legends
    drawn_in_it = {
        text.get_text(): patch.get_facecolor()
        for text, patch in zip(legend.get_texts(), legend.get_patches(), strict=True)
    }
    assert drawn_in_it == bars and len(set(bars.values())) == len(kinds)
