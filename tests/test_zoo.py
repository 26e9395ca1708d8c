"""Every row of the zoo against the framework it comes from: size, start, logits, gradient, export.

The numbers come from tests/golden/make_zoo_golden.py.
"""

import json
import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import paddle
import pytest
from golden import formula

from ppcls_lite import create_model
from ppcls_lite.arch.count import count_macs, count_parameters, count_parameters_with_bn_stats
from ppcls_lite.arch.explain import explain
from ppcls_lite.arch.layers import InvertedResidual
from ppcls_lite.arch.mobilenet_v3 import LARGE, SMALL
from ppcls_lite.arch.zoo import list_models
from ppcls_lite.commands.list_models import run as list_models_command
from ppcls_lite.errors import UserError
from ppcls_lite.weights.settings import ListModelsConfig

ROOT = Path(__file__).parent.parent

GOLDEN = {
    key: values
    for source in ("timm", "ppcls", "mindcv", "showlo")
    for key, values in np.load(ROOT / f"tests/golden/zoo_{source}.npz").items()
}
CASES = list(dict.fromkeys(key.partition("/")[0] for key in GOLDEN))
# torchvision's rows have tests/test_arch.py.
ROWS = [name for name in list_models() if name not in list_models(source="torchvision")]


def build(case: str, num_classes: int) -> paddle.nn.Layer:
    """A case is a name, or name@width."""
    name, _, width = case.partition("@")
    return create_model(name, num_classes, **({"width": float(width)} if width else {}))


def layers(model: paddle.nn.Layer) -> list[paddle.nn.Layer]:
    """Those that have values, in order."""
    kinds = (paddle.nn.Conv2D, paddle.nn.Linear, paddle.nn.BatchNorm2D)
    return [layer for layer in model.sublayers() if isinstance(layer, kinds)]


def build_from_formula(case: str) -> paddle.nn.Layer:
    model = build(case, formula.NUM_CLASSES)
    for i, layer in enumerate(layers(model)):
        for kind, tensor in layer.state_dict().items():
            tensor.set_value(formula.weight_at(i, kind, tuple(tensor.shape)))
    model.eval()
    return model


def error(got: np.ndarray, want: np.ndarray) -> float:
    """Largest difference, relative to the largest number wanted."""
    assert got.shape == want.shape
    return float(np.abs(got - want).max() / np.abs(want).max())


def test_every_row_has_a_golden() -> None:
    assert set(ROWS) <= set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_logits_and_input_gradient_equal_the_source(case: str) -> None:
    # float64, as the goldens are, so that 1e-5 tests the network and not float32's rounding.
    model = build_from_formula(case).to(dtype="float64")
    images = paddle.to_tensor(formula.zoo_images().astype(np.float64), stop_gradient=False)
    logits = model(images)
    paddle.nn.functional.cross_entropy(logits, paddle.to_tensor(formula.zoo_labels())).backward()
    gradient = images.grad.numpy()
    assert error(logits.numpy(), GOLDEN[f"{case}/logits"]) < 1e-5
    assert error(gradient[:, :, ::16, ::16], GOLDEN[f"{case}/input_gradient"]) < 1e-5
    prints = formula.fingerprints({"images": gradient})
    assert error(prints, GOLDEN[f"{case}/gradient_print"]) < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_size_start_and_defaults_equal_the_source(case: str) -> None:
    paddle.seed(0)
    model = build(case, 1000)
    counts = [count_parameters(model), count_parameters_with_bn_stats(model), count_macs(model)]
    assert counts == GOLDEN[f"{case}/counts"].tolist()
    weights = [layer.weight.numpy() for layer in layers(model) if layer.weight.ndim > 1]
    for values, (std, largest) in zip(weights, GOLDEN[f"{case}/initial"], strict=True):
        # Two samples of n values: their ratio has a deviation of 1 / sqrt(n); 5 of them pass.
        assert abs(values.std() / std - 1) < 5 / np.sqrt(values.size)
        if values.size > 100_000:
            # A normal sample of this size ends at 4 to 6 deviations, a uniform one at 1.7.
            assert abs(np.abs(values).max() / largest - 1) < 0.5
    for key, tensor in model.state_dict().items():
        if tensor.ndim == 1:
            is_bias_or_mean = key.endswith(("bias", "_mean"))
            assert (tensor.numpy() == (0 if is_bias_or_mean else 1)).all(), key
    norms = [layer for layer in layers(model) if isinstance(layer, paddle.nn.BatchNorm2D)]
    (dropout,) = [layer for layer in model.sublayers() if isinstance(layer, paddle.nn.Dropout)]
    for norm in norms:
        facts = [norm._epsilon, norm._momentum, dropout.p]
        assert np.allclose(facts, GOLDEN[f"{case}/facts"], rtol=1e-7, atol=0)


@pytest.fixture(scope="module")
def zoo_page() -> ModuleType:
    spec = spec_from_file_location("make_zoo", ROOT / "docs/make_zoo.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_models_is_in_step_with_the_code(zoo_page: ModuleType) -> None:
    hint = "PYTHONPATH=. python docs/make_zoo.py > docs/zoo.md"
    assert zoo_page.page() == (ROOT / "docs/zoo.md").read_text("utf-8"), hint


def test_every_number_of_the_documents_is_explained_or_shown_to_be_wrong(
    zoo_page: ModuleType,
) -> None:
    seen = 0
    for table in zoo_page.TABLES:
        # PaddleClas counts by a rule nobody states; these are the distances to the nearest found.
        is_ppcls = table.title.startswith("PaddleClas")
        for cell in table.cells:
            size = zoo_page.measure(cell.model)
            params = zoo_page.params_of(table, size)
            found = zoo_page.verdict(cell.params, params, table.params_decimals)
            assert found == "equal" or (is_ppcls and abs(float(cell.params) / params - 1) < 0.004)
            seen += 1
            if cell.flops:
                counted = zoo_page.flops_of(table, size)
                found = zoo_page.verdict(cell.flops, counted, table.flops_decimals)
                allowed = 0.06 if "small_x0_35" in cell.name else 0.012
                near = is_ppcls and abs(float(cell.flops) / counted - 1) < allowed
                assert (found == "equal" or near) != bool(cell.wrong), (cell, counted)
                seen += 1
    assert seen == 2 * (21 + 13 + 2) + 2  # of MindCV's rows one number, of others two


def test_rows_with_a_wrong_count_repeat_a_row_of_another_network(
    zoo_page: ModuleType,
) -> None:
    paddleclas = {cell.flops for cell in zoo_page.TABLES[0].cells}
    for table in zoo_page.TABLES[1:3]:
        for cell in table.cells:
            assert ("PaddleClas" in cell.wrong) == (cell.flops in paddleclas)
            if "MACs alone" in cell.wrong:
                macs = zoo_page.measure(cell.model).operations.macs
                assert float(cell.flops) < macs / 1e6


def test_explain_draws_table_2_of_the_paper() -> None:
    """Operators, sizes and strides as Howard et al. print MobileNetV3-Small."""
    rows = explain(create_model("mobilenet_v3_small"))
    table = [(r.operator, r.expanded, r.out, bool(r.squeezed), r.act, r.stride) for r in rows]
    assert table[0] == ("conv2d 3x3", None, 16, False, "HS", 2)
    assert table[1] == ("bneck 3x3", 16, 16, True, "RE", 2)
    assert table[4] == ("bneck 5x5", 96, 40, True, "HS", 2)
    assert table[11] == ("bneck 5x5", 576, 96, True, "HS", 1)
    assert table[12] == ("conv2d 1x1", None, 576, False, "HS", 1)
    assert [r.operator for r in rows[13:]] == ["pool", "linear", "linear"]
    assert [r.out for r in rows[13:]] == [576, 1024, 1000]
    sides = [r.output[0] for r in rows]
    assert sides == [112, 56, 28, 28, 14, 14, 14, 14, 14, 7, 7, 7, 7, 1, 1, 1]


@pytest.mark.parametrize("name", ROWS)
def test_explain_agrees_with_the_layers_it_draws(name: str) -> None:
    model = create_model(name, 7)
    rows = explain(model, image_size=64)
    blocks = [layer for layer in model.sublayers() if isinstance(layer, InvertedResidual)]
    drawn = [row for row in rows if row.operator.startswith("bneck")]
    assert [row.shortcut for row in drawn] == [block.shortcut for block in blocks]
    strides = [row.stride for row in rows if row.stride]
    assert np.prod(strides) == 32 and rows[-1].out == 7
    assert rows[[row.operator for row in rows].index("pool") - 1].output == (2, 2)


def test_list_models_prints_the_table_and_the_blocks(capsys: pytest.CaptureFixture) -> None:
    assert list_models_command(ListModelsConfig(source="mindcv", pattern="*small*")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["mobilenet_v3_small_075", "mindcv", "0.75", "224", "1,653,920",
                                "39.116", "-", "-", "-"]  # fmt: skip
    assert list_models_command(ListModelsConfig(explain="mnasnet_small")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "mnasnet_small (timm), input 224 x 224 x 3"
    assert " ".join(lines[3].split()) == "bneck 3x3 8 8 - RE 1 yes 112 x 112"
    assert list_models_command(ListModelsConfig(explain="mnasnet_small", json=True)) == 0
    assert json.loads(capsys.readouterr().out)[4]["squeezed"] is None
    with pytest.raises(UserError, match="'mnasnet_smal'; did you mean mnasnet_small"):
        list_models_command(ListModelsConfig(explain="mnasnet_smal"))


EXPORT = """
import sys
from pathlib import Path
import onnx
import onnxruntime
import paddle
import paddle2onnx
from golden import formula
from paddle.static import InputSpec
from test_zoo import GOLDEN, build_from_formula, error

name, folder, suffix = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
images = formula.zoo_images()
spec = [InputSpec([None, *images.shape[1:]], "float32", "input")]
program = paddle.jit.to_static(build_from_formula(name), full_graph=True, input_spec=spec)
paddle.jit.save(program, str(folder / name))
graph = folder / f"{name}{suffix}"
# The default optimize_tool installs packages with pip while it runs.
paddle2onnx.export(
    str(graph), str(folder / f"{name}.pdiparams"), save_file=str(folder / f"{name}.onnx"),
    opset_version=10, optimize_tool="None",
)
onnx.checker.check_model(str(folder / f"{name}.onnx"))
session = onnxruntime.InferenceSession(folder / f"{name}.onnx")
for batch in (1, 2):
    (logits,) = session.run(None, {"input": images[:batch]})
    # float32 rounding; seen 2e-6.
    assert error(logits, GOLDEN[f"{name}/logits"][:batch]) < 1e-5
"""


# SAME padding at even and odd sizes with ReLU6; dropout that scales in inference, another gate.
@pytest.mark.parametrize(
    ("name", "pir", "suffix"),
    [("tf_efficientnet_lite0", "1", ".json"), ("MobileNetV3_small_x0_35", "0", ".pdmodel")],
)
def test_exported_rows_compute_the_same_in_onnx_at_any_batch(
    name: str, pir: str, suffix: str, tmp_path: Path
) -> None:
    # A process of its own: Paddle reads the flag when it is imported.
    path = os.pathsep.join([str(ROOT / "tests"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", EXPORT, name, str(tmp_path), suffix],
        env=os.environ | {"FLAGS_enable_pir_api": pir, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [
        ("showlo_mobilenetv3_small", 1_518_594, 17_501_728),
        ("showlo_mobilenetv3_large", 4_206_658, 66_457_184),
    ],
)
def test_networks_for_small_pictures_have_the_sizes_of_showlos_for_cifar(name, params, macs):
    """Counted in ShowLo's own networks for 32 pixels and ten classes."""
    model = create_model(name, 10, small_input=True)
    assert count_parameters(model) == params and count_macs(model, 32) == macs


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "mnasnet1_0", "tf_efficientnet_lite0"])
def test_every_family_sees_small_pictures_four_times_as_large(name):
    model = create_model(name, 10, small_input=True)
    features = model.features if hasattr(model, "features") else model.layers
    assert features(paddle.zeros([2, 3, 32, 32])).shape[2:] == [4, 4]


@pytest.mark.parametrize(
    ("table", "replaced", "last", "stated"),
    [(SMALL, {}, 576, "2,950,524"), (LARGE, {13: 672}, 960, "5,178,732")],
    ids=["small", "large"],
)
def test_the_differences_told_of_sqlai_add_up_to_its_parameters(table, replaced, last, stated):
    """VastModelZOO's numbers: nothing is missing in the list of docs/zoo.md."""
    total = norm(16) + 16 * 3 * 9
    channels = 16
    for i, row in enumerate(table.blocks):
        wide, out = replaced.get(i, row.expanded), row.out
        total += channels * wide + norm(wide) + wide * row.kernel**2 + norm(wide)
        total += wide * out + norm(out)
        if row.se:
            squeezed = max(wide // 4, 8)
            total += 2 * wide * squeezed + norm(squeezed)
        if row.stride == 2:
            total += channels * 9 + norm(channels)
        if out != channels:
            bias = out * (row.stride == 2)
            total += channels * out + bias + norm(out)
        channels = out
    total += channels * last + norm(last) + last * 1280 + norm(1280) + 1280 * 1000 + 1000
    assert f"{total:,}" == stated and stated in (ROOT / "docs/zoo.md").read_text()


def norm(channels):
    """What batch norm learns."""
    return 2 * channels
