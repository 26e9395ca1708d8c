"""The models against torchvision's: layout, counts, start, results, training, export.

The numbers come from tests/golden/make_arch_golden.py, computed in float64.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from golden import formula

from ppcls_lite import create_model
from ppcls_lite.arch.count import count_macs, count_parameters, count_parameters_with_bn_stats
from ppcls_lite.arch.flavours import TV_V3, make_divisible
from ppcls_lite.arch.layers import SqueezeExcite
from ppcls_lite.arch.zoo import list_models
from ppcls_lite.errors import UserError

GOLDEN = dict(np.load(Path(__file__).parent / "golden/arch.npz"))
MODELS = list_models(source="torchvision")


def build_from_formula(name: str, **overrides: float) -> paddle.nn.Layer:
    model = create_model(name, formula.NUM_CLASSES, **overrides)
    for key, tensor in model.state_dict().items():
        tensor.set_value(formula.weight(key, tuple(tensor.shape)))
    return model


def to_numpy(model: paddle.nn.Layer) -> dict[str, np.ndarray]:
    return {key: tensor.numpy() for key, tensor in model.state_dict().items()}


def error(got: np.ndarray, want: np.ndarray) -> float:
    """Largest difference, relative to the largest number wanted."""
    assert got.shape == want.shape
    return float(np.abs(got - want).max() / np.abs(want).max())


def fingerprint_error(got: dict[str, np.ndarray], want: np.ndarray) -> float:
    """Largest difference over all tensors, each relative to its own norm.

    A norm below a millionth of the largest is a tensor that is zero but for rounding: biases
    that the next batch norm takes out again have no gradient.
    """
    prints = formula.fingerprints(got)
    assert prints.shape == want.shape
    norms = np.maximum(want[:, :1], 1e-6 * want[:, 0].max())
    return float((np.abs(prints - want) / norms).max())


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    paddle.seed(0)


@pytest.mark.parametrize("name", MODELS)
def test_keys_shapes_and_counts_equal_torchvision(name: str) -> None:
    check_layout(create_model(name), name)


@pytest.mark.parametrize("width", [0.35, 0.75])
@pytest.mark.parametrize("name", ["mobilenet_v3_small", "mobilenet_v3_large"])
def test_width_scales_as_in_torchvision(name: str, width: float) -> None:
    check_layout(create_model(name, width=width), f"{name}@{width}")


def check_layout(model: paddle.nn.Layer, golden: str) -> None:
    entries = sorted(model.state_dict().items())
    assert " ".join(f"{k} {list(t.shape)}" for k, t in entries) == str(GOLDEN[f"{golden}/keys"])
    counts = [count_parameters(model), count_parameters_with_bn_stats(model), count_macs(model)]
    assert counts == GOLDEN[f"{golden}/counts"].tolist()


def test_a_width_without_a_row_has_the_parameter_count_published_for_it() -> None:
    assert count_parameters(create_model("mnasnet1_0", width=1.4)) == 7_115_728  # timm mnasnet_140


@pytest.mark.parametrize(("channels", "rounded"), [(83, 80), (84, 88), (10, 16), (3, 8), (24, 24)])
def test_make_divisible_loses_at_most_a_tenth(channels: float, rounded: int) -> None:
    assert make_divisible(channels) == rounded


@pytest.mark.parametrize("name", MODELS)
def test_fresh_weights_are_spread_as_in_torchvision(name: str) -> None:
    state = sorted(create_model(name).state_dict().items())
    weights = [t.numpy() for _, t in state if t.ndim > 1]
    for values, (std, largest) in zip(weights, GOLDEN[f"{name}/initial"], strict=True):
        # Two samples of n values: their ratio has a deviation of 1 / sqrt(n); 5 of them pass.
        assert abs(values.std() / std - 1) < 5 / np.sqrt(values.size)
        if values.size > 100_000:
            # A normal sample of this size ends at 4 to 6 deviations, a uniform one at 1.7.
            assert abs(np.abs(values).max() / largest - 1) < 0.5
    for key, tensor in state:
        if tensor.ndim == 1:
            is_bias_or_mean = key.endswith(("bias", "_mean"))
            assert (tensor.numpy() == (0 if is_bias_or_mean else 1)).all(), key


@pytest.mark.parametrize("name", MODELS)
def test_logits_equal_torchvision(name: str) -> None:
    model = build_from_formula(name)
    model.eval()
    logits = model(paddle.to_tensor(formula.images())).numpy()
    # float32 rounding; seen 2e-5 for mobilenet_v3_large, 2e-6 for the others.
    assert error(logits, GOLDEN[f"{name}/logits"]) < 1e-4


@pytest.mark.parametrize("name", MODELS)
def test_three_training_steps_equal_torchvision(name: str) -> None:
    # float64: in float32 torch itself drifts from its float64 losses by up to 0.4 in three
    # steps of mnasnet, because batch norm over few pixels magnifies rounding.
    model = build_from_formula(name, dropout=0.0).to(dtype="float64")
    model.train()
    parameters = {k: t for k, t in model.state_dict().items() if not t.stop_gradient}
    before = to_numpy(model)
    optimizer = paddle.optimizer.Momentum(
        formula.LR,
        formula.MOMENTUM,
        parameters=model.parameters(),
        weight_decay=formula.WEIGHT_DECAY,
    )
    images = paddle.to_tensor(formula.images().astype(np.float64), stop_gradient=False)
    labels = paddle.to_tensor(formula.labels())
    losses = []
    for step in range(formula.STEPS):
        loss = paddle.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        losses.append(loss.item())
        if step == 0:
            check_first_step(name, model, before, images)
        optimizer.step()
        optimizer.clear_grad()
    # Paddle keeps batch norm's epsilon and the gate's slope as float32. Seen 2e-8 and 2e-7.
    assert np.abs(np.array(losses) - GOLDEN[f"{name}/losses"]).max() < 1e-6
    moved = {key: t.numpy() - before[key] for key, t in parameters.items()}
    assert fingerprint_error(moved, GOLDEN[f"{name}/moved"]) < 1e-5


def check_first_step(
    name: str, model: paddle.nn.Layer, before: dict[str, np.ndarray], images: paddle.Tensor
) -> None:
    gradients = {k: t.grad.numpy() for k, t in model.state_dict().items() if not t.stop_gradient}
    stem = gradients["layers.0.weight" if "layers.0.weight" in gradients else "features.0.0.weight"]
    # Seen 7e-8, which is the rounding of the stored numbers to float32.
    assert error(stem, GOLDEN[f"{name}/stem_gradient"]) < 1e-5
    probed = images.grad.numpy()[:, :, ::16, ::16]
    assert error(probed, GOLDEN[f"{name}/input_gradient"]) < 1e-5
    assert fingerprint_error(gradients, GOLDEN[f"{name}/gradients"]) < 1e-5
    moves = {
        key: values - before[key]
        for key, values in to_numpy(model).items()
        if key.endswith(("_mean", "_variance"))
    }
    # Paddle keeps 0.9997 as float32, 3e-5 of the 0.0003 that a step moves by. Seen 4e-5.
    assert fingerprint_error(moves, GOLDEN[f"{name}/statistics"]) < 2e-4


def test_squeeze_excite_gates_with_a_sixth_of_relu6() -> None:
    gate = SqueezeExcite(1, 1, "RE", TV_V3).to(dtype="float64")
    gate.fc1.weight.set_value(np.ones([1, 1, 1, 1]))
    gate.fc2.weight.set_value(np.ones([1, 1, 1, 1]))
    for x in np.linspace(-3.5, 3.5, 15):
        gate.fc2.bias.set_value(np.array([x - 1]))
        scaled = gate(paddle.ones([1, 1, 2, 2], dtype="float64")).numpy()
        # Paddle keeps the slope as float32: seen 1.5e-8. Its default slope is off by 1e-7.
        assert np.abs(scaled - np.clip(x + 3, 0, 6) / 6).max() < 3e-8


@pytest.mark.parametrize(("overrides", "rate"), [({}, 0.2), ({"dropout": 0.5}, 0.5)])
@pytest.mark.parametrize("name", ["mobilenet_v3_small", "mnasnet0_5"])
def test_dropout_keeps_the_mean_and_rests_in_eval_mode(
    name: str, overrides: dict[str, float], rate: float
) -> None:
    model = create_model(name, 2, **overrides)
    (dropout,) = [m for m in model.sublayers() if isinstance(m, paddle.nn.Dropout)]
    ones = paddle.ones([100, 100])
    model.train()
    dropped = dropout(ones).numpy()
    assert np.allclose(np.unique(dropped), [0, 1 / (1 - rate)])
    assert abs((dropped == 0).mean() - rate) < 0.02  # 4 deviations of 10,000 draws
    model.eval()
    assert (dropout(ones).numpy() == 1).all()


def test_counting_macs_leaves_the_model_as_it_was() -> None:
    model = create_model("mobilenet_v3_small", 2)
    model.train()
    frozen = model.features[0]
    frozen.eval()
    before = to_numpy(model)
    assert count_macs(model, image_size=32) == count_macs(model, image_size=32)
    assert model.training and model.classifier.training and not frozen[1].training
    assert not any(layer._forward_post_hooks for layer in model.sublayers())
    assert all((values == before[key]).all() for key, values in to_numpy(model).items())


def test_list_models_filters_by_pattern_and_source_in_table_order() -> None:
    assert list_models("mnasnet?_*") == ["mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3"]
    assert list_models("*_small", source="torchvision") == ["mobilenet_v3_small"]
    assert list_models(source="no such source") == []


@pytest.mark.parametrize(
    ("arguments", "overrides", "words"),
    [
        (("mobilenet_v3_smal",), {}, ["mobilenet_v3_smal", "did you mean mobilenet_v3_small?"]),
        (("resnet",), {}, ["resnet", "list_models"]),
        (("mnasnet1_0",), {"widht": 1}, ["'widht'", "did you mean width?", "width, dropout"]),
        (("mnasnet1_0",), {"width": 0}, ["width is 0", "above 0"]),
        (("mnasnet1_0",), {"width": float("nan")}, ["width is nan"]),
        (("mnasnet1_0",), {"width": float("inf")}, ["width is inf"]),
        (("mnasnet1_0",), {"width": "wide"}, ["width is 'wide'"]),
        (("mnasnet1_0",), {"dropout": 1}, ["dropout is 1", "below 1"]),
        (("mnasnet1_0",), {"dropout": -0.1}, ["dropout is -0.1"]),
        (("mnasnet1_0", 0), {}, ["num_classes is 0", "from 1"]),
        (("mnasnet1_0", 2.5), {}, ["num_classes is 2.5"]),
    ],
)
def test_a_mistake_is_answered_with_what_is_allowed(
    arguments: tuple, overrides: dict, words: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        create_model(*arguments, **overrides)
    assert all(word in str(caught.value) for word in words)
    assert caught.value.hint


EXPORT = """
import sys
from pathlib import Path
import onnx
import onnxruntime
import paddle
import paddle2onnx
from golden import formula
from paddle.static import InputSpec
from test_arch import GOLDEN, build_from_formula, error

folder = Path(sys.argv[1])
plain = {
    "Add", "BatchNormalization", "Constant", "Conv", "GlobalAveragePool", "HardSigmoid",
    "Identity", "MatMul", "Mul", "Relu", "Reshape", "Squeeze",
}
for name in ("mobilenet_v3_small", "mnasnet0_5"):
    model = build_from_formula(name)
    model.eval()
    spec = [InputSpec([None, 3, formula.IMAGE_SIZE, formula.IMAGE_SIZE], "float32", "input")]
    program = paddle.jit.to_static(model, full_graph=True, input_spec=spec)
    paddle.jit.save(program, str(folder / name))
    (graph,) = [p for p in folder.glob(f"{name}.*") if p.suffix in (".json", ".pdmodel")]
    assert graph.suffix == sys.argv[2]
    # The default optimize_tool installs packages with pip while it runs.
    paddle2onnx.export(
        str(graph), str(folder / f"{name}.pdiparams"), save_file=str(folder / f"{name}.onnx"),
        opset_version=10, optimize_tool="None",
    )
    ops = {node.op_type for node in onnx.load(folder / f"{name}.onnx").graph.node}
    assert ops <= plain, ops - plain
    session = onnxruntime.InferenceSession(folder / f"{name}.onnx")
    for batch in (1, 3):
        (logits,) = session.run(None, {"input": formula.images()[:batch]})
        # float32 rounding; seen 2e-6.
        assert error(logits, GOLDEN[f"{name}/logits"][:batch]) < 1e-4
"""


@pytest.mark.parametrize(("pir", "suffix"), [("1", ".json"), ("0", ".pdmodel")])
def test_exported_models_compute_the_same_in_onnx_at_any_batch(
    pir: str, suffix: str, tmp_path: Path
) -> None:
    # A process of its own: Paddle reads the flag when it is imported.
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", EXPORT, str(tmp_path), suffix],
        env=os.environ | {"FLAGS_enable_pir_api": pir, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
