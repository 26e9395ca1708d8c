"""Steps of a channel moved into the layers beside it, as runtimes have kernels for it.

A kernel for int8 takes one scale for all it reads and one for all it makes; only its weights have
scales for each channel. Such steps as `channels` finds are therefore written elsewhere: those of a
depthwise layer's input in its weights' scales, those of a convolution's output in its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ppcls_lite.quantize.channels import is_depthwise

IN_FLOAT = ("HardSwish", "HardSigmoid")  # ONNX Runtime has no integer kernels of them


def fold_channel_steps(model: onnx.ModelProto) -> int:
    """Gives int8 layers one scale to read and one to write where both had one a channel, in place.

    The products stay as they are but for float32's rounding. Rounding itself, and what goes on in
    float, keeps a scale for each channel: elementwise, it costs nothing more.

    Args:
        model: what `insert_qdq` returned.

    Returns:
        How many of the two ends of rounded tensors were folded.
    """
    graph = _Graph(model)
    folded = 0
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and graph.constant(node.input[1]).ndim:
            pair = _Pair(node, *graph.readers[node.output[0]])
            folded += _fold_readers(graph, pair) + _fold_maker(graph, pair)
    graph.drop_unused()
    return folded


@dataclass(frozen=True)
class _Pair:
    """The two nodes that round a tensor with one step for each channel."""

    quantize: onnx.NodeProto
    dequantize: onnx.NodeProto


class _Graph:
    """A graph by names."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.makers = {name: node for node in model.graph.node for name in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def constant(self, name: str) -> np.ndarray:
        """The value of a constant."""
        return numpy_helper.to_array(self._constants[name])

    def set_input(self, node: onnx.NodeProto, position: int, value: np.ndarray) -> None:
        """Gives a node an input of its own, under a new name."""
        name = f"{node.name}/folded_{position}"
        if name not in self._constants:
            self.model.graph.initializer.append(numpy_helper.from_array(value, name))
            self._constants[name] = self.model.graph.initializer[-1]
        self._constants[name].CopyFrom(numpy_helper.from_array(value, name))
        while len(node.input) <= position:
            node.input.append("")
        node.input[position] = name

    def along(self, node: onnx.NodeProto, position: int) -> str:
        """The name of a scale or zero point of a node as float32 that multiplies its channels."""
        value = self.constant(node.input[position]).astype(np.float32)
        name = f"{node.name}/along_{position}"
        if value.ndim and not self._is_linear(node):
            value = value.reshape(-1, 1, 1)  # of [N, C, H, W]; behind a linear layer [N, C]
        self.model.graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def _is_linear(self, node: onnx.NodeProto) -> bool:
        """Whether a tensor has no positions: its maker is a linear layer, and no convolution."""
        maker: onnx.NodeProto | None = node
        while maker is not None and maker.op_type not in ("Conv", "Gemm", "MatMul"):
            maker = self.makers.get(maker.input[0])
        return maker is not None and maker.op_type != "Conv"

    def weights_of(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        """The DequantizeLinear of a layer's weights; None where they are float."""
        maker = self.makers.get(node.input[1]) if len(node.input) > 1 else None
        return maker if maker is not None and maker.op_type == "DequantizeLinear" else None

    def drop_unused(self) -> None:
        """Removes the constants that no node reads any more."""
        used = {name for node in self.model.graph.node for name in node.input}
        kept = [t for t in self.model.graph.initializer if t.name in used]
        del self.model.graph.initializer[:]
        self.model.graph.initializer.extend(kept)


def _fold_readers(graph: _Graph, pair: _Pair) -> bool:
    """Moves the steps into the weights of depthwise layers, if nobody else reads the tensor."""
    readers = graph.readers.get(pair.dequantize.output[0], ())
    found = [graph.weights_of(node) for node in readers if is_depthwise(node)]
    weights = [node for node in found if node is not None]
    zeros = graph.constant(pair.quantize.input[2])
    if not readers or len(weights) < len(readers) or np.ptp(zeros):
        return False
    steps = graph.constant(pair.quantize.input[1])
    for node in weights:
        graph.set_input(node, 1, graph.constant(node.input[1]) * steps)
    _all_alike(graph, pair.dequantize, zeros[0])
    return True


def _fold_maker(graph: _Graph, pair: _Pair) -> bool:
    """Moves the steps into the layer that makes the tensor, and its zero points, too."""
    name = pair.quantize.input[0]
    maker, relu = graph.makers.get(name), False
    if maker is not None and maker.op_type == "Relu" and _alone(graph, name):
        name, relu = maker.input[0], True
        maker = graph.makers.get(name)
    zeros = graph.constant(pair.quantize.input[2])
    if maker is None or maker.op_type not in ("Conv", "Gemm") or not _alone(graph, name):
        return False
    weights = graph.weights_of(maker)
    if weights is None or (relu and zeros.any()):
        return False
    steps = graph.constant(pair.quantize.input[1])
    graph.set_input(weights, 1, graph.constant(weights.input[1]) / steps)
    bias = graph.constant(maker.input[2]) if len(maker.input) > 2 else np.zeros_like(steps)
    graph.set_input(maker, 2, bias / steps + zeros.astype(np.float32))
    _all_alike(graph, pair.quantize, np.asarray(0, np.uint8))
    return True


def _alone(graph: _Graph, name: str) -> bool:
    outputs: Sequence[onnx.ValueInfoProto] = graph.model.graph.output
    return len(graph.readers[name]) == 1 and all(name != value.name for value in outputs)


def _all_alike(graph: _Graph, node: onnx.NodeProto, zero: np.ndarray) -> None:
    """One step of 1 for all channels: what it was stands in the layer beside it."""
    graph.set_input(node, 1, np.asarray(1, np.float32))
    graph.set_input(node, 2, np.asarray(zero, np.uint8))
    del node.attribute[:]


def integer_biases(model: onnx.ModelProto) -> int:
    """Stores the biases of int8 Gemms as int32, in place.

    ONNX Runtime makes an integer kernel of a Gemm only then, and would unpack all weights at each
    run otherwise: two of seven milliseconds of a MobileNetV3-small of 1,000 classes.

    Returns:
        How many there were.
    """
    graph, nodes, count = _Graph(model), [], 0
    for node in model.graph.node:
        source, weights = graph.makers.get(node.input[0]), graph.weights_of(node)
        if (
            node.op_type == "Gemm"
            and len(node.input) > 2
            and source is not None
            and source.op_type == "DequantizeLinear"
            and weights is not None
        ):
            nodes.append(_integer_bias(graph, node, source, weights))
            count += 1
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    graph.drop_unused()
    return count


def _integer_bias(
    graph: _Graph, node: onnx.NodeProto, source: onnx.NodeProto, weights: onnx.NodeProto
) -> onnx.NodeProto:
    steps = graph.constant(source.input[1]) * graph.constant(weights.input[1])
    bias = np.round(graph.constant(node.input[2]) / steps).astype(np.int32)
    names = [f"{node.name}/{part}" for part in ("bias", "bias_scales", "bias_zeros")]
    for name, value in zip(names, (bias, steps, np.zeros_like(bias)), strict=True):
        graph.model.graph.initializer.append(numpy_helper.from_array(value, name))
    node.input[2] = f"{node.name}/float_bias"
    name = f"{node.name}/DequantizeBias"
    return helper.make_node("DequantizeLinear", names, [node.input[2]], name, axis=0)


def spell_out(model: onnx.ModelProto) -> int:
    """Writes steps of channels beside hard-swish and gates as arithmetic, in place; the bits stay.

    ONNX Runtime computes QuantizeLinear and DequantizeLinear with more than one scale value by
    value; Cast, Sub, Mul and Div it computes in vectors (docs/explanation/int8.md). With one scale
    DequantizeLinear alone is faster, and what it fuses with integer kernels stays as it is.

    Returns:
        How many nodes were replaced.
    """
    graph, nodes, count = _Graph(model), [], 0
    for node in model.graph.node:
        parts = _spelled(graph, node)
        count += bool(parts)
        nodes += parts or [node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    graph.drop_unused()
    return count


def _spelled(graph: _Graph, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """The nodes that do the work of one; none where it stays."""
    if node.op_type == "QuantizeLinear" and graph.constant(node.input[1]).ndim:
        zeros = graph.constant(node.input[2])
        if np.ptp(zeros):
            return []
        inside = f"{node.name}/steps"
        divided = [node.input[0], graph.along(node, 1)]
        _all_alike(graph, node, zeros[0])
        node.input[0] = inside
        return [helper.make_node("Div", divided, [inside], f"{node.name}/Div"), node]
    if node.op_type != "DequantizeLinear" or not graph.makers.get(node.input[0]):
        return []
    if not graph.constant(node.input[1]).ndim:
        return []
    readers = graph.readers.get(node.output[0], ())
    if not readers or any(reader.op_type not in IN_FLOAT for reader in readers):
        return []
    steps, zeroed = f"{node.name}/steps", f"{node.name}/from_zero"
    cast = helper.make_node(
        "Cast", [node.input[0]], [steps], f"{node.name}/Cast", to=onnx.TensorProto.FLOAT
    )
    zero, scale = graph.along(node, 2), graph.along(node, 1)
    return [
        cast,
        helper.make_node("Sub", [steps, zero], [zeroed], f"{node.name}/Sub"),
        helper.make_node("Mul", [zeroed, scale], list(node.output), f"{node.name}/Mul"),
    ]
