"""Weights of other frameworks, by their own names: logits of these frameworks, and the way back.

Names, shapes and order come from tests/golden/make_layouts_golden.py, logits from
make_arch_golden.py and make_zoo_golden.py.
"""

import gzip
import json

import numpy as np
import paddle
import pytest
from conftest import ROOT
from golden import formula

from ppcls_lite import create_model
from ppcls_lite.arch.layers import SqueezeExcite
from ppcls_lite.arch.zoo import list_models
from ppcls_lite.errors import UserError
from ppcls_lite.weights.formats import read_weights
from ppcls_lite.weights.load import load_weights
from ppcls_lite.weights.mapping import from_ours, to_ours
from ppcls_lite.weights.writing import write_weights

KEYS = json.loads(gzip.decompress((ROOT / "tests/golden/layouts.json.gz").read_bytes()))
CASES = [(source, case) for source, cases in KEYS.items() for case in cases]
LOGITS = {
    key: values
    for file in ("arch", "zoo_timm", "zoo_ppcls", "zoo_mindcv", "zoo_showlo")
    for key, values in np.load(ROOT / f"tests/golden/{file}.npz").items()
    if key.endswith("/logits")
}
KINDS = {"running_mean": "_mean", "running_var": "_variance", "gamma": "weight", "beta": "bias",
         "moving_mean": "_mean", "moving_variance": "_variance"}  # fmt: skip


def build(case):
    """A case is a name, or name@width."""
    name, _, width = case.partition("@")
    return create_model(name, formula.NUM_CLASSES, **({"width": float(width)} if width else {}))


def state(source, case):
    """The state dict that the golden's maker filled, in the framework's names, shapes and order."""
    arrays = {}
    prefixes = []
    last = [key for key, shape in KEYS[source][case] if len(shape) in (2, 4)]
    linear = set(last[-1:] if "mnasnet" in case or "lite" in case else last[-2:])
    for key, shape in KEYS[source][case]:
        prefix, _, kind = key.rpartition(".")
        if kind == "num_batches_tracked":
            arrays[key] = np.array(7, np.int64)
            continue
        if prefix not in prefixes:
            prefixes.append(prefix)
        kind, ours, turned = KINDS.get(kind, kind), shape, False
        if key in linear:
            turned = len(shape) == 4 or source != "ppcls"
            ours = shape[1::-1] if turned else shape
        elif len(shape) == 2:
            ours = [*shape, 1, 1]
        if source == "torchvision":
            values = formula.weight(f"{prefix}.{kind}", tuple(ours))
        else:
            values = formula.weight_at(len(prefixes) - 1, kind, tuple(ours))
        arrays[key] = np.ascontiguousarray((values.T if turned else values).reshape(shape))
    return arrays


def shuffled(arrays):
    names = sorted(arrays)
    np.random.RandomState(0).shuffle(names)
    return {name: arrays[name] for name in names}


def test_every_row_has_a_case():
    assert set(list_models()) <= {case for _, case in CASES}


def logits_in_float64(model, images):
    """As the goldens are, so that 1e-5 tests the weights and not float32's rounding."""
    model.eval()
    model.to(dtype="float64")
    return model(paddle.to_tensor(images.astype(np.float64))).numpy()


@pytest.mark.parametrize(("source", "case"), [c for c in CASES if c[0] != "d-li14"])
def test_shuffled_weights_give_the_frameworks_logits_and_go_back_bit_equal(source, case):
    arrays = state(source, case)
    model = build(case)
    ours, layout = to_ours(shuffled(arrays), model)
    report = load_weights(model, shuffled(arrays))
    assert layout == report.layout == source and not report.reinitialised
    assert report.loaded == tuple(ours) == tuple(model.state_dict())

    back = from_ours(ours, model, layout)
    # MindSpore lists mean, variance, gamma, beta; nothing reads them in order.
    assert list(back) == list(arrays) if source != "mindcv" else set(back) == set(arrays)
    for name, array in back.items():
        want = np.array(0) if name.endswith("num_batches_tracked") else arrays[name]
        assert array.dtype == want.dtype and np.array_equal(array, want), name

    images = formula.images() if source == "torchvision" else formula.zoo_images()
    logits, golden = logits_in_float64(model, images), LOGITS[f"{case}/logits"]
    assert np.abs(logits - golden).max() < 1e-5 * np.abs(golden).max()


@pytest.mark.parametrize("name", list(KEYS["d-li14"]))
def test_d_li14_is_mapped_in_order_but_not_computed_with(name):
    model = build(name)
    ours, _ = to_ours(shuffled(state("d-li14", name)), model)
    prefixes = list(dict.fromkeys(key.rpartition(".")[0] for key in model.state_dict()))
    assert list(ours) == list(model.state_dict())
    for key, array in ours.items():
        prefix, _, kind = key.rpartition(".")
        want = formula.weight_at(prefixes.index(prefix), kind, array.shape)
        assert np.array_equal(array, want), key
    with pytest.raises(UserError, match="squeeze-excite before the activation"):
        load_weights(model, state("d-li14", name))


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "mobilenet_v3_large"])
def test_paddle_vision_and_we_give_the_same_logits_from_the_same_file(name):
    theirs = getattr(paddle.vision.models, name)(num_classes=formula.NUM_CLASSES)
    for key, tensor in theirs.state_dict().items():
        tensor.set_value(formula.weight(key, tuple(tensor.shape)))
    arrays = {key: tensor.numpy() for key, tensor in theirs.state_dict().items()}
    model = build(name)
    assert load_weights(model, shuffled(arrays)).layout == "paddle_vision"
    ours = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
    back = from_ours(ours, model, "paddle_vision")
    assert list(back) == list(arrays)
    assert all(np.array_equal(back[key], arrays[key]) for key in arrays)
    for layer in model.sublayers():
        if isinstance(layer, SqueezeExcite):
            layer.gate = paddle.nn.functional.hardsigmoid  # theirs: of slope 0.1666667, not 1/6
    got, want = (logits_in_float64(m, formula.zoo_images()) for m in (model, theirs))
    assert np.abs(got - want).max() < 1e-9 * np.abs(want).max()  # float64; seen 1e-15


def test_a_file_of_another_network_is_refused_with_the_row_it_fits():
    arrays = state("ppcls", "MobileNetV3_small_x0_35")
    with pytest.raises(UserError) as caught:
        load_weights(build("mnasnet1_0"), arrays)  # of which no name is known
    assert caught.value.hint == "--model MobileNetV3_small_x0_35"
    with pytest.raises(UserError, match=r"\(ppcls layout\) and the model differ:\n") as caught:
        load_weights(build("MobileNetV3_small_x1_0"), arrays)
    assert "shape       conv.conv.weight (8, 3, 3, 3), the model has (16, 3," in str(caught.value)


def test_mismatches_are_told_in_the_names_of_the_file():
    arrays = state("timm", "mnasnet_small")
    arrays["blocks.1.0.bn1.wieght"] = arrays.pop("blocks.1.0.bn1.weight")
    with pytest.raises(UserError) as caught:
        load_weights(build("mnasnet_small"), arrays)
    assert caught.value.message == (
        "the weights (timm layout) and the model differ:\n"
        "  missing     blocks.1.0.bn1.weight (24,); did you mean blocks.1.0.bn1.wieght?\n"
        "  unexpected  blocks.1.0.bn1.wieght (24,); did you mean blocks.1.0.bn1.weight?"
    )


HEADS = [("timm", "mobilenetv3_small_050"), ("torchvision", "mnasnet0_5"),
         ("mindcv", "mobilenet_v3_small_075"), ("ppcls", "MobileNetV3_small_x0_35")]  # fmt: skip


@pytest.mark.parametrize(("source", "case"), HEADS)
def test_a_head_of_another_class_count_starts_fresh_when_asked(source, case):
    model = create_model(case, 7)
    with pytest.raises(UserError) as caught:
        load_weights(model, state(source, case))
    assert caught.value.hint == f"--num-classes {formula.NUM_CLASSES}"
    report = load_weights(model, state(source, case), replace_head=True)
    assert list(report.reinitialised) == list(model.state_dict())[-2:]


@pytest.mark.parametrize("prefix", ["model.", "net.backbone.", "module.model._orig_mod."])
@pytest.mark.parametrize(("source", "case"), HEADS)
def test_what_a_training_class_calls_its_network_is_taken_off(source, case, prefix):
    arrays = {prefix + name: array for name, array in state(source, case).items()}
    model = build(case)
    ours, layout = to_ours(arrays, model)
    plain, _ = to_ours(state(source, case), model)
    assert layout == source and list(ours) == list(plain)
    assert all(np.array_equal(ours[name], plain[name]) for name in plain)
    rows = [3, -1]
    report = load_weights(create_model(case, 2), arrays, replace_head=True, rows=rows)
    assert not report.reinitialised
    arrays[prefix + "criterion"] = np.ones(3)  # what else is there stays, and is named
    with pytest.raises(UserError, match=r"unexpected  criterion \(3,\)"):
        load_weights(model, arrays)


def heads():
    """Bodies of torchvision's MobileNetV3 with heads as people replace them; what starts fresh."""
    body = state("torchvision", "mobilenet_v3_small")
    hidden, last = "classifier.0", "classifier.3"
    weight, bias = body.pop(f"{last}.weight"), body.pop(f"{last}.bias")
    yield "none but the hidden layer", body, [last]
    yield "in a sequence", body | {f"{last}.1.weight": weight, f"{last}.1.bias": bias}, [last]
    yield "under another name", body | {"fc.weight": weight, "fc.bias": bias}, [last]
    headless = {k: v for k, v in body.items() if not k.startswith(hidden)}
    yield "none at all", headless, [hidden, last]
    one = {"classifier.1.weight": weight[:, :576], "classifier.1.bias": bias}
    yield "one layer", headless | one, [hidden, last]
    small = {"classifier.0.weight": np.ones((64, 576)), "classifier.0.bias": np.ones(64),
             "classifier.2.weight": np.ones((5, 64)), "classifier.2.bias": np.ones(5)}  # fmt: skip
    yield "another hidden layer", headless | small, [hidden, last]
    trained = {f"{last}.weight": weight, f"{last}.bias": bias}
    yield "the last layer alone", headless | trained, [hidden, last]


@pytest.mark.parametrize(("arrays", "fresh"), [pytest.param(*c[1:], id=c[0]) for c in heads()])
def test_another_head_starts_fresh_in_training_only(arrays, fresh):
    model = build("mobilenet_v3_small")
    with pytest.raises(UserError, match="and the model differ"):
        load_weights(model, arrays)
    report = load_weights(model, arrays, replace_head=True, rows=[0, 1, -1])
    names = [f"{layer}.{kind}" for layer in fresh for kind in ("weight", "bias")]
    assert list(report.reinitialised) == names
    assert np.array_equal(
        model.state_dict()["features.0.0.weight"].numpy(), arrays["features.0.0.weight"]
    )


@pytest.mark.parametrize("more", ["features.99.0.weight", "features.extra"])
def test_what_a_body_has_more_is_another_network_whatever_its_head(more):
    arrays = state("torchvision", "mobilenet_v3_small") | {more: np.ones(3)}
    del arrays["classifier.3.weight"]
    with pytest.raises(UserError, match=f"unexpected  {more}"):
        load_weights(build("mobilenet_v3_small"), arrays, replace_head=True)


def test_create_model_with_other_classes_says_that_the_head_is_fresh(tmp_path):
    path = tmp_path / "w.safetensors"
    write_weights(path, state("timm", "mobilenetv3_small_050"))
    with pytest.warns(UserWarning, match="the last layer starts fresh: classifier.3.weight"):
        model = create_model("mobilenetv3_small_050", num_classes=5, pretrained=path)
    assert model(paddle.zeros([1, 3, 32, 32])).shape == [1, 5]
    stem = read_weights(path)["conv_stem.weight"]
    assert np.array_equal(model.state_dict()["features.0.0.weight"].numpy(), stem)


def test_no_layout_is_written_that_its_framework_could_not_read():
    for name, layout, cause in (
        ("mnasnet0_5", "ppcls", "ppcls has no network with the tensors of torchvision's MNASNet"),
        ("mobilenet_v3_small", "ppcls", "of torchvision's MobileNetV3"),
        ("MobileNetV3_small_x0_35", "timm", "timm has no network with the tensors of ppcls's"),
        ("showlo_mobilenetv3_small", "torchvision", "of showlo's MobileNetV3"),
    ):
        with pytest.raises(UserError, match=cause):
            from_ours({}, build(name), layout)


def test_half_precision_is_widened_and_integers_are_refused():
    model = build("mobilenetv3_small_050")
    arrays = state("timm", "mobilenetv3_small_050")
    half = {key: array.astype(np.float16) for key, array in arrays.items()}
    load_weights(model, half)
    stem = model.state_dict()["features.0.0.weight"]
    assert stem.dtype == paddle.float32
    assert np.array_equal(stem.numpy(), half["conv_stem.weight"].astype(np.float32))
    half["conv_stem.weight"] = half["conv_stem.weight"].view(np.uint16)
    with pytest.raises(UserError, match=r"features.0.0.weight holds uint16, not floating-point"):
        load_weights(model, half)
