"""An exported ONNX file as a TFLite file: channels last, one picture at a time, float32 or int8.

Written with the schema alone. The converters that are kept well bring frameworks that do not go
with this project's packages (onnx2tf 1.29: TensorFlow 2.19 and NumPy 1.26; ai-edge-torch: torch).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from ppcls_lite.deploy.tflite_conversion import Conversion
from ppcls_lite.deploy.tflite_int8 import SIGNED
from ppcls_lite.deploy.tflite_writer import RELU6
from ppcls_lite.errors import UserError
from ppcls_lite.int8.qdq import output_channel_axis
from ppcls_lite.runtimes import import_engine

SAME, VALID = 0, 1


def tflite_file(model: onnx.ModelProto, side: int) -> bytes:
    """The bytes of a TFLite file that answers as an ONNX graph does.

    Its input is float32 [1, H, W, 3], its output float32 [1, K], under the graph's names.

    Args:
        model: what `int8.qdq.float_graph` returned: batch norm is folded. Or an int8 network of
            `quantize --target tflite`.
        side: H and W, pixels.

    Raises:
        UserError: the graph has an operator that is not in OPERATORS, or a grouped convolution.
    """
    conversion = Conversion(model, side)
    for node in model.graph.node:
        convert = OPERATORS.get(node.op_type)
        if convert is None:
            known = ", ".join(OPERATORS)
            raise UserError(f"{node.name}: {node.op_type} is not one of {known}", "--format mnn")
        if node.output[0] not in conversion.known:
            convert(conversion, node)
    return conversion.file()


def _attributes(node: onnx.NodeProto) -> Mapping[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _same(size: list[int], kernel: list[int], strides: list[int], dilations: list[int]) -> list:
    """What TensorFlow's SAME pads: top, left, bottom, right."""
    totals = [
        max(0, (-(-n // step) - 1) * step + (k - 1) * dilation + 1 - n)
        for n, k, step, dilation in zip(size, kernel, strides, dilations, strict=True)
    ]
    return [total // 2 for total in totals] + [total - total // 2 for total in totals]


def _conv(c: Conversion, node: onnx.NodeProto) -> None:
    given, weights = _attributes(node), c.int8.weights(node).values  # [O, I / groups, k, k]
    shape, kernel = c.shape(node.input[0]), list(weights.shape[2:])
    groups = given.get("group", 1)
    depthwise = groups > 1
    if depthwise and (groups != shape[3] or weights.shape[1] != 1):
        raise UserError(f"{node.name}: a convolution of {groups} groups", "--format mnn")
    strides, dilations = given.get("strides", [1, 1]), given.get("dilations", [1, 1])
    last, activation = c.fused(node)
    steps = c.integers(node, last)
    x, size = c.known[node.input[0]] if steps else c.given(node.input[0]), shape[1:3]
    same = _same(size, kernel, strides, dilations)
    automatic = given.get("auto_pad", b"NOTSET") == b"SAME_UPPER"
    pads = same if automatic else list(given.get("pads", [0, 0, 0, 0]))
    padding = SAME if pads == same else VALID
    if padding == VALID and any(pads):
        size = [size[0] + pads[0] + pads[2], size[1] + pads[1] + pads[3]]
        rows = np.asarray([[0, 0], pads[0::2], pads[1::2], [0, 0]], np.int32)
        padded = c.steps[node.input[0]] if steps else None
        x = c.between("PAD", [x, c.writer.constant(rows)], [1, *size, shape[3]], padded)
    reach = [
        (k - 1) * d + 1 if padding == VALID else 1 for k, d in zip(kernel, dilations, strict=True)
    ]
    side = [-(-(n - r + 1) // s) for n, r, s in zip(size, reach, strides, strict=True)]
    order = (1, 2, 3, 0) if depthwise else (0, 2, 3, 1)
    options = {"Padding": padding, "StrideH": strides[0], "StrideW": strides[1],
               "DilationHFactor": dilations[0], "DilationWFactor": dilations[1],
               "FusedActivationFunction": activation}  # fmt: skip
    if depthwise:
        options["DepthMultiplier"] = len(weights) // groups
    inputs = [x, *c.parameters(node, order, steps)]
    kind = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
    c.writer.op(kind, inputs, c.made(last, [1, *side, len(weights)], steps), **options)


def _linear(c: Conversion, node: onnx.NodeProto) -> None:
    last, activation = c.fused(node)
    steps, axis = c.integers(node, last), output_channel_axis(node)
    x = c.known[node.input[0]] if steps else c.given(node.input[0])
    inputs = [x, *c.parameters(node, (axis, 1 - axis), steps)]
    made = c.made(last, [1, c.int8.weights(node).values.shape[axis]], steps)
    c.writer.op("FULLY_CONNECTED", inputs, made, FusedActivationFunction=activation)


def _elementwise(kind: str) -> Callable[[Conversion, onnx.NodeProto], None]:
    def convert(c: Conversion, node: onnx.NodeProto) -> None:
        last, activation = c.fused(node)
        steps = c.integers(node, last)
        inputs = c.inputs(node, steps)
        shape = np.broadcast_shapes(*(c.shape(name) for name in node.input))
        c.writer.op(kind, inputs, c.made(last, shape, steps), FusedActivationFunction=activation)

    return convert


def _unary(kind: str) -> Callable[[Conversion, onnx.NodeProto], None]:
    def convert(c: Conversion, node: onnx.NodeProto) -> None:
        steps = c.integers(node, node)
        made = c.made(node, c.shape(node.input[0]), steps)
        options = {"Beta": 1.0} if kind == "SOFTMAX" else {}
        c.writer.op(kind, c.inputs(node, steps), made, **options)

    return convert


def _clip(c: Conversion, node: onnx.NodeProto) -> None:
    if c.limits(node) != (0.0, 6.0):
        raise UserError(f"{node.name}: Clip to {c.limits(node)}; allowed: 0 to 6", "--format mnn")
    c.writer.op("RELU6", [c.given(node.input[0])], c.made(node, c.shape(node.input[0])))


def _hard_sigmoid(c: Conversion, node: onnx.NodeProto) -> None:
    """max(0, min(1, a x + b)) is relu6(6 a x + 6 b) / 6, which TFLite has in hard-swish only."""
    given = _attributes(node)
    slope, offset = 6 * given.get("alpha", 0.2), 6 * given.get("beta", 0.5)
    readers = c.readers[node.output[0]]
    product = readers[0].op_type == "Mul" and set(readers[0].input) == {*node.input, *node.output}
    if len(readers) == 1 and product and np.allclose((slope, offset), (1, 3)):
        made = c.made(readers[0], c.shape(node.input[0]))
        c.writer.op("HARD_SWISH", [c.given(node.input[0])], made)
        return
    x, shape = c.given(node.input[0]), c.shape(node.input[0])
    if abs(slope - 1) > 1e-6:
        x = c.along("MUL", x, np.asarray(slope))
    three = c.writer.constant(np.asarray(offset, np.float32))
    x = c.between("ADD", [x, three], shape, FusedActivationFunction=RELU6)
    c.known[node.output[0]] = c.along("MUL", x, np.asarray(1 / 6))


def _pool(c: Conversion, node: onnx.NodeProto) -> None:
    axes = c.writer.constant(np.asarray([1, 2], np.int32))
    steps = c.integers(node, node)
    made = c.made(node, [1, 1, 1, c.shape(node.input[0])[3]], steps)
    c.writer.op("MEAN", [*c.inputs(node, steps), axes], made, KeepDims=True)


def _flatten(c: Conversion, node: onnx.NodeProto) -> None:
    """Squeeze, Flatten and Reshape end in [1, C] here, behind a pooling."""
    shape = c.shape(node.input[0])
    if any(length != 1 for length in shape[1:-1]):
        raise UserError(
            f"{node.name}: {node.op_type} of {shape}; allowed: behind a pooling", "--format mnn"
        )
    wanted = c.writer.constant(np.asarray([1, shape[-1]], np.int32))
    made = c.made(node, [1, shape[-1]], c.steps.get(node.input[0]))
    c.writer.op("RESHAPE", [c.known[node.input[0]], wanted], made)


def _identity(c: Conversion, node: onnx.NodeProto) -> None:
    source, made = node.input[0], node.output[0]
    c.known[made] = c.known[source]
    if source in c.steps:
        c.steps[made] = c.steps[source]


def _quantize(c: Conversion, node: onnx.NodeProto) -> None:
    """Rounds what is in float; an operator of integers has done so itself."""
    steps, (scale, zero) = c.int8.steps_of(node), c.int8.pair(node)
    if c.steps.get(node.input[0]) == steps:
        _identity(c, node)
        return
    x = c.given(node.input[0])
    if scale.ndim:
        x = c.along("MUL", x, 1 / scale)
    before = steps.zero + SIGNED  # the graph's zero, where all channels share it
    shift = zero.astype(np.float32) - before if scale.ndim else np.asarray(-steps.offset)
    if shift.any():
        x = c.along("ADD", x, shift)
    c.writer.op("QUANTIZE", [x], c.made(node, c.shape(node.input[0]), steps))


def _dequantize(c: Conversion, node: onnx.NodeProto) -> None:
    """Leaves integers as they are, unless each channel has a scale; weights are not known yet."""
    if node.input[0] in c.constants:
        return
    scale, zero = c.int8.pair(node)
    if not scale.ndim:
        _identity(c, node)
        return
    x = c.given(node.input[0])
    shift = zero.astype(np.float32) - (c.steps[node.input[0]].zero + SIGNED)
    if shift.any():
        x = c.along("SUB", x, shift)
    c.known[node.output[0]] = c.along("MUL", x, scale)


OPERATORS: dict[str, Callable[[Conversion, onnx.NodeProto], None]] = {
    "Add": _elementwise("ADD"),
    "Clip": _clip,
    "Conv": _conv,
    "DequantizeLinear": _dequantize,
    "Flatten": _flatten,
    "Gemm": _linear,
    "GlobalAveragePool": _pool,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _unary("HARD_SWISH"),
    "Identity": _identity,
    "MatMul": _linear,
    "Mul": _elementwise("MUL"),
    "QuantizeLinear": _quantize,
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
