"""Calibration and int8 graphs against numpy's definitions, integers, and MXNet's entropy rule."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import ROOT
from golden.make_calibration_golden import samples
from onnx import TensorProto, helper, numpy_helper

from ppcls_lite.errors import UserError
from ppcls_lite.int8 import calibrate as rules
from ppcls_lite.int8 import half, qdq
from ppcls_lite.int8.qdq import EXACT
from ppcls_lite.int8.softmax import append_softmax, ends_in_softmax

RANDOM = np.random.RandomState(0)
WEIGHTS = RANDOM.randn(4, 3, 3, 3).astype("float32") * [[[[0.1]]], [[[1]]], [[[5]]], [[[0]]]]
BIAS = RANDOM.randn(4).astype("float32")


@pytest.fixture
def network(tmp_path):
    """Conv, batch norm, Relu, global pooling, Gemm; opset 11."""
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["c"], "Conv.0", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "g", "b", "m", "v"], ["n"], "Norm.0"),
        helper.make_node("Relu", ["n"], ["r"], "Relu.0"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], "Pool.0"),
        helper.make_node("Flatten", ["p"], ["f"], "Flatten.0"),
        helper.make_node("Gemm", ["f", "fw", "fb"], ["out"], "Gemm.0", transB=1),
    ]
    arrays = {
        "w": WEIGHTS.astype("float32"), "g": np.abs(BIAS), "b": BIAS, "m": BIAS / 2,
        "v": np.abs(BIAS) + 1, "fw": RANDOM.randn(5, 4).astype("float32"), "fb": np.ones(5, "f"),
    }  # fmt: skip
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(a, n) for n, a in arrays.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
    path = tmp_path / "network.onnx"
    onnx.save(model, path)
    return path


def images(count, seed=1):
    random = np.random.RandomState(seed)
    return [random.randn(1, 3, 8, 8).astype("float32") for _ in range(count)]


def session_of(model):
    options = onnxruntime.SessionOptions()
    for key, value in EXACT.items():
        options.add_session_config_entry(key, value)
    data = model.SerializeToString() if isinstance(model, onnx.ModelProto) else str(model)
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def answer(model, image):
    return session_of(model).run(None, {"input": image})[0]


def test_the_float_graph_is_folded_and_answers_as_the_file(network):
    graph = qdq.float_graph(network)
    assert [n.op_type for n in graph.graph.node].count("BatchNormalization") == 0
    assert qdq.layer_names(graph) == ["Conv.0", "Pool.0", "Gemm.0"]
    assert qdq.opset(graph) == 13
    for image in images(3):
        # A folded batch norm multiplies in another order.
        np.testing.assert_allclose(answer(graph, image), answer(network, image), atol=1e-6)


@pytest.mark.parametrize("damage", ["cut", "operator", "input", "no opset"])
def test_a_file_that_is_no_network_is_one_message(network, damage):
    """Protobuf, ONNX's converter and ONNX Runtime each complain in a way of their own."""
    model = onnx.load(network)
    if damage == "operator":
        model.graph.node[0].op_type = "Nonsense"
        model.opset_import[0].version = 13  # past the converter
    elif damage == "input":
        model.graph.node[2].input[0] = "nothing"
    elif damage == "no opset":
        del model.opset_import[:]
    onnx.save(model, network)
    if damage == "cut":
        network.write_bytes(network.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"network\.onnx cannot be read as ONNX"):
        qdq.float_graph(network)


def test_percentile_is_exact_over_all_pictures(network):
    """TVM's: the value at position int(N p) of the sorted |x|, N over all pictures."""
    graph, pictures = qdq.float_graph(network), images(7)
    activations = rules.Activations(graph, ["input", "n"], pictures)
    for percentile in (0.99999, 0.9):
        found = rules.calibrate(activations, "percentile", percentile)
        values = np.sort(np.abs(np.concatenate([p.ravel() for p in pictures])))
        assert found["input"] == values[int(len(values) * percentile)]
    assert rules.calibrate(activations, "max")["input"] == values[-1]
    inner = [v["n"] for v in rules.Activations(graph, ["n"], pictures)]
    assert rules.calibrate(activations, "max")["n"] == np.abs(inner).max()


def spread_of(values):
    peak = float(np.abs(values).max())
    counts, _ = np.histogram(values, bins=rules.BINS, range=(-peak, peak))
    return rules.Spread(peak, np.abs(values), counts)


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("mode", rules.MODES)
def test_every_rule_keeps_a_tensor_that_is_nearly_always_silent(mode, unsigned):
    """A squeeze branch over 5,000 pictures: of 320,000 values two are not 0."""
    values = np.zeros((5000, 1, 64, 1, 1), np.float32)
    values[17, 0, 3] = values[4000, 0, 60] = 0.8
    found = rules.calibrate(Given(values), mode, unsigned=unsigned)["x"]
    low, high = found if unsigned else (-found, found)
    scale = (high - low) / (255 if unsigned else 128 * 2)
    assert np.clip(np.round(0.8 / scale), -127, 255) * scale == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("mode", rules.MODES)
def test_no_rule_gives_a_scale_that_float32_cannot_divide_by(mode):
    values = np.full((3, 1, 8, 1, 1), 1e-40, np.float32)
    threshold = rules.calibrate(Given(values), mode)["x"]
    assert np.float32(threshold) / np.float32(128) > np.finfo(np.float32).tiny


class Given:
    """Activations that are known: one tensor `x`, float32 [pictures, 1, C, H, W]."""

    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values)

    def __iter__(self):
        return ({"x": value} for value in self.values)


@pytest.mark.parametrize("silent", ["input", "unsigned input", "a channel", "nothing"])
def test_biases_fit_in_32_bits_and_no_other_channel_pays(network, silent):
    graph = qdq.float_graph(network)
    (conv,) = [node for node in graph.graph.node if node.op_type == "Conv"]
    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    weights, bias = (numpy_helper.to_array(constants[name]).copy() for name in conv.input[1:3])
    bias[0] = 3.0  # a channel that is nothing but its bias: EfficientNet-Lite0 has some
    weights[0] *= 1e-12 if silent == "a channel" else 1
    for name, value in zip(conv.input[1:3], (weights, bias), strict=True):
        constants[name].CopyFrom(numpy_helper.from_array(value, name))
    threshold = {"input": 1e-9, "unsigned input": (0.0, 1e-9)}.get(silent, 2.5)
    tensors = qdq.rounded_tensors(graph)
    thresholds = {name: threshold if name == "input" else 2.5 for name in tensors}
    result = qdq.insert_qdq(graph, thresholds)
    found = {t.name: numpy_helper.to_array(t) for t in result.graph.initializer}
    step, scales = float(found["input/scale"]), found[f"{conv.name}/weight_scales"]
    assert step == pytest.approx(1e-9 / 255 if silent == "unsigned input" else threshold / 128)
    assert np.abs(bias / (step * scales.astype(float))).max() <= 2**30 * 1.001
    usual = qdq.quantize_weights(weights, 0)[1]
    kept = {"a channel": slice(1, None), "nothing": slice(None)}.get(silent, slice(0))
    assert np.array_equal(scales[kept], usual[kept])
    if silent == "a channel":
        assert scales[0] > usual[0] and not found[f"{conv.name}/weights"][0].any()


SAMPLES = samples()
GOLDEN = ROOT / "tests/golden/calibration_mxnet.json"


@pytest.mark.parametrize("name", SAMPLES)
def test_kl_threshold_is_that_of_mxnet(name):
    expected = json.loads(GOLDEN.read_text())[name]
    # Three of four are equal; MXNet sums in float32, where neighbours of the fourth change places.
    allowed = 0.015 if name == "relu" else 1e-6
    assert rules.kl_threshold(spread_of(SAMPLES[name])) == pytest.approx(expected, rel=allowed)


@pytest.mark.parametrize("name", SAMPLES)
def test_mse_threshold_is_nearly_the_best(name):
    """Against the error of really rounding the values, over a finer grid of thresholds."""
    values = SAMPLES[name]

    def error(threshold):
        scale = threshold / 128
        return np.mean((values - scale * np.clip(np.round(values / scale), -127, 127)) ** 2)

    spread = spread_of(values)
    best = min(error(spread.peak * f) for f in np.linspace(0.01, 1, 100))
    # 256 candidates and 2001 bins miss the optimum a little.
    assert error(rules.mse_threshold(spread)) <= 1.03 * best


def test_histograms_are_numpys(network):
    graph, pictures = qdq.float_graph(network), images(5)
    activations = rules.Activations(graph, ["input", "n"], pictures)
    spreads = rules.measure(activations, with_histogram=True)
    values = np.concatenate([p.ravel() for p in pictures])
    peak = spreads["input"].peak
    expected, _ = np.histogram(values, bins=rules.BINS, range=(-peak, peak))
    # A value on the border of two bins may fall into either: float32 here, float64 there.
    assert np.abs(np.cumsum(spreads["input"].histogram) - np.cumsum(expected)).max() <= 1
    assert spreads["n"].histogram.sum() == 5 * 4 * 64


def test_modes_have_the_vendors_names_and_others_are_refused():
    assert rules.mode_name("entropy") == rules.mode_name("kl") == "kl_divergence"
    with pytest.raises(UserError, match="did you mean percentile"):
        rules.mode_name("percentil")


def test_weights_are_rounded_per_output_channel():
    rounded, scales = qdq.quantize_weights(WEIGHTS.astype("float32"), 0)
    for channel in range(3):
        peak = np.abs(WEIGHTS[channel]).max()
        assert scales[channel] == pytest.approx(peak / 128)
        expected = np.clip(np.round(WEIGHTS[channel] / (peak / 128)), -127, 127)
        # A half may fall to either side in float32.
        assert np.abs(rounded[channel] - expected).max() <= 1
        assert np.abs(rounded[channel]).max() == 127
    assert not rounded[3].any()


def integer_convolution(x, weights):
    """int32 sums of a 3 x 3 convolution with padding 1, as int8 hardware makes them."""
    padded = np.pad(x[0].astype(np.int32), ((0, 0), (1, 1), (1, 1)))
    out = np.zeros((len(weights), 8, 8), np.int32)
    for i in range(8):
        for j in range(8):
            window = padded[:, i : i + 3, j : j + 3]
            out[:, i, j] = np.tensordot(weights.astype(np.int32), window, axes=3)
    return out


def test_the_int8_graph_computes_what_integers_do(network):
    """The convolution's output, with int8 inputs, int8 weights and int32 sums in numpy."""
    graph = qdq.float_graph(network)
    tensors = qdq.rounded_tensors(graph)
    thresholds = rules.calibrate(rules.Activations(graph, tensors, images(4)), "max")
    small = qdq.insert_qdq(graph, thresholds)
    small.graph.output.append(helper.make_tensor_value_info("n", TensorProto.FLOAT, None))
    (image,) = images(1, seed=9)
    image *= 2  # beyond the threshold
    got = session_of(small).run(["n"], {"input": image})[0][0]

    folded = {t.name: numpy_helper.to_array(t) for t in graph.graph.initializer}
    conv = graph.graph.node[0]
    scale = np.float32(thresholds["input"]) / np.float32(128)
    x = np.clip(np.round(image / scale), -127, 127).astype(np.int8)
    weights, scales = qdq.quantize_weights(folded[conv.input[1]], 0)
    expected = integer_convolution(x, weights) * (scale * scales)[:, None, None]
    expected += folded[conv.input[2]][:, None, None]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)  # float32 sums
    assert np.abs(x).max() == 127  # and not 128: it was clipped


def test_layers_stay_float_by_name_and_by_number(network):
    graph, pictures = qdq.float_graph(network), images(4)
    (image,) = images(1, seed=5)
    everything = qdq.resolve_layers(graph, [0, "Pool.0", "Gemm.0"])
    assert everything == {"Conv.0", "Pool.0", "Gemm.0"}
    assert qdq.rounded_tensors(graph, everything) == []
    thresholds = rules.calibrate(
        rules.Activations(graph, qdq.rounded_tensors(graph), pictures), "max"
    )
    full = answer(graph, image)
    assert np.array_equal(answer(qdq.insert_qdq(graph, thresholds, everything), image), full)
    one = qdq.insert_qdq(graph, thresholds, {"Conv.0"})
    assert "Conv.0/weights" not in {t.name for t in one.graph.initializer}
    assert "Gemm.0/weights" in {t.name for t in one.graph.initializer}
    assert not np.array_equal(answer(one, image), full)
    for layer in (7, "Conv.9"):
        with pytest.raises(UserError, match="layer"):
            qdq.resolve_layers(graph, [layer])


def test_half_precision_rounds_weights_and_activations(network):
    graph = qdq.float_graph(network)
    small = half.insert_half(graph)
    (image,) = images(1)
    small.graph.output.append(helper.make_tensor_value_info("n/half", TensorProto.FLOAT, None))
    result, inner = session_of(small).run(["out", "n/half"], {"input": image})
    assert np.array_equal(inner, inner.astype(np.float16).astype(np.float32))
    difference = np.abs(result - answer(graph, image)).max()
    # 11 bits of mantissa, a few roundings in a row, answers of about 1.
    assert 0 < difference < 5e-3


def test_softmax_is_seen_and_appended_once(network):
    graph = qdq.float_graph(network)
    (image,) = images(1)
    logits = answer(graph, image)
    assert not ends_in_softmax(graph)
    append_softmax(graph)
    assert ends_in_softmax(graph)
    expected = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(answer(graph, image), expected, rtol=1e-5)
    assert graph.graph.output[0].name == "out"


def test_unsigned_ranges_end_where_the_values_do(network):
    graph, pictures = qdq.float_graph(network), images(5)
    activations = rules.Activations(graph, ["input", "r"], pictures)
    found = rules.calibrate(activations, "percentile", 0.9, unsigned=True)
    limit = rules.calibrate(activations, "percentile", 0.9)
    assert found["input"] == (-limit["input"], limit["input"])
    assert found["r"] == (0, limit["r"])  # after a Relu all 255 steps are above 0
    assert rules.calibrate(activations, "max", unsigned=True)["input"] == (
        min(image.min() for image in pictures),
        max(image.max() for image in pictures),
    )


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_runtimes_compute_in_int8_what_the_graph_says(network, target, tmp_path):
    """Their own kernels, against rounding in float; ONNX Runtime's log of what it fused."""
    engine = pytest.importorskip(target)
    graph, arithmetic = qdq.float_graph(network), qdq.ARITHMETIC[target]
    tensors = qdq.rounded_tensors(graph, arithmetic=arithmetic)
    assert tensors == {"onnxruntime": ["input", "r", "f"], "openvino": ["input", "f"]}[target]
    activations = rules.Activations(graph, tensors, images(4))
    small = qdq.insert_qdq(graph, rules.calibrate(activations, "max", unsigned=True))
    (image,) = images(1, seed=9)
    full, rounded = answer(graph, image), answer(small, image)
    if target == "openvino":
        onnx.save(small, tmp_path / "small.onnx")
        options = {"INFERENCE_PRECISION_HINT": "f32"}
        model = engine.Core().compile_model(str(tmp_path / "small.onnx"), "CPU", options)
        got = model([image])[0]
    else:
        options = engine.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "fused.onnx")
        session = engine.InferenceSession(
            small.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        got = session.run(None, {"input": image})[0]
        kinds = [node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node]
        assert "QLinearConv" in kinds and "Conv" not in kinds and "Relu" not in kinds
    # A sum on the border between two steps may go either way. Without VNNI both add two
    # products in 16 bits, where large ones saturate: about as far off as the rounding itself, seen
    # up to 1.05 times as far.
    room = 0.2 if "vnni" in Path("/proc/cpuinfo").read_text() else 1.5
    assert np.abs(got - rounded).max() < room * np.abs(rounded - full).max() + 1e-3
