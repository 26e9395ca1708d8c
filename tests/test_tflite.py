"""TFLite files: every weight, what their own runtime answers, what is refused, damaged files.

The oracle is LiteRT with its reference kernels: the built-in ones answer differently by batch size,
and refuse the int8 file of ImageNet.
"""

import re
import tracemalloc
from functools import cache

import numpy as np
import paddle
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from conftest import ROOT, run_tool, train
from tflite_writer import NetworkFile, Writer

from ppcls_lite.arch.zoo import build_model, list_models
from ppcls_lite.data.decode import load_image
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.deploy.predictor import Predictor
from ppcls_lite.engine.norms import estimate_norms, is_folded
from ppcls_lite.errors import UserError
from ppcls_lite.weights.find import find_weights
from ppcls_lite.weights.formats import open_weights
from ppcls_lite.weights.load import load_weights
from ppcls_lite.weights.mapping import fitting_models

SHARED = ROOT.parent / "shared/data"
FILES = {kind: SHARED / f"imagenet_weights/mobilenet_v3_small_{kind}.tflite"
         for kind in ("int8_float_io", "uint8")}  # fmt: skip
needs_files = pytest.mark.skipif(not FILES["uint8"].is_file(), reason="no shared/data")
SMALL, LARGE = "tf_mobilenetv3_small_100", "tf_mobilenetv3_large_100"


@cache
def trained(name: str, num_classes: int = 20, **overrides) -> paddle.nn.Layer:
    """A network whose batch norms have been somewhere."""
    paddle.seed(1)
    model = build_model(name, num_classes, **overrides)
    for layer in model.sublayers():
        if isinstance(layer, paddle.nn.BatchNorm2D):
            channels = layer.weight.shape
            layer.weight.set_value(paddle.rand(channels) + 0.5)
            layer.bias.set_value(paddle.randn(channels) * 0.3)
            layer._mean.set_value(paddle.randn(channels) * 0.2)
            layer._variance.set_value(paddle.rand(channels) + 0.5)
    model.eval()
    return model


def written(tmp_path, file: NetworkFile):
    path = tmp_path / "network.tflite"
    path.write_bytes(file.bytes())
    return path


class Runtime:
    """A file in LiteRT, one picture at a time: images [N, H, W, 3] -> [N, K]."""

    def __init__(self, path) -> None:
        kernels = OpResolverType.BUILTIN_REF
        self.interpreter = Interpreter(str(path), experimental_op_resolver_type=kernels)
        self.interpreter.allocate_tensors()

    def __call__(self, images: np.ndarray) -> np.ndarray:
        (given,), (made,) = (
            self.interpreter.get_input_details(), self.interpreter.get_output_details()
        )  # fmt: skip
        answers = []
        for image in images:
            self.interpreter.set_tensor(given["index"], image[None])
            self.interpreter.invoke()
            answers.append(self.interpreter.get_tensor(made["index"]).reshape(1, -1))
        return np.concatenate(answers)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def answers(model: paddle.nn.Layer, images: np.ndarray) -> np.ndarray:
    model.eval()
    return model(paddle.to_tensor(images.transpose(0, 3, 1, 2))).numpy()


# Rows whose networks LiteRT and the writer can express; of each family, gate, padding and width.
ROWS = (
    SMALL, LARGE, "tf_mobilenetv3_small_075", "tf_mobilenetv3_large_075",
    "tf_mobilenetv3_small_minimal_100", "tf_mobilenetv3_large_minimal_100",
    "tf_efficientnet_lite0", "mobilenet_v3_small", "mobilenetv3_small_050", "mobilenetv3_rw",
    "mobilenet_v3_small_075", "mnasnet0_5", "mnasnet_small", "semnasnet_100",
)  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_float_file_answers_as_its_own_runtime(tmp_path, name, precision):
    folds = precision == "float16"
    pad = 64 if "tf_" not in name else 96
    file = NetworkFile(trained(name), precision, size=pad, folds_three=folds,
                       swish="HARD_SWISH" if folds else "spelt")  # fmt: skip
    path = written(tmp_path, file)
    model = build_model(name, 20)
    report = load_weights(model, path)
    assert report.layout == "tflite" and not report.reinitialised
    images = np.random.RandomState(0).randn(4, pad, pad, 3).astype(np.float32)
    ours, theirs = answers(model, images), Runtime(path)(images)
    assert cosines(ours, theirs).min() > 0.999999
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()


@pytest.mark.parametrize(
    "name",
    [SMALL, "tf_mobilenetv3_large_minimal_100", "mobilenetv3_rw", "mnasnet0_5", "semnasnet_100"],
)
@pytest.mark.parametrize("precision", ["float16", "int8", "uint8"])
def test_every_weight_is_the_one_that_the_file_stands_for(tmp_path, name, precision):
    file = NetworkFile(trained(name), precision, size=64)
    model = build_model(name, 20)
    load_weights(model, written(tmp_path, file))
    state = model.state_dict()
    for key, value in file.expected.items():
        assert np.array_equal(state[key].numpy(), value), key
    for key, tensor in state.items():
        if key.endswith("_mean"):
            assert not tensor.numpy().any()
    assert is_folded(model)


@pytest.mark.parametrize("name", ROWS)
def test_a_file_names_its_network(tmp_path, name):
    file = open_weights(written(tmp_path, NetworkFile(trained(name), size=64)))
    # torchvision's network is timm's; ImageNet's mean and std are both's.
    same = {"mobilenet_v3_small": ["mobilenet_v3_small", "mobilenetv3_small_100"]}
    assert fitting_models(file.arrays, file.network) == same.get(name, [name])


def test_21_classes_are_21(tmp_path):
    path = written(tmp_path, NetworkFile(trained("mnasnet0_5"), size=64, background=True))
    assert find_weights(path).info.num_classes == 21


def test_a_gate_that_no_file_has_is_refused(tmp_path):
    path = written(tmp_path, NetworkFile(trained("MobileNetV3_small_x0_35"), size=64))
    with pytest.raises(
        UserError, match=r"computes    blocks\.0\.restore: gate sigmoid, the model has other"
    ):
        load_weights(build_model("MobileNetV3_small_x0_35", 20), path)


def test_a_file_that_fits_two_networks_asks_which(tmp_path):
    path = written(tmp_path, NetworkFile(trained("mobilenet_v3_small"), size=64))
    with pytest.raises(UserError, match="fits mobilenet_v3_small and mobilenetv3_small_100"):
        _ = find_weights(path).info
    assert find_weights(path, "mobilenetv3_small_100").info.num_classes == 20


@pytest.mark.parametrize("precision", ["float32", "uint8"])
@pytest.mark.parametrize("name", [SMALL, "mnasnet0_5"])
def test_the_background_class_is_left_out(tmp_path, name, precision):
    file = NetworkFile(trained(name, 1000), precision, size=64, background=True)
    path = written(tmp_path, file)
    found = open_weights(path)
    assert "background" in found.choice()
    weights = find_weights(path, name)
    assert weights.info.num_classes == 1000 and weights.info.classes[0] == "tench"
    model = build_model(name)
    load_weights(model, path)
    for key, value in file.expected.items():
        assert np.array_equal(model.state_dict()[key].numpy(), value), key


@pytest.mark.parametrize("folds", [True, False])
@pytest.mark.parametrize("precision", ["float32", "uint8"])
def test_three_is_taken_out_of_a_gate_s_bias_only_where_it_is_in_it(tmp_path, folds, precision):
    file = NetworkFile(trained(SMALL), precision, size=64, folds_three=folds)
    path = written(tmp_path, file)
    assert ("+ 3 taken out of 9 biases" in open_weights(path).choice()) == folds
    model = build_model(SMALL, 20)
    load_weights(model, path)
    for key, value in file.expected.items():
        assert np.array_equal(model.state_dict()[key].numpy(), value), key


def test_pads_of_their_own_and_tensorflow_s_are_told_apart(tmp_path):
    path = written(tmp_path, NetworkFile(trained("mobilenet_v3_small"), size=64))
    with pytest.raises(UserError) as caught:
        load_weights(build_model(SMALL, 20), path)
    line = "computes    stem: padding (1, 1, 1, 1), the model has (0, 1, 0, 1)"
    assert line in caught.value.message
    assert caught.value.hint == "--model mobilenet_v3_small  # or mobilenetv3_small_100"


def test_another_network_is_refused_with_the_table_of_differences(tmp_path):
    path = written(tmp_path, NetworkFile(trained(SMALL), size=64))
    with pytest.raises(UserError) as caught:
        load_weights(build_model("tf_mobilenetv3_small_minimal_100", 20), path)
    message = caught.value.message
    assert "(tflite layout) and the model differ:" in message
    assert "unexpected  blocks.0.reduce.weight (8, 16, 1, 1)" in message
    assert (
        "shape       blocks.3.depthwise.weight (96, 1, 5, 5), the model has (96, 1, 3, 3)"
        in message
    )
    assert caught.value.hint == f"--model {SMALL}"


def edited(file: NetworkFile, kind: str, number: int, **options) -> NetworkFile:
    """Changes what the n-th operator of a kind is told."""
    places = [i for i, op in enumerate(file.writer.ops) if op[0] == kind]
    file.writer.ops[places[number]][3].update(options)
    return file


@pytest.mark.parametrize(
    ("number", "options", "line"),
    [
        (3, {"StrideH": 1, "StrideW": 1}, r"depthwise: stride \(1, 1\), the model has \(2, 2\)"),
        (4, {"DilationHFactor": 2, "DilationWFactor": 2}, r"dilation \(2, 2\), the model has"),
        (1, {"FusedActivationFunction": 3}, "depthwise: activation R6, the model has RE"),
    ],
)
def test_a_network_of_the_same_shapes_that_computes_something_else_is_refused(
    tmp_path, number, options, line
):
    file = edited(NetworkFile(trained(SMALL), size=64), "DEPTHWISE_CONV_2D", number, **options)
    path = written(tmp_path, file)
    with pytest.raises(UserError, match=line):
        load_weights(build_model(SMALL, 20), path)
    assert fitting_models(open_weights(path).arrays, open_weights(path).network) == []


def test_a_network_without_shortcuts_is_refused(tmp_path):
    file = NetworkFile(trained(SMALL), size=64)
    first = next(op for op in file.writer.ops if op[0] == "ADD")
    first[1][1] = file.writer.constant(np.zeros(1, np.float32))
    with pytest.raises(UserError, match=r"blocks\.2\.project: no shortcut, the model has one"):
        load_weights(build_model(SMALL, 20), written(tmp_path, file))


@pytest.mark.parametrize(
    ("end", "missing"),
    [("hidden", {"classifier.3"}), ("last", {"classifier.0", "classifier.3"})],
)
def test_a_network_without_its_head_starts_a_fresh_one_in_training_only(tmp_path, end, missing):
    file = NetworkFile(trained("tf_mobilenetv3_small_075"), size=64, end=end)
    path = written(tmp_path, file)
    weights = find_weights(path)
    assert weights.info.name == "tf_mobilenetv3_small_075"
    model = build_model("tf_mobilenetv3_small_075", 3)
    with pytest.raises(UserError, match=r"missing     head\.1\.weight \(3, 1024\)") as caught:
        load_weights(model, path)
    assert f"train --pretrained {path}" in caught.value.hint
    report = load_weights(model, path, replace_head=True)
    assert {key.rpartition(".")[0] for key in report.reinitialised} == missing
    # A fresh last layer is small, a fresh hidden layer is not: its activation would be silent.
    state = model.state_dict()
    assert state["classifier.3.weight"].numpy().std() < 0.011
    assert state["classifier.0.weight"].numpy().std() > 0.02
    for key, value in file.expected.items():
        assert np.array_equal(state[key].numpy(), value), key


def test_a_mnasnet_of_tensorflow_gets_tensorflow_s_padding(tmp_path):
    file = NetworkFile(trained("mnasnet0_5", 256, same_padding=True), size=64)
    path = written(tmp_path, file)
    info = find_weights(path).info
    assert (info.name, info.overrides) == ("mnasnet0_5", {"same_padding": True})
    with pytest.raises(UserError, match=r"padding \(0, 1, 0, 1\), the model has") as caught:
        load_weights(build_model("mnasnet0_5", 256), path)
    assert caught.value.hint == "--model mnasnet0_5 --same-padding"
    images = np.random.RandomState(0).randn(4, 64, 64, 3).astype(np.float32)
    predictor = Predictor(path)
    ours = predictor.raw(images.transpose(0, 3, 1, 2))
    assert cosines(ours, Runtime(path)(images)).min() > 0.999999


def test_an_embedding_of_a_mnasnet_is_its_last_layer(tmp_path):
    file = NetworkFile(trained("mnasnet0_5", 256), "int8", size=64)
    path = written(tmp_path, file)
    info = find_weights(path).info
    assert (info.name, info.num_classes, info.classes) == ("mnasnet0_5", 256, ())
    report = load_weights(build_model("mnasnet0_5", 3), path, replace_head=True)
    assert report.reinitialised == ("classifier.1.weight", "classifier.1.bias")


@pytest.mark.parametrize(
    ("name", "precision", "size", "scaling", "expected"),
    [
        # As in TF-Hub's files: pixels / 255 x 2 - 1.
        (SMALL, "float32", 224, ([0.5] * 3, [0.5] * 3),
         Preprocess(mean=(0.5,) * 3, std=(0.5,) * 3)),
        ("mnasnet0_5", "float32", 192, ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
         Preprocess(resize_size=219, crop_size=192)),
        # As in TF-slim's: bytes whose zero point is 128 and whose step is 1 / 127.
        ("mnasnet0_5", "uint8", 224, None, Preprocess(mean=(0.5,) * 3, std=(0.5,) * 3)),
        # A file that does not say is fed as the network's published weights are.
        (SMALL, "float32", 224, None, Preprocess(mean=(0.5,) * 3, std=(0.5,) * 3)),
        ("mnasnet0_5", "float32", 96, None, Preprocess(resize_size=110, crop_size=96)),
    ],
)  # fmt: skip
def test_how_a_file_wants_its_pictures(tmp_path, name, precision, size, scaling, expected):
    file = NetworkFile(trained(name), precision, size=size, scaling=scaling)
    assert find_weights(written(tmp_path, file)).info.preprocess == expected


def test_pixels_from_0_to_255_are_told_from_pixels_from_0_to_1(tmp_path):
    # Keras' networks scale by 1 / 127.5.
    scaling = (np.full(3, 127.5), np.full(3, 127.5))
    file = NetworkFile(trained(SMALL), size=64, scaling=scaling)
    network = open_weights(written(tmp_path, file)).network
    assert network.mean == network.std == (0.5, 0.5, 0.5)


def test_training_goes_on_from_folded_batch_norm(tmp_path):
    source = trained.__wrapped__(SMALL)  # one of its own, as it changes
    images = np.random.RandomState(0).randn(32, 3, 64, 64).astype(np.float32)
    estimate_norms(source, images)  # now batch statistics and running ones are the same
    source.eval()
    wanted = source(paddle.to_tensor(images)).numpy()
    model = build_model(SMALL, 20)
    load_weights(model, written(tmp_path, NetworkFile(source, size=64)))
    model.train()
    lost = cosines(model(paddle.to_tensor(images)).numpy(), wanted)
    load_weights(model, written(tmp_path, NetworkFile(source, size=64)))
    estimate_norms(model, images)
    assert not is_folded(model)
    model.eval()
    assert np.abs(model(paddle.to_tensor(images)).numpy() - wanted).max() < 1e-4
    model.train()
    kept = cosines(model(paddle.to_tensor(images)).numpy(), wanted)
    assert kept.min() > 0.9999 > 0.9 > np.median(lost)
    # Of a fresh network, where one learning rate suits all layers; those of a file may be anything.
    for name, weight in model.named_parameters():
        if weight.ndim == 4 and ".fc" not in name:  # batch norm is behind it
            norms = np.sqrt((weight.numpy() ** 2).sum((1, 2, 3)))
            rule = (2 * weight.shape[1] / weight.shape[0]) ** 0.5 if weight.shape[1] > 1 else 2**0.5
            np.testing.assert_allclose(norms, rule, rtol=1e-4)


def test_no_other_network_is_taken_for_a_folded_one():
    assert not is_folded(build_model(SMALL, 2)) and not is_folded(trained(SMALL))


@pytest.mark.parametrize("name", list_models("tf_*"))
def test_the_rows_that_google_publishes_are_there(name):
    assert find_weights(f"{name}.in1k", download=False).info.preprocess.mean == (0.5, 0.5, 0.5)


# What is done with a file by every command that takes weights.


@pytest.fixture(scope="module")
def small_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("tflite") / "mine.tflite"
    path.write_bytes(NetworkFile(trained(SMALL, 3), "int8", size=64).bytes())
    return path


def test_the_commands_take_a_tflite_file(small_file, pictures, tmp_path):
    picture = next((pictures / "val/red").iterdir())
    done = run_tool("tools/predict.py", "--pretrained", small_file, "--img-path", picture)
    assert done.returncode == 0 and "int8 per channel" in done.stdout + done.stderr, done.stderr
    export = tmp_path / "export"
    done = run_tool("tools/export_model.py", "--pretrained", small_file, "--save-inference-dir",
                    export, "--format", "onnx")  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = run_tool("tools/compare.py", "--pretrained", small_file, "--exported", export,
                    "--img-path", picture)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    out = tmp_path / "mine.safetensors"
    done = run_tool("tools/convert_weights.py", "--weights", small_file, "--out", out)
    assert done.returncode == 0 and SMALL in done.stdout, done.stderr
    assert Predictor(out).info.name == SMALL
    done = run_tool("train.py", "--test-only", "--pretrained", small_file, "--data-path", pictures,
                    "--device=cpu", "--workers=1")  # fmt: skip
    assert done.returncode == 0 and "Acc@1" in done.stdout, done.stderr
    done = run_tool("tools/quantize.py", "--pretrained", small_file, "--data-path", pictures,
                    "--out", tmp_path / "int8", "--target=onnxruntime", "--calibration-images=4",
                    "--eval-images=6", "--min-agreement=0")  # fmt: skip
    assert done.returncode == 0 and (tmp_path / "int8/inference.yml").is_file(), done.stderr


def test_fine_tuning_says_where_batch_norm_comes_from(small_file, pictures, tmp_path):
    done = train(pictures, tmp_path / "run", f"--pretrained={small_file}", "--epochs=1",
                 "--width=1", f"--model={SMALL}")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "batch norm, which was folded, from 42 training images" in done.stdout
    assert Predictor(tmp_path / "run/best.pdparams").info.name == SMALL


# Damaged files.


def tiny() -> Writer:
    """Ten operators: enough for every branch of the reader, small enough to damage thoroughly."""
    w = Writer()
    image = w.tensor([1, 8, 8, 3], "uint8", scale=1 / 127, zero=128)
    half = w.op(
        "DEQUANTIZE", [w.constant(np.ones((4, 3, 3, 3), np.float16))], w.tensor([4, 3, 3, 3])
    )
    options = {"Padding": 0, "StrideH": 2, "StrideW": 2, "DilationHFactor": 1, "DilationWFactor": 1}
    x = w.op("CONV_2D", [image, half], w.tensor([1, 4, 4, 4]), **options)
    deep = w.constant(np.ones((1, 3, 3, 4), np.int8), scale=np.ones(4), zero=np.zeros(4), axis=3)
    pads = w.constant(np.int32([[0, 0], [1, 1], [1, 1], [0, 0]]))
    x = w.op("PAD", [x, pads], w.tensor([1, 6, 6, 4]))
    x = w.op("DEPTHWISE_CONV_2D", [x, deep], w.tensor([1, 4, 4, 4]), **(options | {"Padding": 1}))
    gated = x = w.op("HARD_SWISH", [x], w.tensor([1, 4, 4, 4]))
    x = w.op("MEAN", [x, w.constant(np.int32([1, 2]))], w.tensor([1, 1, 1, 4]))
    dense = w.constant(np.ones((4, 1, 1, 4), np.float32))
    for _ in range(2):
        x = w.op("CONV_2D", [x, dense], w.tensor([1, 1, 1, 4]), **options)
    x = w.op("MUL", [x, w.constant(np.float32([1 / 6]))], w.tensor([1, 1, 1, 4]))
    x = w.op("MUL", [gated, x], w.tensor([1, 4, 4, 4]))
    x = w.op("CONV_2D", [x, dense], w.tensor([1, 4, 4, 4]), **options)
    w.ends = [image], [x]
    return w


def read(tmp_path, data: bytes) -> str:
    """What is said of a file; "" when it could be read."""
    path = tmp_path / "x.tflite"
    path.write_bytes(data)
    try:
        open_weights(path)
    except UserError as error:
        return error.message
    return ""


@pytest.mark.slow  # reads hundreds of files
def test_damaged_files_are_refused_in_a_line_and_in_bounds(tmp_path):
    w = tiny()
    whole = w.file(*w.ends)
    assert read(tmp_path, whole) == ""
    random = np.random.RandomState(0)
    tracemalloc.start()
    refused = 0
    for _ in range(600):
        data = bytearray(whole)
        for _ in range(random.randint(1, 6)):
            place = random.randint(8, len(data))
            data[place] = random.choice([0, 1, 127, 128, 255, random.randint(256)])
        if random.rand() < 0.2:
            data = data[: random.randint(8, len(data))]
        refused += read(tmp_path, bytes(data)) != ""
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 100 < refused < 600  # many bytes are weights, whose damage nothing shows
    assert peak < 64 * 2**20


@pytest.mark.slow  # reads thousands of files
def test_every_offset_of_a_file_may_point_anywhere(tmp_path):
    w = tiny()
    whole = w.file(*w.ends)
    for place in range(8, len(whole) - 4, 4):
        for number in (2**31 - 1, 2**32 - 1, 16):
            read(tmp_path, whole[:place] + number.to_bytes(4, "little") + whole[place + 4 :])


def test_tensors_that_share_bytes_do_not_fill_the_memory(tmp_path):
    w = tiny()
    big = w.constant(np.ones((512, 1, 1, 512), np.float32))
    x = w.ops[-1][2][0]
    for _ in range(40):
        again = w.tensor([512, 1, 1, 512])
        w.tensors[again]["buffer"] = w.tensors[big]["buffer"]
        x = w.op("CONV_2D", [x, again], w.tensor([1, 4, 4, 512]), StrideH=1, StrideW=1)
    assert "share their values" in read(tmp_path, w.file(*w.ends))


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda w: w.tensors[1].update(dtype="int64"), "values cannot have the shape"),
        (lambda w: [t.pop("scale", None) for t in w.tensors], "int8.*and no scale"),
        (lambda w: w.ops.__setitem__(slice(0, 4), []), "has no depthwise convolutions"),
        (lambda w: w.ops[1][3].update(StrideH=0), "a stride or a dilation that no layer has"),
        (lambda w: w.ops[1][1].__setitem__(1, 0), "has no weights of its own"),
    ],
)
def test_what_no_network_has_is_named(tmp_path, change, cause):
    w = tiny()
    change(w)
    message = read(tmp_path, w.file(*w.ends))
    assert message and re.search(cause, message), message


# Two networks of ImageNet.


@needs_files
@pytest.mark.parametrize("kind", FILES)
def test_every_weight_of_imagenet_s_files_is_the_dequantised_one(kind):
    runtime = Runtime(FILES[kind]).interpreter
    details = {d["index"]: d for d in runtime.get_tensor_details()}

    def number(index: int) -> np.ndarray:
        told = details[index]["quantization_parameters"]
        axis, raw = told["quantized_dimension"], runtime.get_tensor(index).astype(np.float64)
        shape = [-1 if i == axis else 1 for i in range(raw.ndim)] if told["scales"].size > 1 else ()
        zero, scale = told["zero_points"].reshape(shape), told["scales"].reshape(shape)
        return ((raw - zero) * scale.astype(np.float64)).astype(np.float32)

    layers = [op for op in runtime._get_ops_details() if "CONV_2D" in op["op_name"]]
    arrays = open_weights(FILES[kind]).arrays
    names = list(dict.fromkeys(name.rpartition(".")[0] for name in arrays))
    assert len(layers) == len(names) == 54
    for op, name in zip(layers, names, strict=True):
        weight, bias = (number(index) for index in op["inputs"][1:3])
        deep = op["op_name"].startswith("DEPTHWISE")
        weight = weight.transpose(3, 0, 1, 2) if deep else weight.transpose(0, 3, 1, 2)
        if name == "head.1":
            weight, bias = weight[1:], bias[1:]
        if name.endswith("restore") and kind == "int8_float_io":
            bias = bias - np.float32(3)
        assert np.array_equal(
            arrays[f"{name}.weight"], weight.reshape(arrays[f"{name}.weight"].shape)
        )
        assert np.array_equal(arrays[f"{name}.bias"], bias)


@pytest.fixture(scope="module")
def photographs():
    """uint8 [200, 224, 224, 3] and class ids."""
    synsets = (ROOT / "ppcls_lite/data/imagenet_synsets.txt").read_text().split("\n")
    ids = {line.split()[0]: number for number, line in enumerate(synsets) if line}
    files = sorted((SHARED / "imagenet200/val").rglob("*.*"))
    assert len(files) == 200
    spec = Preprocess()
    return np.stack([spec.pixels(load_image(f)) for f in files]), [
        ids[f.parent.name] for f in files
    ]


@pytest.mark.slow  # 200 photographs through two networks, twice
@needs_files
def test_imagenet_s_files_as_float_networks_and_in_their_own_runtime(photographs):
    pixels, labels = photographs
    top1 = {}
    for kind, path in FILES.items():
        predictor = Predictor(path)
        assert predictor.info.name == SMALL and "ImageNet's" in predictor.note
        assert predictor.info.preprocess == Preprocess(mean=(0.5,) * 3, std=(0.5,) * 3)
        images = predictor.info.preprocess.normalize(pixels)
        ours = np.concatenate([predictor.raw(images[i : i + 50]) for i in range(0, 200, 50)])
        given = pixels if kind == "uint8" else pixels.astype(np.float32) / np.float32(255)
        theirs = Runtime(path)(given)[:, 1:]
        top1[kind] = [np.mean(logits.argmax(1) == labels) for logits in (ours, theirs)]
    # Seen 0.770 and 0.800: the network was trained with the file's ranges of what it computes.
    assert abs(top1["uint8"][0] - top1["uint8"][1]) <= 0.04
    # Seen 0.845 and 0.475: the weights are good; the ranges of what the file computes, which only
    # its own runtime needs, are not.
    assert top1["int8_float_io"][0] > 0.8 > 0.55 > top1["int8_float_io"][1]


@pytest.mark.slow  # 200 photographs through the network, twice
@needs_files
def test_imagenet_s_network_in_training_mode(photographs):
    """Of docs/measurements/weights.md: batches of every fourth photograph, so of many classes."""
    pixels, labels = photographs
    images = Preprocess(mean=(0.5,) * 3, std=(0.5,) * 3).normalize(pixels)

    def right(model):
        model.train()
        for layer in model.sublayers():
            if isinstance(layer, paddle.nn.Dropout):
                layer.eval()
        with paddle.no_grad():
            answers = [model(paddle.to_tensor(images[i::4])).numpy().argmax(1) for i in range(4)]
        return sum(np.sum(given == labels[i::4]) for i, given in enumerate(answers))

    model = build_model(SMALL)
    load_weights(model, FILES["int8_float_io"])
    folded = right(model)
    load_weights(model, FILES["int8_float_io"])
    estimate_norms(model, images[np.linspace(0, 199, 64).astype(int)])
    assert folded < 5 and right(model) > 155  # seen 1 and 166


@pytest.mark.slow  # 20 photographs, two runtimes
@needs_files
def test_imagenet_s_weights_in_a_float_file_answer_as_their_runtime(photographs, tmp_path):
    model = build_model(SMALL)
    load_weights(model, FILES["int8_float_io"])
    path = written(tmp_path, NetworkFile(model, background=True))
    again = build_model(SMALL)
    load_weights(again, path)
    images = (photographs[0][:20].astype(np.float32) / 255 - 0.5) / 0.5
    theirs = Runtime(path)(images)[:, 1:]
    ours = answers(again, images)
    assert cosines(ours, theirs).min() > 0.9999
    assert np.array_equal(ours.argmax(1), theirs.argmax(1))
