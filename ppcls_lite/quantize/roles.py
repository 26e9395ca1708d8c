"""What each layer of a graph is for, as int8 sees it."""

import math
from collections.abc import Sequence

import onnx

from ppcls_lite.int8.qdq import INT8_OPS, WEIGHTED_OPS, resolve_layers
from ppcls_lite.quantize.scaling import GATES, groups_of

ELEMENTWISE = "elementwise"  # all that has no weights: sums, products, gates, pooling
# What may be said instead of names of layers, roles all of whose layers are meant.
WORDS = ("se", "hswish", "pool", "first", "last", ELEMENTWISE)


def roles(model: onnx.ModelProto) -> dict[str, str]:
    """Tells each int8 node's role: first, last, se, hswish, pool, depthwise, pointwise, ...

    Args:
        model: what `float_graph` returned.
    """
    nodes = [node for node in model.graph.node if node.op_type in INT8_OPS]
    makers = {name: node for node in model.graph.node for name in node.output}
    found = {node.name: _plain_role(node, model) for node in nodes}
    for node in nodes:
        if node.op_type == "Mul":
            _mark_gate(node, makers, found)
    weighted = [node.name for node in nodes if node.op_type in ("Conv", "Gemm", "MatMul")]
    if weighted:
        found |= {weighted[0]: "first", weighted[-1]: "last"}
    return found


def _plain_role(node: onnx.NodeProto, model: onnx.ModelProto) -> str:
    if node.op_type == "HardSwish":
        return "hswish"
    if node.op_type == "GlobalAveragePool":
        return "pool"
    if node.op_type != "Conv":
        return "other"
    if groups_of(node) > 1:
        return "depthwise"
    shape = next((t.dims for t in model.graph.initializer if t.name == node.input[1]), ())
    return "pointwise" if list(shape[2:]) == [1, 1] else "conv"


def _mark_gate(mul: onnx.NodeProto, makers: dict[str, onnx.NodeProto], found: dict) -> None:
    """x * hard_sigmoid(x) is a hard-swish; x * gate(pooled x) ends a squeeze-and-excitation."""
    for position, name in enumerate(mul.input):
        gate = makers.get(name)
        if gate is None or gate.op_type not in GATES:
            continue
        clip = makers.get(gate.input[0])
        source = clip.input[0] if clip is not None and clip.op_type == "Clip" else gate.input[0]
        if mul.input[1 - position] in (source, f"{source}/scaled"):
            found |= {mul.name: "hswish", gate.name: "hswish"}
            return
        node: onnx.NodeProto | None = gate
        while node is not None:
            if node.name in found:
                found[node.name] = "se"
            if node.op_type == "GlobalAveragePool":
                return
            node = makers.get(node.input[0])


def float_layers_of(model: onnx.ModelProto, wanted: Sequence[str]) -> set[str]:
    """Turns names of layers, or words of `WORDS`, into names of nodes.

    Raises:
        UserError: there is no such layer.
    """
    role = roles(model)
    names = [word for word in wanted if word not in WORDS]
    found = resolve_layers(model, names) | {name for name in role if role[name] in wanted}
    if ELEMENTWISE in wanted:
        found |= {
            n.name for n in model.graph.node if n.name in role and n.op_type not in WEIGHTED_OPS
        }
    return found


def multiplications(model: onnx.ModelProto) -> dict[str, int]:
    """How many products each layer with weights sums up for one picture, by name.

    Args:
        model: what `float_graph` returned, of fixed size.
    """
    inferred = onnx.shape_inference.infer_shapes(model).graph
    sizes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.output)
    }
    weights = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    return {
        node.name: weights[node.input[1]] * math.prod(sizes[node.output[0]][2:])
        for node in model.graph.node
        if node.op_type in WEIGHTED_OPS and node.input[1] in weights
    }
