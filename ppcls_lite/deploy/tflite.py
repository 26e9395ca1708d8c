"""An exported ONNX file as a TFLite file: channels last, one picture at a time, float32.

Written with the schema alone. The converters that are kept well bring frameworks that do not go
with this project's packages (onnx2tf 1.29: TensorFlow 2.19 and NumPy 1.26; ai-edge-torch: torch).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ppcls_lite.deploy.tflite_writer import NONE, RELU, RELU6, Writer
from ppcls_lite.errors import UserError
from ppcls_lite.runtimes import import_engine

SAME, VALID = 0, 1


def tflite_file(model: onnx.ModelProto, side: int) -> bytes:
    """The bytes of a TFLite file that answers as an ONNX graph does.

    Its input is float32 [1, H, W, 3], its output float32 [1, K], under the graph's names.

    Args:
        model: what `int8.qdq.float_graph` returned: batch norm is folded.
        side: H and W, pixels.

    Raises:
        UserError: the graph has an operator that is not in OPERATORS, or a grouped convolution.
    """
    conversion = _Conversion(model, side)
    for node in model.graph.node:
        convert = OPERATORS.get(node.op_type)
        if convert is None:
            known = ", ".join(OPERATORS)
            raise UserError(f"{node.name}: {node.op_type} is not one of {known}", "--format mnn")
        if node.output[0] not in conversion.known:
            convert(conversion, node)
    return conversion.file()


class _Conversion:
    """A graph half way to TFLite: which of its tensors have which number in the file."""

    def __init__(self, model: onnx.ModelProto, side: int) -> None:
        self.writer = Writer()
        self.graph = model.graph
        self.constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        name = model.graph.input[0].name
        self.known = {name: self.writer.tensor([1, side, side, 3], name=name)}

    def file(self) -> bytes:
        """The bytes of the file, with the input and the output of the graph."""
        names = [self.graph.input[0].name, self.graph.output[0].name]
        entry, output = (self.known[name] for name in names)
        return self.writer.file([entry], [output])

    def shape(self, name: str) -> list[int]:
        """The shape that a tensor of the graph has in the file, channels last."""
        return self.writer.tensors[self.known[name]]["shape"]

    def given(self, name: str) -> int:
        """The number of a tensor; a constant with channels comes with them last."""
        if name not in self.known:
            value = self.constants[name].astype(np.float32)
            if value.ndim >= 3:
                value = np.moveaxis(value, -3, -1)
            self.known[name] = self.writer.constant(value)
        return self.known[name]

    def made(self, node: onnx.NodeProto, shape: list[int]) -> int:
        """A new tensor for what a node computes, under its name."""
        name = node.output[0]
        self.known[name] = self.writer.tensor(shape, name=name)
        return self.known[name]

    def number(self, value: float) -> int:
        """The number of a new constant with one value."""
        return self.writer.constant(np.asarray(value, np.float32))

    def between(self, kind: str, inputs: list[int], shape: list[int], **options: Any) -> int:
        """An operator whose output has no name in the graph."""
        return self.writer.op(kind, inputs, self.writer.tensor(shape), **options)

    def fused(self, node: onnx.NodeProto) -> tuple[onnx.NodeProto, int]:
        """Whose output a layer makes: its own, or that of a ReLU, its only reader; and which."""
        readers = self.readers.get(node.output[0], [])
        if len(readers) == 1 and node.output[0] != self.graph.output[0].name:
            if readers[0].op_type == "Relu":
                return readers[0], RELU
            if readers[0].op_type == "Clip" and self.limits(readers[0]) == (0.0, 6.0):
                return readers[0], RELU6
        return node, NONE

    def limits(self, node: onnx.NodeProto) -> tuple[float, float]:
        """Between which a Clip lets values by."""
        low, high = (float(self.constants[name]) for name in node.input[1:3])
        return low, high


def _attributes(node: onnx.NodeProto) -> Mapping[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _same(size: list[int], kernel: list[int], strides: list[int], dilations: list[int]) -> list:
    """What TensorFlow's SAME pads: top, left, bottom, right."""
    totals = [
        max(0, (-(-n // step) - 1) * step + (k - 1) * dilation + 1 - n)
        for n, k, step, dilation in zip(size, kernel, strides, dilations, strict=True)
    ]
    return [total // 2 for total in totals] + [total - total // 2 for total in totals]


def _conv(c: _Conversion, node: onnx.NodeProto) -> None:
    given, weights = _attributes(node), c.constants[node.input[1]]  # [O, I / groups, k, k]
    shape, kernel = c.shape(node.input[0]), list(weights.shape[2:])
    groups = given.get("group", 1)
    depthwise = groups > 1
    if depthwise and (groups != shape[3] or weights.shape[1] != 1):
        raise UserError(f"{node.name}: a convolution of {groups} groups", "--format mnn")
    strides, dilations = given.get("strides", [1, 1]), given.get("dilations", [1, 1])
    x, size = c.known[node.input[0]], shape[1:3]
    same = _same(size, kernel, strides, dilations)
    automatic = given.get("auto_pad", b"NOTSET") == b"SAME_UPPER"
    pads = same if automatic else list(given.get("pads", [0, 0, 0, 0]))
    padding = SAME if pads == same else VALID
    if padding == VALID and any(pads):
        size = [size[0] + pads[0] + pads[2], size[1] + pads[1] + pads[3]]
        rows = np.asarray([[0, 0], pads[0::2], pads[1::2], [0, 0]], np.int32)
        x = c.between("PAD", [x, c.writer.constant(rows)], [1, *size, shape[3]])
    reach = [
        (k - 1) * d + 1 if padding == VALID else 1 for k, d in zip(kernel, dilations, strict=True)
    ]
    side = [-(-(n - r + 1) // s) for n, r, s in zip(size, reach, strides, strict=True)]
    order = (1, 2, 3, 0) if depthwise else (0, 2, 3, 1)
    bias = c.constants[node.input[2]] if len(node.input) > 2 else np.zeros(len(weights), "f4")
    last, activation = c.fused(node)
    options = {"Padding": padding, "StrideH": strides[0], "StrideW": strides[1],
               "DilationHFactor": dilations[0], "DilationWFactor": dilations[1],
               "FusedActivationFunction": activation}  # fmt: skip
    if depthwise:
        options["DepthMultiplier"] = len(weights) // groups
    inputs = [x, c.writer.constant(weights.transpose(order)), c.writer.constant(bias)]
    kind = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
    c.writer.op(kind, inputs, c.made(last, [1, *side, len(weights)]), **options)


def _linear(c: _Conversion, node: onnx.NodeProto) -> None:
    weights = c.constants[node.input[1]]
    if not _attributes(node).get("transB", 0):
        weights = weights.T
    bias = c.constants[node.input[2]] if len(node.input) > 2 else np.zeros(len(weights), "f4")
    inputs = [c.known[node.input[0]], c.writer.constant(weights), c.writer.constant(bias)]
    last, activation = c.fused(node)
    made = c.made(last, [1, len(weights)])
    c.writer.op("FULLY_CONNECTED", inputs, made, FusedActivationFunction=activation)


def _elementwise(kind: str) -> Callable[[_Conversion, onnx.NodeProto], None]:
    def convert(c: _Conversion, node: onnx.NodeProto) -> None:
        inputs = [c.given(name) for name in node.input]
        shape = list(np.broadcast_shapes(*(c.shape(name) for name in node.input)))
        last, activation = c.fused(node)
        c.writer.op(kind, inputs, c.made(last, shape), FusedActivationFunction=activation)

    return convert


def _unary(kind: str) -> Callable[[_Conversion, onnx.NodeProto], None]:
    def convert(c: _Conversion, node: onnx.NodeProto) -> None:
        made = c.made(node, c.shape(node.input[0]))
        options = {"Beta": 1.0} if kind == "SOFTMAX" else {}
        c.writer.op(kind, [c.known[node.input[0]]], made, **options)

    return convert


def _clip(c: _Conversion, node: onnx.NodeProto) -> None:
    if c.limits(node) != (0.0, 6.0):
        raise UserError(f"{node.name}: Clip to {c.limits(node)}, only 0 to 6 is known")
    c.writer.op("RELU6", [c.known[node.input[0]]], c.made(node, c.shape(node.input[0])))


def _hard_sigmoid(c: _Conversion, node: onnx.NodeProto) -> None:
    """max(0, min(1, a x + b)) is relu6(6 a x + 6 b) / 6, which TFLite has in hard-swish only."""
    given = _attributes(node)
    slope, offset = 6 * given.get("alpha", 0.2), 6 * given.get("beta", 0.5)
    readers = c.readers[node.output[0]]
    product = readers[0].op_type == "Mul" and set(readers[0].input) == {*node.input, *node.output}
    if len(readers) == 1 and product and np.allclose((slope, offset), (1, 3)):
        made = c.made(readers[0], c.shape(node.input[0]))
        c.writer.op("HARD_SWISH", [c.known[node.input[0]]], made)
        return
    x, shape = c.known[node.input[0]], c.shape(node.input[0])
    if abs(slope - 1) > 1e-6:
        x = c.between("MUL", [x, c.number(slope)], shape, FusedActivationFunction=NONE)
    x = c.between("ADD", [x, c.number(offset)], shape, FusedActivationFunction=RELU6)
    made = c.made(node, shape)
    c.writer.op("MUL", [x, c.number(1 / 6)], made, FusedActivationFunction=NONE)


def _pool(c: _Conversion, node: onnx.NodeProto) -> None:
    axes = c.writer.constant(np.asarray([1, 2], np.int32))
    made = c.made(node, [1, 1, 1, c.shape(node.input[0])[3]])
    c.writer.op("MEAN", [c.known[node.input[0]], axes], made, KeepDims=True)


def _flatten(c: _Conversion, node: onnx.NodeProto) -> None:
    """Squeeze, Flatten and Reshape end in [1, C] here, behind a pooling."""
    shape = c.shape(node.input[0])
    if any(length != 1 for length in shape[1:-1]):
        raise UserError(f"{node.name}: {node.op_type} of {shape}, only behind a pooling")
    wanted = c.writer.constant(np.asarray([1, shape[-1]], np.int32))
    c.writer.op("RESHAPE", [c.known[node.input[0]], wanted], c.made(node, [1, shape[-1]]))


def _identity(c: _Conversion, node: onnx.NodeProto) -> None:
    c.known[node.output[0]] = c.known[node.input[0]]


OPERATORS: dict[str, Callable[[_Conversion, onnx.NodeProto], None]] = {
    "Add": _elementwise("ADD"),
    "Clip": _clip,
    "Conv": _conv,
    "Flatten": _flatten,
    "Gemm": _linear,
    "GlobalAveragePool": _pool,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _unary("HARD_SWISH"),
    "Identity": _identity,
    "MatMul": _linear,
    "Mul": _elementwise("MUL"),
    "Relu": _unary("RELU"),
    "Reshape": _flatten,
    "Sigmoid": _unary("LOGISTIC"),
    "Softmax": _unary("SOFTMAX"),
    "Squeeze": _flatten,
}


def run_tflite(file: Path, images: np.ndarray, reference: bool = False) -> np.ndarray:
    """What LiteRT answers, one picture at a time.

    Args:
        file: the TFLite file.
        images: float32 [N, 3, H, W].
        reference: compute in its reference kernels, not in XNNPACK's.

    Returns:
        float32 [N, K].
    """
    litert: Any = import_engine("ai_edge_litert.interpreter", "LiteRT")
    kinds = litert.OpResolverType
    kind = kinds.BUILTIN_REF if reference else kinds.AUTO
    network = litert.Interpreter(str(file), experimental_op_resolver_type=kind)
    network.allocate_tensors()
    entry, output = network.get_input_details()[0], network.get_output_details()[0]
    rows = []
    for image in images:
        network.set_tensor(entry["index"], image.transpose(1, 2, 0)[np.newaxis].astype(np.float32))
        network.invoke()
        rows.append(network.get_tensor(output["index"]))
    return np.concatenate(rows)
