"""Hard-swish and hard-sigmoid written so that int8 can follow them; the float answers stay."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

HARD_SWISH_OPSET = 14


def clip_gates(model: onnx.ModelProto) -> int:
    """Clips what each hard-sigmoid reads to where it saturates, in place.

    hard_sigmoid(x) is 0 below -3 and 1 above 3. Rounded with the step of a tensor that reaches 180,
    it has three values left; clipped first it has all 128. Exact: what is clipped has no effect.

    Returns:
        How many gates there are.
    """
    nodes, count = [], 0
    for node in model.graph.node:
        if node.op_type == "HardSigmoid":
            names = [f"{node.name}/lowest", f"{node.name}/highest"]
            for name, limit in zip(names, saturation(node), strict=True):
                value = numpy_helper.from_array(np.asarray(limit, np.float32), name)
                model.graph.initializer.append(value)
            inside = f"{node.name}/inside"
            nodes.append(
                helper.make_node("Clip", [node.input[0], *names], [inside], f"{node.name}/ClipGate")
            )
            node.input[0] = inside
            count += 1
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return count


def saturation(gate: onnx.NodeProto) -> tuple[float, float]:
    """Below which a HardSigmoid is 0, and above which it is 1: -3 and 3."""
    given = {a.name: a.f for a in gate.attribute}
    alpha, beta = given.get("alpha", 0.2), given.get("beta", 0.5)
    return -beta / alpha, (1 - beta) / alpha


def split_hard_swish(model: onnx.ModelProto) -> int:
    """Computes the convolution before the last pooling twice, in place, so that scales can pass.

    x * hard_sigmoid(x) is not scale-equivariant, but with the two x from two convolutions the first
    one's channels can be scaled: f x * hard_sigmoid(x). `equalise` does so afterwards. Only for a
    hard-swish that nothing but global pooling reads: there the noise is largest (values below half
    a step vanish from the mean) and the convolution is small (2.6 of 56 M products in
    mobilenet_v3_small at 224 pixels).

    Returns:
        How many convolutions were doubled.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    doubled: dict[str, onnx.NodeProto] = {}
    for node in model.graph.node:
        if node.op_type != "Mul":
            continue
        readers = {n.op_type for n in model.graph.node if node.output[0] in n.input}
        for position, name in enumerate(node.input):
            conv, gate = makers.get(name), makers.get(node.input[1 - position])
            if conv is None or gate is None or readers != {"GlobalAveragePool"}:
                continue
            if conv.op_type == "Conv" and gate.op_type == "HardSigmoid":
                doubled[conv.name] = twin = onnx.NodeProto()
                twin.CopyFrom(conv)
                twin.name, twin.output[0] = f"{conv.name}/scaled", f"{name}/scaled"
                node.input[position] = twin.output[0]
    nodes = [n for node in model.graph.node for n in (node, doubled.get(node.name)) if n]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return len(doubled)


def join_hard_swish(model: onnx.ModelProto) -> int:
    """Writes x * hard_sigmoid(x) as the one operator HardSwish, in place; opset 14 has it.

    OpenVINO fuses HardSwish into the convolution before it, two operators not: its int8 network
    takes half the time (docs/int8.md). Only where nothing rounds in between and the slope is 1/6.

    Returns:
        How many were joined.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {value.name for value in model.graph.output}
    joined = []
    for node in model.graph.node:
        if node.op_type != "Mul":
            continue
        for name, other in (tuple(node.input), tuple(node.input)[::-1]):
            gate = makers.get(name)
            if gate is None or len(readers[name]) > 1 or name in outputs:
                continue
            if gate.input[0] == other and _is_hard_swishs(gate):
                joined.append((gate, node, other))
                break
    for gate, product, source in joined:
        swish = helper.make_node("HardSwish", [source], list(product.output), product.name)
        product.CopyFrom(swish)
        model.graph.node.remove(gate)
    if joined:
        for entry in model.opset_import:
            if entry.domain in ("", "ai.onnx"):
                entry.version = max(entry.version, HARD_SWISH_OPSET)
    return len(joined)


def _is_hard_swishs(gate: onnx.NodeProto) -> bool:
    """Tells whether a node is HardSwish's factor: a HardSigmoid of x / 6 + 1 / 2."""
    if gate.op_type != "HardSigmoid":
        return False
    given = {a.name: a.f for a in gate.attribute}
    slope, offset = np.float32(given.get("alpha", 0.2)), np.float32(given.get("beta", 0.5))
    return bool(np.isclose(slope, 1 / 6, rtol=1e-6) and offset == 0.5)
