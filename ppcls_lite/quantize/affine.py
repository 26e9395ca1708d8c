"""Channels shifted and scaled into int8's range, before the layers that read them.

A card that has one step for a whole tensor, on both sides of 0, wastes most of it on what a ReLU or
a hard-swish makes: the lower half, and all that smaller channels do not reach. The layer behind can
take any shift back in its bias, and a depthwise layer any scale of a channel in its weights.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from ppcls_lite.int8.calibrate import INT8_STEPS, UINT8_STEPS
from ppcls_lite.int8.qdq import INT8_OPS
from ppcls_lite.quantize.channels import channel_ranges, is_depthwise
from ppcls_lite.quantize.scaling import Layers, groups_of

WORTH = 0.9  # of the step that it would be without: a shift must make it as small, or smaller
# Of the widest channels: what a compiler sees may be somewhat less than was seen here.
REACHED = 0.98
# Other pictures have larger values than these: what there is room for in the other channels, above.
ROOM = 1.5
PINS = 0.1  # of a depthwise layer's channels, the widest, have none: one of them is to be clipped
MOST_LIFT = 4  # over the median channel: one that was nearly silent may be loud on others
SILENT = 1e-20  # a tensor that no picture wakes up stays as it is


def spread_affine(
    model: onnx.ModelProto, images: Sequence[np.ndarray], float_layers: Collection[str] = ()
) -> set[str]:
    """Shifts what layers read to the middle of int8, and scales it for depthwise ones, in place.

    Per channel, and undone in the layer's weights and bias. What lies beyond the calibration
    pictures' range is clipped, and the top fiftieth of it where one step is for all channels:
    otherwise the float answers stay. Where a layer
    pads with zeros, a Pad comes first. What the maker of the tensor can do is done there.

    Differs from Wei et al. 2023 (Outlier Suppression+, arXiv 2304.09145), which shifts and scales
    by channel, too: only depthwise layers are scaled here. In others a scale would be one between
    weights, and these have one step for all input channels.

    Args:
        model: what `float_graph` returned, of fixed size; changed in place.
        images: calibration pictures, float32 [1, 3, H, W] each.
        float_layers: nodes that stay float, before which nothing is put.

    Returns:
        Names of the new nodes that have to be kept in float; Pad and Clip are no layers of int8.
    """
    layers = Layers(model)
    chosen = [
        node
        for node in layers.nodes
        if node.name not in float_layers
        and (groups_of(node) == 1 or is_full_depthwise(layers, node))
    ]
    ranges = channel_ranges(model, sorted({node.input[0] for node in chosen}), images)
    writer = _Writer(model, layers)
    for node in chosen:
        move = _move(*ranges[node.input[0]], is_depthwise(node))
        if move is not None:
            writer.put_before(node, move)
    return writer.finish()


def is_full_depthwise(layers: Layers, node: onnx.NodeProto) -> bool:
    """Tells whether each channel of a convolution is a group of its own."""
    return groups_of(node) == layers.weights(node).shape[0]


@dataclass(frozen=True)
class _Move:
    """x becomes x * scale + shift, channel by channel, float64 [C] each, clipped at +-reach."""

    scale: np.ndarray
    shift: np.ndarray
    reach: float


def _move(low: np.ndarray, high: np.ndarray, depthwise: bool) -> _Move | None:
    """How a tensor of these ranges [C], 0 within them, fills int8; None: no need.

    The widest channel reaches from -127 steps to 128. 0, which is most of what a ReLU makes and all
    that a layer pads with, is a whole number of steps. Depthwise layers have all channels wide.
    Clipped at 128 steps, which some calibration picture reaches, a compiler that takes the largest
    value finds steps of just that size.
    """
    low, high = low.astype(np.float64), high.astype(np.float64)
    width = high - low
    widest = int(width.argmax())
    if width[widest] < SILENT:
        return None
    if not depthwise:
        step = REACHED * width[widest] / UINT8_STEPS
        if step > WORTH * np.maximum(-low, high).max() / INT8_STEPS:
            return None
        # In the middle, for what other pictures have; never such that the lowest is clipped.
        zero = np.round(np.maximum(0.5 - (low + high) / 2 / step, 1 - INT8_STEPS - low / step))
        return _Move(np.ones_like(width), zero * step, INT8_STEPS * step)
    least = np.median(width[width > SILENT]) / MOST_LIFT
    room = np.where(width >= np.quantile(width, 1 - PINS), REACHED, ROOM)
    steps = np.maximum(width, least) * room / UINT8_STEPS
    zero = np.round(1 - INT8_STEPS - low / steps)
    return _Move(1 / steps / INT8_STEPS, zero / INT8_STEPS, 1.0)


class _Writer:
    """Puts nodes before layers."""

    def __init__(self, model: onnx.ModelProto, layers: Layers) -> None:
        self._model, self._layers = model, layers
        inferred = shape_inference.infer_shapes(model).graph
        self._sizes = {
            value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
            for value in (*inferred.value_info, *inferred.input)
        }
        self._new: dict[str, list[onnx.NodeProto]] = {}

    def put_before(self, node: onnx.NodeProto, move: _Move) -> None:
        """Makes a layer read x * scale + shift, and take it back."""
        weights, bias = self._layers.weights(node), self._layers.bias(node)
        if self._moved_in_maker(node, move):
            self._layers.write(node, weights, bias - _answer(node, weights, move.shift))
            return
        depthwise = is_depthwise(node)
        shape = [-1, *([1] * (weights.ndim - 1))]
        if depthwise:  # in others they are 1
            weights = weights / move.scale.reshape(shape)
        self._layers.write(node, weights, bias - _answer(node, weights, move.shift))
        nodes: list[onnx.NodeProto] = []
        pads = padding(node, weights.shape[2:], self._sizes.get(node.input[0], [])[2:])
        if any(pads):
            edges = np.asarray([0, 0, *pads[:2], 0, 0, *pads[2:]], np.int64)
            self._append(node, nodes, "Pad", edges)
            kept = [a for a in node.attribute if a.name not in ("pads", "auto_pad")]
            del node.attribute[:]
            node.attribute.extend(kept)
        along = [-1, 1, 1] if node.op_type == "Conv" else [-1]
        if depthwise:
            self._append(node, nodes, "Mul", move.scale.reshape(along).astype(np.float32))
        self._append(node, nodes, "Add", move.shift.reshape(along).astype(np.float32))
        reach = np.asarray(move.reach, np.float32)
        self._append(node, nodes, "Clip", -reach, reach)
        self._new[node.name] = nodes

    def _moved_in_maker(self, node: onnx.NodeProto, move: _Move) -> bool:
        """Shifts the bias of the layer that makes the tensor, if only this node reads it."""
        name = node.input[0]
        maker = next((n for n in self._layers.nodes if name in n.output), None)
        readers = [other for other in self._model.graph.node if name in other.input]
        if maker is None or len(readers) > 1 or is_depthwise(node):
            return False
        weights, bias = self._layers.weights(maker), self._layers.bias(maker)
        self._layers.write(maker, weights, bias + move.shift)
        return True

    def _append(
        self, node: onnx.NodeProto, nodes: list[onnx.NodeProto], kind: str, *constants: np.ndarray
    ) -> None:
        name = f"{node.name}/{kind}"
        given = [f"{name}/constant_{i}" for i in range(len(constants))]
        for constant, value in zip(given, constants, strict=True):
            self._model.graph.initializer.append(numpy_helper.from_array(value, constant))
        nodes.append(helper.make_node(kind, [node.input[0], *given], [f"{name}/output"], name))
        node.input[0] = f"{name}/output"

    def finish(self) -> set[str]:
        """Writes the nodes into the graph, each before its layer; returns their names."""
        ordered = [
            n for node in self._model.graph.node for n in (*self._new.get(node.name, ()), node)
        ]
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
        del self._model.graph.node[:]
        self._model.graph.node.extend(copies)
        onnx.checker.check_model(self._model)
        new = [node for nodes in self._new.values() for node in nodes]
        return {node.name for node in new if node.op_type in INT8_OPS}


def _answer(node: onnx.NodeProto, weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """What a layer without a bias makes of an input that is constant in each channel: [O]."""
    if node.op_type == "Gemm":
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        return weights @ values if transposed else values @ weights
    sums = weights.sum(axis=(2, 3), dtype=np.float64)  # [O, I / groups]
    return sums[:, 0] * values if is_depthwise(node) else sums @ values


def padding(node: onnx.NodeProto, kernel: Sequence[int], size: Sequence[int]) -> list[int]:
    """The zeros that a convolution puts around [H, W]: top, left, bottom, right."""
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if given.get("auto_pad", b"NOTSET") not in (b"SAME_UPPER", b"SAME_LOWER"):
        return list(given.get("pads", [0, 0, 0, 0]))
    strides, dilations = given.get("strides", [1, 1]), given.get("dilations", [1, 1])
    totals = [
        max(0, (-(-n // step) - 1) * step + (k - 1) * dilation + 1 - n)
        for n, k, step, dilation in zip(size, kernel, strides, dilations, strict=True)
    ]
    less, more = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return [*less, *more] if given["auto_pad"] == b"SAME_UPPER" else [*more, *less]
