"""A softmax at the end of a graph."""

import onnx
from onnx import helper


def append_softmax(model: onnx.ModelProto) -> None:
    """Ends a graph of logits [N, K] with a softmax, under the name its output had."""
    name = model.graph.output[0].name
    for node in model.graph.node:
        if name in node.output:
            node.output[list(node.output).index(name)] = f"{name}/logits"
        for position in [i for i, source in enumerate(node.input) if source == name]:
            node.input[position] = f"{name}/logits"
    model.graph.node.append(helper.make_node("Softmax", [f"{name}/logits"], [name], axis=-1))


def ends_in_softmax(model: onnx.ModelProto) -> bool:
    """Tells whether the graph's output comes from a softmax, possibly through a reshape."""
    makers = {name: node for node in model.graph.node for name in node.output}
    node = makers.get(model.graph.output[0].name)
    while node is not None and node.op_type in ("Identity", "Reshape", "Flatten", "Squeeze"):
        node = makers.get(node.input[0])
    return node is not None and node.op_type == "Softmax"
