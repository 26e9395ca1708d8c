"""Quantization-aware training and pruning: against torch and PaddleSlim, then in real runs."""

import json
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import paddle
import pytest
from conftest import ROOT, run_tool, same_weights, train
from onnx import numpy_helper

from ppcls_lite import cli, create_model
from ppcls_lite.arch.count import count_macs, count_parameters
from ppcls_lite.deploy.export import export_model
from ppcls_lite.deploy.ranking import softmax
from ppcls_lite.deploy.verify import check_images
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.errors import UserError
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.optimizer.optimizers import parameter_groups
from ppcls_lite.runtimes import load_network
from ppcls_lite.slim import fpgm
from ppcls_lite.slim.network import network_of
from ppcls_lite.slim.onnx_qdq import to_qdq
from ppcls_lite.slim.pact import PactConv2D, PactLinear, quantize_activation, quantize_weight
from ppcls_lite.weights.find import find_weights
from ppcls_lite.weights.formats import read_weights
from ppcls_lite.weights.load import load_weights

GOLDEN = json.loads((ROOT / "tests/golden/slim_golden.json").read_text())
SMALL = ModelInfo("mobilenet_v3_small", 5, {"width": 0.5})


def array(part, name):
    return np.array(GOLDEN[part][name], "float32")


def test_activations_round_as_torch_does_and_have_the_papers_gradient():
    x = paddle.to_tensor(array("activation", "x"), stop_gradient=False)
    alpha = paddle.to_tensor(array("activation", "alpha"), stop_gradient=False)
    y = quantize_activation(x, alpha)
    # torch multiplies by the rounded inverse of the scale: 1 ulp of the largest value, 2.5.
    np.testing.assert_allclose(y.numpy(), array("activation", "y"), atol=3e-7)
    paddle.autograd.backward([y], [paddle.to_tensor(array("activation", "upstream"))])
    # 1 ulp: the gradient is multiplied by the scale and divided by it.
    np.testing.assert_allclose(x.grad.numpy(), array("activation", "dx"), rtol=2e-7)
    # a sum of 60 terms in another order
    np.testing.assert_allclose(alpha.grad.numpy(), array("activation", "dalpha"), rtol=1e-5)


def test_weights_round_per_channel_as_torch_does_and_gradients_pass():
    w = paddle.to_tensor(array("weight", "w"), stop_gradient=False)
    y = quantize_weight(w, axis=0)
    np.testing.assert_allclose(y.numpy(), array("weight", "y"), atol=2e-6)  # 1 ulp of 16
    y.sum().backward()
    assert (w.grad.numpy() == 1).all()


def test_rounding_takes_halves_to_even_and_zero_weights_stay_zero():
    steps = paddle.to_tensor([-2.5, -0.5, 0.5, 1.5, 127.4, 300, -300])
    rounded = quantize_activation(steps, paddle.to_tensor([127.0]))
    assert rounded.tolist() == [-2, 0, 0, 2, 127, 127, -128]  # as numpy.rint and QuantizeLinear
    assert (quantize_weight(paddle.zeros([2, 3]), axis=1) == 0).all()


@pytest.mark.parametrize(
    ("skip", "quantized"),
    [((), 54), (("se",), 36), (("se", "first", "last"), 34)],
)
def test_the_layers_that_are_quantized_can_be_chosen(skip, quantized):
    """52 convolutions, 18 of them in squeeze-excite, and 2 linear layers."""
    model = network_of(replace(SMALL, quant_skip=skip))
    layers = [x for x in model.sublayers() if isinstance(x, PactConv2D | PactLinear)]
    assert len(layers) == quantized
    plain = create_model(SMALL.name, SMALL.num_classes, width=0.5)
    assert count_macs(model, 32) == count_macs(plain, 32)


def test_thresholds_start_with_the_first_training_batch_and_learn_at_their_own_rate():
    model = network_of(replace(SMALL, quant_skip=()))
    model.eval()
    images = paddle.rand([2, 3, 32, 32]) * 3
    model(images)
    stem = model.features[0][0]
    assert stem.alpha.item() == 0
    model.train()
    model(images).sum().backward()
    assert stem.alpha.item() == images.max().item()
    model(images * 2)
    assert stem.alpha.item() == images.max().item()
    groups = parameter_groups(model, TrainConfig(pact_lr_factor=0.5, pact_weight_decay=0.25))
    own = [g for g in groups if (g["weight_decay"], g["learning_rate"]) == (0.25, 0.5)]
    assert [p.shape for g in own for p in g["params"]] == [[1]] * 54


def test_float_and_quantized_checkpoints_load_into_each_other():
    plain, quantized = (
        create_model("mnasnet0_5", 4),
        network_of(ModelInfo("mnasnet0_5", 4, quant_skip=())),
    )
    state = {name: tensor.numpy() for name, tensor in plain.state_dict().items()}
    report = load_weights(quantized, state)
    assert not report.reinitialised
    quantized.train()
    quantized(paddle.rand([2, 3, 32, 32]))
    both = {name: tensor.numpy() for name, tensor in quantized.state_dict().items()}
    load_weights(plain, both)
    for name, tensor in plain.state_dict().items():
        assert np.array_equal(tensor.numpy(), both[name])
    again = network_of(ModelInfo("mnasnet0_5", 4, quant_skip=()))
    load_weights(again, both)
    assert again.layers[0].alpha.item() == both["layers.0.alpha"].item() > 0
    other_head = network_of(ModelInfo("mnasnet0_5", 7, quant_skip=()))
    fresh = load_weights(other_head, both, replace_head=True).reinitialised
    assert fresh == ("classifier.1.weight", "classifier.1.bias")


def test_filters_are_ranked_as_paddleslim_ranks_them():
    sums = fpgm.distance_sums(array("fpgm", "filters").reshape(12, -1))
    # PaddleSlim sums in float32
    np.testing.assert_allclose(sums, GOLDEN["fpgm"]["sums"], rtol=1e-5)


def deaden(model, share):
    """Makes the first `share` of each block's expanded channels give nothing."""
    state = {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}
    random = np.random.RandomState(0)
    for name, value in state.items():
        if name.endswith("_mean"):
            value[:] = 0.1 * random.randn(*value.shape)
    for _, roles in fpgm.blocks_of(model):
        for unit in (roles.get("expand", []) + roles["depthwise"]) if "expand" in roles else []:
            for own in ("weight", "bias", "_mean"):
                value = state.get(f"{unit.ours}.{own}")
                if value is not None:
                    value[: round(share * len(value))] = 0
    model.set_state_dict({name: paddle.to_tensor(value) for name, value in state.items()})


@pytest.mark.parametrize(
    "name", ["mobilenet_v3_small", "mnasnet_small", "showlo_mobilenetv3_small"]
)
def test_pruning_dead_channels_changes_nothing_but_the_size(name):
    info = ModelInfo(name, 5)
    paddle.seed(0)
    model = network_of(info)
    deaden(model, 0.6)
    images = paddle.rand([2, 3, 64, 64])
    model.eval()
    smaller, described = fpgm.prune(model, info, 0.5)
    smaller.eval()
    expected, answer = model(images).numpy(), smaller(images).numpy()
    # The same terms but for zeros, summed in another order.
    np.testing.assert_allclose(answer, expected, atol=1e-5 * np.abs(expected).max())
    assert count_parameters(smaller) < count_parameters(model)
    rebuilt = network_of(ModelInfo.from_dict(json.loads(json.dumps(described.to_dict()))))
    assert {n: t.shape for n, t in rebuilt.state_dict().items()} == {
        n: t.shape for n, t in smaller.state_dict().items()
    }
    for (_, before), (_, after) in zip(
        fpgm._costs(info, 64)[0].items(), fpgm._costs(described, 64)[0].items(), strict=True
    ):
        assert after == before or (after[0] == before[0] - round(before[0] / 2))


def test_thresholds_outlive_pruning():
    info = replace(SMALL, quant_skip=())
    model = network_of(info)
    model.train()
    model(paddle.rand([2, 3, 32, 32]))
    smaller, _ = fpgm.prune(model, info, 0.3)
    after = smaller.state_dict()
    for name, tensor in model.state_dict().items():
        assert not name.endswith(".alpha") or tensor.item() == after[name].item() > 0


@pytest.mark.parametrize(
    ("expanded", "words"),
    [([8] * 10, "10 numbers, the model has 11 blocks"), ([16] * 11, "allowed"),
     ([9, *[16] * 10], "for it expands nothing"), ("many", "a whole number for each block")],
)  # fmt: skip
def test_impossible_widths_are_refused(expanded, words):
    with pytest.raises(UserError, match=words):
        create_model("mobilenet_v3_small", 3, width=0.35, expanded=expanded)


def test_what_is_no_int8_network_is_not_rewritten():
    weight = numpy_helper.from_array(np.ones((1, 1, 1, 1), np.int8), "w")
    graph = onnx.helper.make_graph([], "g", [], [], [weight])
    with pytest.raises(ValueError, match="1 int8 weights, 0 of them"):
        to_qdq(onnx.helper.make_model(graph))


def test_the_layers_to_skip_are_read_from_the_command_line_and_from_nothing():
    def skip(*flags):
        return cli.parse(TrainConfig, list(flags), "train.py").quant_skip

    assert skip("--pact_quant") == ("se",)
    assert skip("--quant-skip=se,first,last") == ("se", "first", "last")
    assert skip("--quant-skip=") == ()
    with pytest.raises(UserError, match="allowed: se, first, last"):
        skip("--quant-skip=all")


# From here on: real runs.


@pytest.fixture(scope="module")
def quantized(straight, pictures, tmp_path_factory):
    """Two epochs of 8 bits after the float training."""
    out = tmp_path_factory.mktemp("quantized")
    start = straight[0] / "latest.pdparams"
    flags = ("--epochs=2", "--lr=0.01", f"--pretrained={start}", "--pact_quant")
    done = train(pictures, out, *flags)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def pruned(straight, pictures, tmp_path_factory):
    """One epoch after pruning the float training's result."""
    out = tmp_path_factory.mktemp("pruned")
    start = straight[0] / "latest.pdparams"
    flags = ("--epochs=1", "--lr=0.01", f"--pretrained={start}", "--fpgm-ratio=0.3")
    done = train(pictures, out, *flags)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def onnx_answers(folder, images):
    session = onnxruntime.InferenceSession(folder / "inference.onnx")
    return session.run(None, {"input": images})[0]


def test_a_quantized_checkpoint_says_so_and_resumes_to_the_bit(quantized, pictures, straight):
    weights = quantized / "latest.pdparams"
    assert json.loads(weights.with_suffix(".json").read_text())["quant_skip"] == ["se"]
    alphas = {n: v for n, v in read_weights(weights).items() if n.endswith(".alpha")}
    assert len(alphas) == 36 and all(v > 0 for v in alphas.values())
    out = quantized / "again"
    flags = ("--epochs=1", "--lr=0.01", f"--pretrained={straight[0] / 'latest.pdparams'}")
    assert train(pictures, out, *flags, "--pact-quant").returncode == 0
    resumed = run_tool("train.py", "--resume", out / "latest.pdparams", "--epochs=2")
    assert resumed.returncode == 0, resumed.stderr
    assert same_weights(weights, out / "latest.pdparams")
    refused = run_tool("train.py", "--resume", weights, "--epochs=3", "--no-pact-quant")
    assert refused.returncode == 2 and "quant_skip: ['se'] -> None" in refused.stderr


def test_a_quantized_export_computes_as_trained_with_int8_weights(quantized, straight):
    weights, folder = quantized / "latest.pdparams", quantized / "exported"
    sidecar = export_model(weights, folder)
    assert all(row["passed"] for row in sidecar.verification["files"].values())
    assert sidecar.info.quant_skip == ("se",)
    images = sidecar.info.preprocess(check_images())
    network, _ = load_network(weights, sidecar.info)
    expected = softmax(network(paddle.to_tensor(images)).numpy())
    # A value at the middle of two steps may round either way, see verify.LIMIT_INT8.
    assert np.abs(onnx_answers(folder, images) - expected).max() <= 0.05

    model = onnx.load(folder / "inference.onnx")
    assert model.opset_import[0].version == 13
    operators = [node.op_type for node in model.graph.node]
    assert operators.count("QuantizeLinear") == 36
    assert operators.count("DequantizeLinear") == 72
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    ints = [a for a in stored.values() if a.dtype == np.int8 and a.ndim > 1]
    arrays = read_weights(weights)
    w = arrays["features.0.0.weight"]
    steps = np.rint(w / (np.abs(w).max((1, 2, 3), keepdims=True) / 127)).astype(np.int8)
    signs = np.sign(arrays["features.0.1.weight"]).astype(np.int8)[:, None, None, None]
    assert any(a.shape == w.shape and np.array_equal(a, steps * signs) for a in ints)
    alpha = arrays["features.0.0.alpha"].item()
    assert any(a.size == 1 and np.isclose(a, alpha / 127, rtol=1e-6) for a in stored.values())

    plain = export_model(straight[0] / "latest.pdparams", quantized / "plain")
    for name in ("inference.onnx", "inference.pdiparams"):
        ratio = sidecar.files[name]["bytes"] / plain.files[name]["bytes"]
        assert ratio < 0.6, name  # a quarter of all but squeeze-excite


def test_a_quantized_export_refuses_an_opset_without_scales_per_channel(quantized):
    with pytest.raises(UserError, match="opset 10 has no scale per channel"):
        export_model(quantized / "latest.pdparams", quantized / "old", opset_version=10)


def test_quantize_refuses_what_is_int8_already(quantized, pictures, tmp_path):
    done = run_tool(
        "tools/quantize.py", f"--pretrained={quantized / 'latest.pdparams'}",
        f"--data-path={pictures}", f"--out={tmp_path / 'int8'}",
    )  # fmt: skip
    assert done.returncode == 2 and "its export is int8 already" in done.stderr
    assert "tools/export_model.py" in done.stderr


def test_a_pruned_checkpoint_is_smaller_everywhere(pruned, straight, pictures):
    out, printed = pruned
    weights = out / "latest.pdparams"
    expanded = find_weights(weights).info.overrides["expanded"]
    assert expanded == [8, 28, 34, 34, 84, 84, 45, 50, 101, 202, 202]
    assert "features.2          40 -> 28" in printed
    sidecar = export_model(weights, out / "exported", formats=["onnx"])
    plain = export_model(straight[0] / "latest.pdparams", out / "plain", formats=["onnx"])
    assert sidecar.files["inference.onnx"]["bytes"] < 0.9 * plain.files["inference.onnx"]["bytes"]
    images = sidecar.info.preprocess(check_images())
    network, _ = load_network(weights, sidecar.info)
    expected = softmax(network(paddle.to_tensor(images)).numpy())
    assert np.abs(onnx_answers(out / "exported", images) - expected).max() <= 1e-5
    resumed = run_tool("train.py", "--resume", weights, "--epochs=2")
    assert resumed.returncode == 0, resumed.stderr
    assert find_weights(weights).info.overrides["expanded"] == expanded  # not pruned again
    again = run_tool("train.py", "--resume", weights, "--epochs=3", "--fpgm-ratio=0.5")
    assert again.returncode == 2 and "before the first step only" in again.stderr


def test_a_pruned_network_can_be_converted_and_quantized(pruned, pictures):
    out, _ = pruned
    back = run_tool("tools/convert_weights.py", out / "latest.pdparams", "--to", "torchvision",
                    "--out", out / "back.safetensors")  # fmt: skip
    assert back.returncode == 0, back.stderr
    assert read_weights(out / "back.safetensors")["features.2.block.0.0.weight"].shape[0] == 28
    dry = train(pictures, out / "dry", f"--pretrained={out / 'latest.pdparams'}", "--pact-quant",
                "--dry-run")  # fmt: skip
    assert dry.returncode == 0, dry.stderr
    assert "dry run   loss" in dry.stdout
