"""Graphs that compute as half-precision hardware does, made from a float ONNX graph."""

import numpy as np
import onnx
from onnx import helper, numpy_helper


def insert_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the graph with weights and every activation rounded to half precision.

    Sums inside a layer stay float32; whether a given chip does that is for its maker to say.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    for tensor in graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype == np.float32:
            rounded = value.astype(np.float16).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))
    source = graph.input[0].name
    nodes = _half_pair(source)
    outputs = {output.name for output in graph.output}
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name and not any(name == t.name for t in graph.initializer):
                node.input[position] = f"{name}/half"
        nodes.append(node)
        for name in node.output:
            if name not in outputs:
                nodes += _half_pair(name)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(result)
    return result


def _half_pair(name: str) -> list[onnx.NodeProto]:
    small, back = f"{name}/float16", f"{name}/half"
    return [
        helper.make_node("Cast", [name], [small], f"{name}/ToHalf", to=onnx.TensorProto.FLOAT16),
        helper.make_node("Cast", [small], [back], f"{name}/FromHalf", to=onnx.TensorProto.FLOAT),
    ]
