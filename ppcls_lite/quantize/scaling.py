"""Scales that move between layers without a change of the answers.

Where everything between two layers is linear or a ReLU, a channel may be multiplied by f in the
first and divided by f in the second: relu(f x) = f relu(x) for f > 0. Hard-swish, hard-sigmoid and
ReLU6 are not like that, so scales stop there. `equalise` uses this for networks that int8 damages,
`plant_outliers` against them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from ppcls_lite.int8.calibrate import Activations
from ppcls_lite.int8.qdq import output_channel_axis

LINEAR = ("Relu", "GlobalAveragePool", "AveragePool", "Squeeze", "Identity")
GATES = ("HardSigmoid", "Sigmoid")
# A channel that was nearly silent on the calibration pictures may be loud on others: it is not
# lifted by more than this over the median.
MOST_LIFT = 8
PLANTED_SHARE = 0.1  # of the channels of a linear bottleneck


@dataclass(frozen=True)
class ScaleGroup:
    """Tensors whose channels can only be scaled together.

    Attributes:
        tensors: their names.
        makers: convolutions and linear layers whose outputs they are.
        readers: those whose inputs they are.
        blocked: what between them is not scale-equivariant; empty where scales can move.
    """

    tensors: list[str]
    makers: list[onnx.NodeProto]
    readers: list[onnx.NodeProto]
    blocked: list[str]


class Layers:
    """Weights and biases of a float graph, read and written by node.

    Args:
        model: what `float_graph` returned; changed by `write`.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self.nodes = [
            node
            for node in model.graph.node
            if node.op_type in ("Conv", "Gemm") and node.input[1] in self._tensors
        ]
        taken: set[str] = set()
        for node in self.nodes:  # each its own, so that writing one changes no other
            if len(node.input) < 3:
                width = self.weights(node).shape[output_channel_axis(node)]
                self._add(model, node, 2, np.zeros(width, np.float32))
            for position in (1, 2):
                if node.input[position] in taken:
                    value = numpy_helper.to_array(self._tensors[node.input[position]])
                    self._add(model, node, position, value)
                taken.add(node.input[position])

    def _add(
        self, model: onnx.ModelProto, node: onnx.NodeProto, position: int, value: np.ndarray
    ) -> None:
        name = f"{node.name}/own_{position}"
        del node.input[position : position + 1]
        node.input.insert(position, name)
        model.graph.initializer.append(numpy_helper.from_array(value, name))
        self._tensors[name] = model.graph.initializer[-1]

    def weights(self, node: onnx.NodeProto) -> np.ndarray:
        """A layer's weights: float32 [O, I / groups, k, k], [O, I] or [I, O]."""
        return numpy_helper.to_array(self._tensors[node.input[1]])

    def bias(self, node: onnx.NodeProto) -> np.ndarray:
        """A layer's bias: float32 [O]."""
        return numpy_helper.to_array(self._tensors[node.input[2]])

    def write(self, node: onnx.NodeProto, weights: np.ndarray, bias: np.ndarray) -> None:
        """Replaces a layer's weights and bias."""
        for position, value in ((1, weights), (2, bias)):
            name = node.input[position]
            self._tensors[name].CopyFrom(
                numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name)
            )


def groups_of(node: onnx.NodeProto) -> int:
    """The groups of a convolution; 1 for a linear layer."""
    return next((a.i for a in node.attribute if a.name == "group"), 1)


def scale_groups(model: onnx.ModelProto, layers: Layers) -> list[ScaleGroup]:
    """Divides the tensors of a graph into those that can only be scaled together."""
    constants = {tensor.name for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    own = {node.name for node in layers.nodes}
    edges = _Groups()
    edges.block(model.graph.input[0].name, "the model's input")
    edges.block(model.graph.output[0].name, "the model's output")
    for node in model.graph.node:
        inputs = [name for name in node.input if name and name not in constants]
        gates = [n for n in inputs if n in makers and makers[n].op_type in GATES]
        if node.name in own:
            width = layers.weights(node).shape[0]
            if groups_of(node) not in (1, width):
                edges.block(inputs[0], "a grouped convolution")
                edges.block(node.output[0], "a grouped convolution")
        elif node.op_type in LINEAR or (node.op_type == "Add" and len(inputs) == 2):
            edges.join([*inputs, node.output[0]])
        elif node.op_type == "Mul" and len(inputs) == 2 and len(gates) == 1:
            edges.join([*(set(inputs) - set(gates)), node.output[0]])
        else:
            for name in (*inputs, *node.output):
                edges.block(name, node.op_type)
    found = []
    for tensors, blocked in edges.listed([n for node in layers.nodes for n in node.output]):
        made = [node for node in layers.nodes if node.output[0] in tensors]
        read = [node for node in layers.nodes if node.input[0] in tensors]
        found.append(ScaleGroup(tensors, made, read, blocked))
    return found


class _Groups:
    """Sets of names that grow together, and what speaks against scaling each."""

    def __init__(self) -> None:
        self._of: dict[str, set[str]] = {}
        self._reasons: dict[str, set[str]] = {}

    def _group(self, name: str) -> set[str]:
        return self._of.setdefault(name, {name})

    def join(self, names: Sequence[str]) -> None:
        """Makes one set of all sets that hold these names."""
        merged = set().union(*(self._group(name) for name in names))
        self._of |= dict.fromkeys(merged, merged)

    def block(self, name: str, reason: str) -> None:
        """Keeps a reason why the set that holds a name cannot be scaled."""
        self._group(name)
        self._reasons.setdefault(name, set()).add(reason)

    def listed(self, start: Sequence[str]) -> list[tuple[list[str], list[str]]]:
        """The sets that hold one of these names, each with what speaks against it; both sorted."""
        unique = {id(self._group(name)): self._group(name) for name in start}
        return [
            (sorted(g), sorted(set().union(*(self._reasons.get(n, set()) for n in g))))
            for g in unique.values()
        ]


def rescale(layers: Layers, group: ScaleGroup, factors: np.ndarray) -> None:
    """Multiplies the channels of a group by factors [C] > 0; the graph's answers stay.

    Powers of 2 keep them to the bit, other factors to float32's rounding.
    """
    for node in group.makers:
        weights, axis = layers.weights(node), output_channel_axis(node)
        layers.write(node, weights * _along(factors, weights, axis), layers.bias(node) * factors)
    for node in group.readers:
        weights = layers.weights(node)
        axis = input_channel_axis(node)
        layers.write(node, weights / _along(factors, weights, axis), layers.bias(node))


def input_channel_axis(node: onnx.NodeProto) -> int:
    """The axis of the weights that counts input channels; a depthwise layer's two are one."""
    return 0 if groups_of(node) > 1 else 1 - output_channel_axis(node)


def _along(factors: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
    return factors.reshape([-1 if i == axis else 1 for i in range(weights.ndim)])


def equalise(
    model: onnx.ModelProto, images: Sequence[np.ndarray], rounded: Collection[str]
) -> list[ScaleGroup]:
    """Brings the channels of each tensor that int8 rounds to similar ranges, in place.

    One scale per tensor has to fit all its channels: a channel a hundred times as large as the
    others leaves them one or two of 127 steps.

    Differs from Nagel et al. 2019 (arXiv 1906.04721): they balance the weights of both layers, one
    scale per layer. Here each output channel of the weights has its own scale, so the first layer's
    costs nothing; what is balanced is the largest activation against the second layer's weights,
    as in SmoothQuant (Xiao et al. 2023, arXiv 2211.10438, alpha 0.5). Depthwise layers take all.

    Args:
        model: what `float_graph` returned.
        images: calibration pictures, float32 [1, 3, H, W] each.
        rounded: tensors that int8 rounds.

    Returns:
        All groups, also those that are blocked and stay as they were.
    """
    layers = Layers(model)
    groups = scale_groups(model, layers)
    peaks = channel_peaks(model, sorted(rounded), images)
    for group in groups:
        known = [peaks[name] for name in group.tensors if name in rounded]
        if not group.blocked and known and group.readers:
            rescale(layers, group, _equal_factors(layers, group, np.max(known, axis=0)))
    return groups


def _equal_factors(layers: Layers, group: ScaleGroup, peaks: np.ndarray) -> np.ndarray:
    alive = peaks > 0
    if not alive.any():
        return np.ones_like(peaks)
    logs = -np.log(np.maximum(peaks, np.median(peaks[alive]) / MOST_LIFT))
    dense = [input_shares(layers, node) for node in group.readers if groups_of(node) == 1]
    if dense:
        logs = (logs + np.mean(np.log(dense), axis=0)) / 2
    return np.exp(logs - logs.mean()).astype(np.float32)


def input_shares(layers: Layers, node: onnx.NodeProto) -> np.ndarray:
    """How large the weights of each input channel are, [I], whatever the rows' own scales are.

    Rows are divided by their geometric mean: scaling an output changes nothing, and scaling an
    input changes its own entry only, up to a common factor.
    """
    weights = np.moveaxis(layers.weights(node), output_channel_axis(node), 0)  # [O, I, ...]
    sizes = np.abs(weights.reshape(*weights.shape[:2], -1)).max(axis=2).astype(np.float64)
    sizes = np.maximum(sizes, 1e-4 * sizes.max(axis=1, keepdims=True) + 1e-30)
    rows = np.exp(np.log(sizes).mean(axis=1, keepdims=True))
    return np.sqrt(np.mean((sizes / rows) ** 2, axis=0))


def channel_peaks(
    model: onnx.ModelProto, tensors: Sequence[str], images: Sequence[np.ndarray]
) -> Mapping[str, np.ndarray]:
    """The largest |x| of each channel of each tensor over all pictures, [C]."""
    peaks: dict[str, np.ndarray] = {}
    for values in Activations(model, tensors, images):
        for name, value in values.items():
            size = np.abs(value.reshape(*value.shape[:2], -1)).max(axis=(0, 2))
            peaks[name] = np.maximum(peaks.get(name, size), size)
    return peaks


def plant_outliers(model: onnx.ModelProto, factor: float, seed: int = 0) -> int:
    """Makes a twin of a network, in place: the same answers, and a few channels far too large.

    Long trained networks have such channels, those at hand may not. A tenth of the channels of each
    linear bottleneck is multiplied by factor / 10 to factor, and divided again in what reads it.

    Args:
        model: what `float_graph` returned.
        factor: the largest factor, at least 1.
        seed: of the draw.

    Returns:
        How many channels were changed.
    """
    random = np.random.default_rng(seed)
    layers = Layers(model)
    relus = {name for node in model.graph.node if node.op_type == "Relu" for name in node.output}
    planted = 0
    for group in scale_groups(model, layers):
        if group.blocked or not group.readers or relus & set(group.tensors):
            continue
        width = len(layers.bias(group.makers[0]))
        chosen = random.permutation(width)[: max(1, round(PLANTED_SHARE * width))]
        factors = np.ones(width, np.float32)
        low = np.log(max(1.0, factor / 10))
        factors[chosen] = np.exp(random.uniform(low, np.log(factor), len(chosen)))
        rescale(layers, group, factors)
        planted += len(chosen)
    return planted
