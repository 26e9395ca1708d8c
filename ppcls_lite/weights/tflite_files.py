"""TFLite: weights out of a network that was made for inference, and what else it computes with.

The format in which TensorFlow's authors publish this family: TF-Hub's, MediaPipe's and TF-slim's
files, with weights of float32, float16, int8 per channel or uint8 per tensor.
"""

from dataclasses import dataclass, replace

import numpy as np

from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.weights.raw import Unread
from ppcls_lite.weights.tflite_graph import Graph, Op, read_graph
from ppcls_lite.weights.tflite_parts import (
    activation,
    check_steps,
    gate,
    input_scaling,
    is_pooled,
    is_shortcut,
    paddings,
)

BACKGROUND = 1001  # classes of a network of ImageNet that has one more, the first: none of them


@dataclass(frozen=True)
class Layer:
    """What a layer of the file computes beside its weights.

    Attributes:
        stride: of height and width, as the next.
        dilation: of a convolution.
        padding: rows above and below, columns left and right; None where the file does not tell.
        same_padding: what TensorFlow's SAME is at the size that the file is for.
        activation: key of `layers.ACTIVATIONS`; "" for none, "clamp" where quantised values begin
            at 0, "?" for any other.
        gate: of squeeze-excite's second layer: "hard", "sigmoid" or "?"; "" for other layers.
        shortcut: the block's input is added.
    """

    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, ...] | None
    same_padding: tuple[int, ...] | None
    activation: str
    gate: str
    shortcut: bool


@dataclass(frozen=True)
class Network:
    """What a TFLite file says of its network.

    Attributes:
        layers: by the names in front of its weights, in the order in which they run.
        image_size: height and width of its pictures; None where they may vary or differ.
        mean: of pixels divided by 255, per channel; None where the file leaves that to its user.
        std: as `mean`.
    """

    layers: dict[str, Layer]
    image_size: int | None
    mean: tuple[float, float, float] | None
    std: tuple[float, float, float] | None

    def preprocess(self, usual: Preprocess) -> Preprocess:
        """How its pictures are made, with what the file does not say as `usual` has it."""
        size = self.image_size or usual.crop_size
        resize = round(usual.resize_size * size / usual.crop_size)
        mean, std = self.mean or usual.mean, self.std or usual.std
        return replace(usual, crop_size=size, resize_size=resize, mean=mean, std=std)


@dataclass(frozen=True)
class TfliteContent:
    """What was found in a TFLite file.

    Attributes:
        arrays: float32 weights [out, in, H, W] (of the head: [out, in]) and biases [out], named by
            the roles of `arch.units`.
        changes: in words, what the values were and what was taken out of them.
    """

    arrays: dict[str, np.ndarray]
    network: Network
    changes: str


def read_tflite(data: bytes) -> TfliteContent:
    """Reads a TFLite file.

    Batch norm is in its weights already, and a bias that is left out is zeros. Of 1,001 classes the
    first is left out, and 3 is taken from biases of a gate that hold hard sigmoid's
    relu6(x + 3) / 6.

    Raises:
        Damaged: offsets, counts or shapes are wrong; damaged bytes raise other errors, too.
        Unread: the network is of another kind, or quantised in another way.
    """
    graph = read_graph(data)
    roles = _roles(graph)
    arrays: dict[str, np.ndarray] = {}
    layers: dict[str, Layer] = {}
    folded = 0
    for role, op in roles.items():
        weight, bias = _values(graph, op)
        kind, has_three = gate(graph, op) if role.endswith(".restore") else ("", False)
        if has_three:
            bias = bias - np.float32(3)
            folded += 1
        layers[role] = _layer(graph, op, weight.shape[2:], kind)
        is_dense = role.startswith("head.") and weight.shape[2:] == (1, 1)
        arrays[f"{role}.weight"] = weight[:, :, 0, 0] if is_dense else weight
        arrays[f"{role}.bias"] = bias
    # A converter may leave small layers in float32.
    largest = max(roles, key=lambda role: arrays[f"{role}.weight"].size)
    said = [_precision(graph, roles[largest])]
    if (head := list(roles)[-1]).startswith("head.") and len(bias) == BACKGROUND:
        for kind in ("weight", "bias"):
            arrays[f"{head}.{kind}"] = arrays[f"{head}.{kind}"][1:]
        said.append("the first of 1,001 classes, the background, left out")
    if folded:
        said.append(f"hard sigmoid's + 3 taken out of {folded} biases")
    size = graph.tensors[graph.inputs[0]].shape[1:3] if graph.inputs else ()
    square = len(size) == 2 and size[0] == size[1] and 32 <= size[0] <= 1024
    mean, std = input_scaling(graph, roles["stem"])
    network = Network(layers, size[0] if square else None, mean, std)
    return TfliteContent(arrays, network, ", ".join(said))


def _roles(graph: Graph) -> dict[str, Op]:
    """The layers that have weights by their roles, told by their order and by what they read."""
    kinds = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    ops = [op for op in graph.ops if op.kind in kinds]
    deep = [op.kind == "DEPTHWISE_CONV_2D" for op in ops] + [False]
    if len(ops) < 3 or not any(deep) or deep[0]:
        raise Unread("its network has no depthwise convolutions, or begins with one")
    roles = {"stem": ops[0]}
    block, before, in_head = -1, "stem", False
    for i, op in enumerate(ops[1:], 1):
        if in_head:
            before = f"head.{sum(role.startswith('head.') for role in roles)}"
        elif deep[i]:
            block += before != "expand"
            before = "depthwise"
        elif before == "depthwise":
            before = "reduce" if is_pooled(graph, op) else "project"
        elif before == "reduce":
            before = "restore"
        elif before == "restore":
            before = "project"
        elif is_pooled(graph, op):
            before, in_head = "head.0", True
        elif deep[i + 1]:
            before, block = "expand", block + 1
        else:
            before, in_head = "last", True
        role = before if in_head else f"blocks.{block}.{before}"
        if role in roles:
            raise Unread(f"{op} does not stand where a network of this family has one")
        roles[role] = op
    return roles


def _values(graph: Graph, op: Op) -> tuple[np.ndarray, np.ndarray]:
    """Weights [out, in, H, W] (of a depthwise layer: [out, 1, H, W]) and biases [out]."""
    weight = graph.value(op.inputs[1]) if len(op.inputs) > 1 else None
    rank = 2 if op.kind == "FULLY_CONNECTED" else 4
    if weight is None or weight.ndim != rank or not weight.size:
        raise Unread(f"{op} has no weights of its own")
    if op.kind == "FULLY_CONNECTED":
        weight = weight[:, :, None, None]
    elif op.kind == "CONV_2D":
        weight = weight.transpose(0, 3, 1, 2)
    else:
        weight = weight.transpose(3, 0, 1, 2)
    left_out = len(op.inputs) < 3 or op.inputs[2] < 0
    bias = np.zeros(len(weight), np.float32) if left_out else graph.value(op.inputs[2])
    if bias is None or bias.shape != weight.shape[:1]:
        raise Unread(f"{op} has no biases of its own")
    if weight.dtype != np.float32 or bias.dtype != np.float32:
        raise Unread(f"{op} has weights of {weight.dtype}, biases of {bias.dtype}, and no scale")
    return weight, bias


def _layer(graph: Graph, op: Op, kernel: tuple[int, ...], gate_kind: str) -> Layer:
    check_steps(op)
    told = op.options
    stride = told.get("stride_h", 1), told.get("stride_w", 1)
    dilation = told.get("dilation_h", 1), told.get("dilation_w", 1)
    pads, same = paddings(graph, op, kernel, stride, dilation)
    act, shortcut = activation(graph, op), is_shortcut(graph, op)
    return Layer(stride, dilation, pads, same, act, gate_kind, shortcut)


def _precision(graph: Graph, op: Op) -> str:
    """In words, like "int8 per channel"."""
    tensor = graph.tensors[op.inputs[1]]
    if tensor.data is None and (maker := graph.producer(op.inputs[1])):
        tensor = graph.tensors[maker.inputs[0]]
    per = {0: "", 1: " per tensor"}.get(tensor.scale.size, " per channel")
    return tensor.dtype + ("" if tensor.dtype.startswith("float") else per)
