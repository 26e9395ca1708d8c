"""Graphs that compute as int8 hardware does, made from a float ONNX graph.

Int8 is written down as pairs of QuantizeLinear and DequantizeLinear, so any runtime can read it
and a person can see where rounding happens. Thresholds come from `calibrate`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper, version_converter

from ppcls_lite.errors import UserError, nearest, shortened, some
from ppcls_lite.files import temporary_folder
from ppcls_lite.int8.biases import least_scales, step_of
from ppcls_lite.int8.calibrate import INT8_STEPS, Threshold
from ppcls_lite.runtimes import import_engine

FOR_COMPILER = "accelerator.onnx"  # the float graph that quantize leaves for the card's compiler
COMPILER_OPSET = 11  # its operator set; the documents have none above
OPSET = 13  # the first in which DequantizeLinear takes one scale per channel
# What runs in int8: their activation inputs are rounded. Relu, Clip, Reshape and others work on
# values that are rounded after them, as compilers fuse them.
INT8_OPS = (
    "Conv", "Gemm", "MatMul", "Add", "Mul", "GlobalAveragePool", "AveragePool",
    "HardSigmoid", "HardSwish", "Sigmoid",
)  # fmt: skip
WEIGHTED_OPS = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True)
class Arithmetic:
    """What a target rounds, beside the weights of WEIGHTED_OPS.

    Attributes:
        ops: their activation inputs are rounded.
        outputs: so are outputs of weighted layers, behind the Relu that is fused with them.
        unsigned: to uint8 with a zero point, instead of int8 on both sides of 0.
        weight_steps: of int8, how many the largest weight of an output channel is long.
        joined: hard-swish is one operator, and rounded as one.
    """

    ops: tuple[str, ...] = INT8_OPS
    outputs: bool = False
    unsigned: bool = False
    weight_steps: int = INT8_STEPS
    joined: bool = False


TFLITE_OPS = (*WEIGHTED_OPS, "Add", "Mul", "GlobalAveragePool", "HardSwish")  # none for a gate
# By target. ONNX Runtime has int8 convolutions from int8 to int8 only; those of OpenVINO also end
# in float. Signed activations take four times as long in ONNX Runtime. Its second arithmetic rounds
# what stands between convolutions, too: less exact and faster. The files of these two hold
# whole weights, of which the largest may be 127; the card's compiler divides by 128, as TVM's.
ARITHMETIC = {
    "accelerator": Arithmetic(),
    "onnxruntime": Arithmetic(WEIGHTED_OPS, outputs=True, unsigned=True, weight_steps=127),
    "onnxruntime_fast": Arithmetic(
        (*WEIGHTED_OPS, "Mul", "GlobalAveragePool"),
        outputs=True,
        unsigned=True,
        weight_steps=127,
        joined=True,
    ),
    "openvino": Arithmetic(WEIGHTED_OPS, unsigned=True, weight_steps=127),
    "tflite": Arithmetic(TFLITE_OPS, outputs=True, unsigned=True, weight_steps=127, joined=True),
}
# ONNX Runtime would otherwise compute pairs of rounding and layer as one, with other rounding.
EXACT = {"session.disable_quant_qdq": "1"}


def float_graph(path: Path) -> onnx.ModelProto:
    """Reads an ONNX file and prepares it: opset 13 or later, batch norm and biases folded.

    The fixed sizes of the file stay. Nodes keep their names; a folded one lives on in the
    convolution before it, and a MatMul with its bias is called `NAME/MatMulAddFusion`.

    Raises:
        UserError: the file cannot be read.
    """
    onnxruntime = import_engine("onnxruntime", "onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Basic is what can be written as plain ONNX: constants, batch norm, bias.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        model = onnx.load(str(path))
        if opset(model) < OPSET:
            model = version_converter.convert_version(model, OPSET)
        with temporary_folder("ppcls-fold-") as folder:
            options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
            onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            folded = onnx.load(options.optimized_model_filepath)
    except FileNotFoundError:
        raise UserError(f"no file {path}", "name the file in the bundle's onnx/") from None
    # Protobuf's, ONNX's and ONNX Runtime's errors share no class but this.
    except Exception as error:
        cause = f"{path} cannot be read as ONNX ({type(error).__name__}: {shortened(error)})"
        raise UserError(cause, "copy the file again, or export it again") from error
    keep = [entry for entry in folded.opset_import if entry.domain in ("", "ai.onnx")]
    del folded.opset_import[:]
    folded.opset_import.extend(keep)
    folded.ir_version = max(folded.ir_version, 7)
    return folded


def opset(model: onnx.ModelProto) -> int:
    """Returns the version of ONNX's own operator set that a graph uses."""
    return next(e.version for e in model.opset_import if e.domain in ("", "ai.onnx"))


def layer_names(model: onnx.ModelProto, ops: Collection[str] = INT8_OPS) -> list[str]:
    """Names of the nodes that can be kept in float, in the order of the graph."""
    return [node.name for node in model.graph.node if node.op_type in ops]


def resolve_layers(model: onnx.ModelProto, wanted: Collection[str | int]) -> set[str]:
    """Turns names and numbers of layers into node names.

    Args:
        model: what `float_graph` returned.
        wanted: names, as in the ONNX file; or numbers, counting convolutions from 0.

    Raises:
        UserError: a layer does not exist.
    """
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    names = layer_names(model)
    known = {name.partition("/")[0]: name for name in names} | {name: name for name in names}
    found, hint = set(), "name layers as the ONNX file does, such as Conv.0"
    for layer in wanted:
        if isinstance(layer, int):
            if not 0 <= layer < len(convolutions):
                allowed = f"the graph has convolutions 0..{len(convolutions) - 1}"
                raise UserError(f"layer {layer}: {allowed}", hint)
            found.add(convolutions[layer])
        elif layer in known:
            found.add(known[layer])
        else:
            allowed = f"{nearest(layer, known)}; allowed: {some(list(known))}"
            raise UserError(f"no layer {layer!r} in the graph{allowed}", hint)
    return found


def rounded_tensors(
    model: onnx.ModelProto,
    float_layers: Collection[str] = (),
    arithmetic: Arithmetic = ARITHMETIC["accelerator"],
) -> list[str]:
    """Names of the activations that an int8 graph rounds, in the order of the graph."""
    known = {tensor.name for tensor in model.graph.initializer} | {"", model.graph.output[0].name}
    names = []
    for node in model.graph.node:
        if node.op_type not in arithmetic.ops or node.name in float_layers:
            continue
        names += node.input
        if arithmetic.outputs and node.op_type in WEIGHTED_OPS:
            readers = [other for other in model.graph.node if node.output[0] in other.input]
            fused = len(readers) == 1 and readers[0].op_type == "Relu"
            names.append((readers[0] if fused else node).output[0])
    return [name for name in dict.fromkeys(names) if name not in known]


def quantize_weights(
    weights: np.ndarray, axis: int, least: np.ndarray | float = 0.0, steps: int = INT8_STEPS
) -> tuple[np.ndarray, np.ndarray]:
    """Rounds weights to int8 with one scale per output channel: max |w| / steps, within +-127.

    Args:
        weights: float32, any shape.
        axis: of the output channels.
        least: what each scale must be at least, [channels].
        steps: `Arithmetic.weight_steps`. With 128 the largest weight is clipped.

    Returns:
        int8 weights of the same shape, and float32 [channels].
    """
    others = tuple(i for i in range(weights.ndim) if i != axis)
    peak = np.abs(weights).max(axis=others)
    scales = np.where(peak > 0, peak, 1.0).astype(np.float32) / np.float32(steps)
    scales = np.maximum(scales, least).astype(np.float32)
    shape = [-1 if i == axis else 1 for i in range(weights.ndim)]
    rounded = np.round(weights / scales.reshape(shape))
    return np.clip(rounded, 1 - INT8_STEPS, INT8_STEPS - 1).astype(np.int8), scales


def insert_qdq(
    model: onnx.ModelProto,
    thresholds: Mapping[str, Threshold],
    float_layers: Collection[str] = (),
    weight_steps: int = INT8_STEPS,
) -> onnx.ModelProto:
    """Returns the graph with int8 written into it.

    Args:
        model: what `float_graph` returned; left as it is.
        thresholds: for each of `rounded_tensors`. A number: int8, scale = threshold / 128, zero
            point 0. A pair, of `calibrate` with `unsigned`: uint8 from the lowest to the highest;
            a pair of arrays [C], of `channels`: the same for each channel.
        float_layers: names of nodes that stay float: their inputs and weights are not rounded.
        weight_steps: `Arithmetic.weight_steps`.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    pairs = {name: _pair(graph, name, threshold) for name, threshold in thresholds.items()}
    nodes: list[onnx.NodeProto] = list(pairs.get(graph.input[0].name, ()))
    for node in graph.node:
        if node.op_type in INT8_OPS and node.name not in float_layers:
            if node.op_type in WEIGHTED_OPS and node.input[1] in constants:
                least = least_scales(node, constants, thresholds)
                small = quantize_weights(
                    numpy_helper.to_array(constants[node.input[1]]),
                    output_channel_axis(node),
                    least,
                    weight_steps,
                )
                nodes.append(_int8_weights(graph, node, *small))
            for position, name in enumerate(node.input):
                if name in pairs:
                    node.input[position] = pairs[name][-1].output[0]
        nodes.append(node)
        for name in node.output:
            nodes += pairs.get(name, ())
    del graph.node[:]
    graph.node.extend(nodes)
    _drop_unused(graph)
    onnx.checker.check_model(result)
    return result


def _pair(graph: onnx.GraphProto, name: str, threshold: Threshold) -> list[onnx.NodeProto]:
    """The nodes that round one tensor: to 8 bits and back; int8 is clipped to +-127 steps first."""
    step, zero, small, back = (f"{name}/{part}" for part in ("scale", "zero", "int8", "rounded"))
    nodes, source, scale = [], name, step_of(threshold)
    if isinstance(threshold, tuple):
        constants = {step: scale, zero: np.round(-threshold[0] / scale).astype(np.uint8)}
    else:
        # QuantizeLinear alone would reach down to -128.
        limit = np.float32(INT8_STEPS - 1) * scale
        low, high, source = (f"{name}/{part}" for part in ("low", "high", "clipped"))
        constants = {low: -limit, high: limit, step: scale, zero: np.int8(0)}
        nodes = [helper.make_node("Clip", [name, low, high], [source], f"{name}/Clip")]
    for constant, value in constants.items():
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), constant))
    pair = [
        helper.make_node("QuantizeLinear", [source, step, zero], [small], f"{name}/Quantize"),
        helper.make_node("DequantizeLinear", [small, step, zero], [back], f"{name}/Dequantize"),
    ]
    if scale.ndim:
        for node in pair:
            node.attribute.append(helper.make_attribute("axis", 1))
    return [*nodes, *pair]


def output_channel_axis(node: onnx.NodeProto) -> int:
    """The axis of a Conv's, Gemm's or MatMul's weights that counts output channels."""
    if node.op_type == "Conv":
        return 0
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    return 0 if transposed else 1


def _int8_weights(
    graph: onnx.GraphProto, node: onnx.NodeProto, weights: np.ndarray, scales: np.ndarray
) -> onnx.NodeProto:
    """Stores a node's int8 weights and returns the node that brings them back."""
    axis = output_channel_axis(node)
    names = [f"{node.name}/{part}" for part in ("weights", "weight_scales", "weight_zeros")]
    for name, value in zip(names, (weights, scales, np.zeros(len(scales), np.int8)), strict=True):
        graph.initializer.append(numpy_helper.from_array(value, name))
    node.input[1] = f"{node.name}/float_weights"
    return helper.make_node(
        "DequantizeLinear", names, [node.input[1]], f"{node.name}/DequantizeWeights", axis=axis
    )


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept: Sequence[onnx.TensorProto] = [t for t in graph.initializer if t.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
