"""Int8 graphs written so that ONNX Runtime computes in integers what would be float between them.

It makes an integer kernel of a node between DequantizeLinear and QuantizeLinear where it has one:
of convolutions, sums, products and means, not of hard-swish and gates.
"""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import helper, numpy_helper

GATE_STEPS = 255  # of a hard-sigmoid in uint8, from 0 to 1


class _Tensors:
    """Constants, makers and readers of a graph's tensors by name."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self.makers = {name: node for node in graph.node for name in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def value(self, name: str) -> np.ndarray:
        """The value of a constant."""
        return numpy_helper.to_array(self._constants[name])

    def add(self, name: str, value: np.ndarray | np.generic) -> str:
        """Adds a constant that is not there yet; returns its name."""
        if name not in self._constants:
            self._graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
            self._constants[name] = self._graph.initializer[-1]
        return name

    def maker(self, name: str, kind: str) -> onnx.NodeProto | None:
        """The node that makes a tensor, if it is of a kind."""
        node = self.makers.get(name)
        return node if node is not None and node.op_type == kind else None

    def only_reader(self, name: str, kind: str) -> onnx.NodeProto | None:
        """The node that reads a tensor, if there is one alone and it is of a kind."""
        nodes = self.readers.get(name, [])
        return nodes[0] if len(nodes) == 1 and nodes[0].op_type == kind else None


def float_where_unrounded(model: onnx.ModelProto) -> int:
    """Stores weights of convolutions that do not end in integers as float, in place; same answers.

    A convolution whose output a float layer reads has no integer kernel. Its weights would be
    brought back at every run, and what is no constant keeps ONNX Runtime from its fastest float
    kernel. Rounding that nobody reads goes, too: behind a convolution before a float layer.

    Returns:
        How many convolutions there were.
    """
    graph = model.graph
    _drop_unread(graph)
    tensors, kept, count = _Tensors(graph), [], 0
    floats = {name: node for node in graph.node for name in _float_weights(tensors, node)}
    for node in graph.node:
        layer = floats.get(node.output[0]) if node.op_type == "DequantizeLinear" else None
        if layer is None:
            kept.append(node)
            continue
        weights, scales = (tensors.value(name) for name in node.input[:2])
        along = scales.reshape(-1, *[1] * (weights.ndim - 1))
        layer.input[1] = tensors.add(f"{layer.name}/plain", weights.astype(np.float32) * along)
        count += 1
    del graph.node[:]
    graph.node.extend(kept)
    _drop_unread(graph)
    return count


def _float_weights(tensors: _Tensors, node: onnx.NodeProto) -> Iterator[str]:
    """The dequantized weights of a convolution whose output is not rounded alone."""
    if node.op_type != "Conv" or tensors.maker(node.input[1], "DequantizeLinear") is None:
        return
    relu = tensors.only_reader(node.output[0], "Relu")
    output = (node if relu is None else relu).output[0]
    if tensors.only_reader(output, "QuantizeLinear") is None:
        yield node.input[1]


def _drop_unread(graph: onnx.GraphProto) -> None:
    """Removes nodes and constants that lead to no output of the graph."""
    wanted = {value.name for value in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            wanted |= set(node.input)
            kept.append(node)
    constants = [tensor for tensor in graph.initializer if tensor.name in wanted]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(constants)


def integer_hard_swish(model: onnx.ModelProto) -> int:
    """Writes hard-swish between two roundings as a sum and a product of integers, in place.

    hard_sigmoid(x) is x / 6 + 1 / 2, clipped to 0..1. In uint8 from 0 to 1 that is a sum that
    saturates, for which ONNX Runtime has a kernel, and the gate's share of x a product. Four passes
    over floats become two over bytes.

    The answers change: the gate is rounded to 255ths. Where it is 1, above 3, nothing is lost;
    below, at most 3 / 510.

    Returns:
        How many there were.
    """
    graph = model.graph
    tensors, count = _Tensors(graph), 0
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        source = _rounded_both(tensors, node)
        count += source is not None
        nodes += [node] if source is None else _sum_and_product(tensors, node, source)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    return count


def _rounded_both(tensors: _Tensors, node: onnx.NodeProto) -> onnx.NodeProto | None:
    """The DequantizeLinear before a hard-swish behind which is a QuantizeLinear alone."""
    if node.op_type != "HardSwish":
        return None
    source = tensors.maker(node.input[0], "DequantizeLinear")
    end = tensors.only_reader(node.output[0], "QuantizeLinear")
    if source is None or end is None:
        return None
    one_step = not any(tensors.value(each.input[1]).ndim for each in (source, end))
    return source if one_step else None


def _sum_and_product(
    tensors: _Tensors, node: onnx.NodeProto, source: onnx.NodeProto
) -> list[onnx.NodeProto]:
    small, step, zero = source.input
    sixth = tensors.add(f"{node.name}/sixth", np.float32(tensors.value(step) / 6))
    none = tensors.add("gate/zero", np.uint8(0))
    half = [
        tensors.add("half/int8", np.uint8(GATE_STEPS)),
        tensors.add("half/scale", np.float32(0.5 / GATE_STEPS)),
        none,
    ]
    steps = [tensors.add("gate/scale", np.float32(1 / GATE_STEPS)), none]
    names = ("x", "half", "sum", "int8", "gate")
    x, offset, total, rounded, gate = (f"{node.name}/{name}" for name in names)
    return [
        helper.make_node("DequantizeLinear", [small, sixth, zero], [x], f"{x}/Dequantize"),
        helper.make_node("DequantizeLinear", half, [offset], f"{offset}/Dequantize"),
        helper.make_node("Add", [x, offset], [total], total),
        helper.make_node("QuantizeLinear", [total, *steps], [rounded], f"{gate}/Quantize"),
        helper.make_node("DequantizeLinear", [rounded, *steps], [gate], f"{gate}/Dequantize"),
        helper.make_node("Mul", [node.input[0], gate], list(node.output), node.name),
    ]
