"""Int8 files for LiteRT, against the graph that says where it rounds, in both kinds of kernels."""

import importlib.util

import numpy as np
import onnx
import pytest
from conftest import picture, run_tool
from onnx import TensorProto, helper, numpy_helper
from small_checkpoint import checkpoint

from ppcls_lite.deploy.export import export_model
from ppcls_lite.deploy.mobile import convert_tflite
from ppcls_lite.deploy.sidecar import read_sidecar
from ppcls_lite.deploy.tflite import tflite_file
from ppcls_lite.errors import UserError
from ppcls_lite.int8.qdq import float_graph, insert_qdq
from ppcls_lite.quantize.recipe import Recipe, logits, quantize, score
from ppcls_lite.quantize.targets import TARGETS

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ai_edge_litert") is None, reason="needs ai-edge-litert"
)
LARGEST = 256.0  # what XNNPACK takes as a factor between two steps
RECIPES = {
    "all": Recipe("percentile", (), (), "tflite"),
    "islands": Recipe("percentile", ("channels",), ("se", "first", "Conv.9"), "tflite"),
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A float graph with squeeze-and-excitation, and pictures for it."""
    folder = tmp_path_factory.mktemp("small")
    weights = checkpoint(folder)
    export_model(weights, folder / "out", formats=("onnx",), opset_version=11, softmax_inside=False)
    random = np.random.RandomState(0)
    images = [random.randn(1, 3, 64, 64).astype("float32") for _ in range(4)]
    return float_graph(folder / "out/inference.onnx"), images


def interpreter(file: bytes, reference: bool):
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kind = OpResolverType.BUILTIN_REF if reference else OpResolverType.AUTO
    network = Interpreter(
        model_content=file,
        experimental_op_resolver_type=kind,
        experimental_preserve_all_tensors=reference,
    )
    network.allocate_tensors()
    return network


def answer(network, image):
    network.set_tensor(network.get_input_details()[0]["index"], image.transpose(0, 2, 3, 1))
    network.invoke()
    return network.get_tensor(network.get_output_details()[0]["index"])


def steps(tensor):
    found = tensor["quantization_parameters"]
    return found["scales"].astype(np.float64), found["zero_points"]


@pytest.mark.parametrize("name", RECIPES)
def test_a_file_computes_what_the_graph_says(small, name):
    graph, images = small
    made = quantize(graph, images, RECIPES[name])
    final = TARGETS["tflite"].final(made.int8)
    file = tflite_file(final, 64)
    plain, wanted = logits(made.int8, images), logits(graph, images)
    left = score(plain, wanted, wanted.argmax(1))["snr"]
    for reference in (True, False):
        network = interpreter(file, reference)
        found = np.concatenate([answer(network, image) for image in images])
        # Both are float with the noise of rounding, which falls differently: seen within 1 dB.
        assert score(found, wanted, wanted.argmax(1))["snr"] > left - 4
    watched = onnx.ModelProto()
    watched.CopyFrom(final)
    rounded = [node.input[0] for node in final.graph.node if node.op_type == "QuantizeLinear"]
    watched.graph.output.extend(
        helper.make_tensor_value_info(x, TensorProto.FLOAT, None) for x in rounded
    )
    network = interpreter(file, True)
    answer(network, images[0])
    tensors = {tensor["name"]: tensor for tensor in network.get_tensor_details()}
    seen, off = values(watched, images[0]), []
    for x in rounded:
        if x in tensors and tensors[x]["dtype"] == np.int8:
            scale, zero = steps(tensors[x])
            here = network.get_tensor(tensors[x]["index"]) - zero.astype(float)
            there = seen[x] if seen[x].ndim < 4 else seen[x].transpose(0, 2, 3, 1)
            there = np.clip(there / scale, -128 - zero, 127 - zero)
            off.append(np.mean(np.abs(here - there)))  # in steps of int8
    # Rounding falls differently in each layer, and the next ones follow: seen 1.0 and 1.7.
    assert np.mean(off[:3]) < 0.6 and np.mean(off) < 3
    assert len(off) > (60 if name == "all" else 25)


def values(model, image):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {session.get_inputs()[0].name: image}), strict=True))


@pytest.mark.parametrize("silent", [1e-5, 1.0])
def test_no_factor_between_two_steps_is_larger_than_xnnpack_takes(silent):
    """A layer that is nearly silent, as in a squeeze branch: LiteRT's default refuses its file."""
    random = np.random.RandomState(1)
    weights = [random.randn(8, 3, 1, 1), random.randn(4, 8, 1, 1)]
    names = ["x", "a", "y"]
    nodes = [
        helper.make_node("Conv", [names[i], f"w{i}"], [names[i + 1]], f"Conv.{i}") for i in (0, 1)
    ]
    nodes += [
        helper.make_node("GlobalAveragePool", ["y"], ["p"], "Pool"),
        helper.make_node("Flatten", ["p"], ["z"], "Flatten"),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
            [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 4])],
            [numpy_helper.from_array(w.astype("float32"), f"w{i}") for i, w in enumerate(weights)],
        ),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    thresholds = {"x": (-1.0, 1.0), "a": (-silent, silent), "y": (-4.0, 4.0)}
    small = insert_qdq(model, thresholds, (), 127)
    file = tflite_file(small, 8)
    image = random.uniform(-1, 1, (1, 3, 8, 8)).astype("float32")
    wanted = logits(small, [image])
    np.testing.assert_allclose(answer(interpreter(file, False), image), wanted, atol=0.05)
    network = interpreter(file, True)
    np.testing.assert_allclose(answer(network, image), wanted, atol=0.05)
    tensors = network.get_tensor_details()
    factors = [
        np.max(steps(tensors[op["inputs"][0]])[0] * steps(tensors[op["inputs"][1]])[0])
        / steps(tensors[op["outputs"][0]])[0][0]
        for op in network._get_ops_details()
        if op["op_name"] == "CONV_2D" and tensors[op["outputs"][0]]["dtype"] == np.int8
    ]
    assert len(factors) == (2 if silent == 1 else 1) and max(factors) < LARGEST


def test_quantize_and_export_make_a_file_that_is_checked(tmp_path):
    weights = checkpoint(tmp_path)
    for split in ("train", "val"):
        for number in range(10):
            folder = tmp_path / split / f"kind {number}"
            folder.mkdir(parents=True)
            picture(number % 3, 10 * number).save(folder / "0.png")
    done = run_tool(
        "tools/quantize.py", "--target=tflite", "--pretrained", weights, "--data-path", tmp_path,
        "--out", tmp_path / "int8", "--float-layers=", "--min-agreement=0",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    flags = ("--exported", tmp_path / "int8", "--format=tflite", "--out", tmp_path / "phone")
    done = run_tool("tools/export_mobile.py", *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    sidecar = read_sidecar(tmp_path / "phone")
    assert sidecar.int8_target == "tflite" and sidecar.verification["tflite"]["passed"]
    sizes = [(tmp_path / x).stat().st_size for x in ("phone/inference.tflite", "best.pdparams")]
    assert sizes[0] < 0.45 * sizes[1]  # int8, and what stands around it
    text = (tmp_path / "int8/inference.yml").read_text()
    (tmp_path / "int8/inference.yml").write_text(text.replace("target: tflite", "target: openvino"))
    with pytest.raises(UserError, match="int8 of openvino") as told:
        convert_tflite(tmp_path / "int8", tmp_path, 64)
    assert "--target tflite" in told.value.hint
