"""The 8-bit arithmetic of a quantized network in ONNX's own terms, QuantizeLinear and so on.

paddle2onnx 2.1 ends the process on Paddle's quantize_linear, so `slim.int8` writes the arithmetic
in plain operators. Here they are found again by their shape:

    Clip(x) -> Div(step) -> Round -> Mul(step)    becomes  QuantizeLinear -> DequantizeLinear
    Cast(int8 weight) -> Mul(scale)               becomes  DequantizeLinear, one scale per channel
"""

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper


def to_qdq(model: onnx.ModelProto) -> None:
    """Rewrites a tidied file of `slim.int8.to_int8` in place.

    Raises:
        ValueError: an int8 weight or its input does not have the expected shape.
    """
    graph = model.graph
    made_by = {name: node for node in graph.node for name in node.output}
    values = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[NodeProto] = []
    weights = inputs = 0
    for node in graph.node:
        chain = _chain(node, made_by)
        if chain == ["Mul", "Round", "Div", "Clip"]:
            nodes += _quantized_input(node, made_by, values, graph)
            inputs += 1
        elif chain[:2] == ["Mul", "Cast"]:
            nodes.append(_quantized_weight(node, made_by, values, graph))
            weights += 1
        else:
            nodes.append(node)
    stored = sum(tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) > 1
                 for tensor in values.values())  # fmt: skip
    if not weights == inputs == stored:
        raise ValueError(f"{stored} int8 weights, {weights} of them and {inputs} inputs recognised")
    del graph.node[:]
    graph.node.extend(_alive(nodes, {output.name for output in graph.output}))


def _chain(node: NodeProto, made_by: dict[str, NodeProto]) -> list[str]:
    """Operators that lead to a node through first inputs, itself first, at most four."""
    names: list[str] = []
    current: NodeProto | None = node
    while current is not None and len(names) < 4:
        names.append(current.op_type)
        current = made_by.get(current.input[0]) if current.input else None
    return names


def _quantized_input(
    last: NodeProto,
    made_by: dict[str, NodeProto],
    values: dict[str, onnx.TensorProto],
    graph: onnx.GraphProto,
) -> list[NodeProto]:
    divide = made_by[made_by[last.input[0]].input[0]]
    x, step = made_by[divide.input[0]].input[0], divide.input[1]
    name = last.output[0]
    scale = numpy_helper.to_array(values[step]).reshape(())
    parts = [f"{name}.step", f"{name}.zero"]
    for part, array in zip(parts, (scale, np.zeros((), np.int8)), strict=True):
        graph.initializer.append(numpy_helper.from_array(array, part))
    return [
        helper.make_node("QuantizeLinear", [x, *parts], [f"{name}.int8"]),
        helper.make_node("DequantizeLinear", [f"{name}.int8", *parts], [name]),
    ]


def _quantized_weight(
    node: NodeProto,
    made_by: dict[str, NodeProto],
    values: dict[str, onnx.TensorProto],
    graph: onnx.GraphProto,
) -> NodeProto:
    scale = numpy_helper.to_array(values[node.input[1]])
    axis = int(np.argmax(scale.shape))
    part = f"{node.output[0]}.scale"
    graph.initializer.append(numpy_helper.from_array(scale.reshape(-1), part))
    return helper.make_node(
        "DequantizeLinear", [made_by[node.input[0]].input[0], part], list(node.output), axis=axis
    )


def _alive(nodes: list[NodeProto], wanted: set[str]) -> list[NodeProto]:
    """The nodes that lead to the outputs, in their order."""
    kept = []
    for node in reversed(nodes):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
    return kept[::-1]
