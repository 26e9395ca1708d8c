"""A step of int8 for each channel of an activation, where integers can still be summed.

A depthwise layer never adds two channels, so each may come in steps of its own; so may what a
hard-swish or a gate reads. Long-trained networks need it: in one trained on ImageNet the inputs of
depthwise layers, one step for all behind a hard-swish, lose most of all (docs/int8.md).
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import onnx

from ppcls_lite.int8.calibrate import SILENT, UINT8_STEPS, Activations, Threshold
from ppcls_lite.quantize.gates import saturation
from ppcls_lite.quantize.scaling import groups_of

Range = tuple[np.ndarray, np.ndarray]


def spread_channels(
    model: onnx.ModelProto, tensors: Collection[str], images: Sequence[np.ndarray]
) -> dict[str, Threshold]:
    """Ranges for each channel of those tensors that can have them: from the lowest to the highest.

    Nothing is clipped but what changes no answer: of a hard-swish below -3, of a gate beyond +-3.

    Args:
        model: the float graph.
        tensors: those that int8 rounds.
        images: calibration pictures, float32 [1, 3, H, W] each.

    Returns:
        A pair of float32 [C] for each.
    """
    readers = {name: [node for node in model.graph.node if name in node.input] for name in tensors}
    chosen = {name: nodes for name, nodes in readers.items() if _may_have_own(nodes)}
    found: dict[str, Threshold] = {}
    for name, (low, high) in channel_ranges(model, list(chosen), images).items():
        lowest, highest = _limits(chosen[name])
        low, high = np.maximum(low, lowest), np.minimum(high, highest)
        # A channel that no picture wakes up: any range will do.
        high = np.where(high - low < SILENT, 1.0, high)
        depthwise = any(node.op_type == "Conv" for node in chosen[name])
        low, high = with_one_zero(low, high) if depthwise else (low, high)
        found[name] = (low.astype(np.float32), high.astype(np.float32))
    return found


def is_depthwise(node: onnx.NodeProto) -> bool:
    """Tells whether a node is a convolution that adds no two channels."""
    return node.op_type == "Conv" and groups_of(node) > 1


def _may_have_own(readers: Sequence[onnx.NodeProto]) -> bool:
    """Whether a tensor is read by depthwise layers only, by a gate, or by a hard-swish.

    Others could compute with it, too, but ONNX Runtime makes integer kernels of pooling, sums and
    products, which refuse more than one scale when they run.
    """
    gates = [node for node in readers if node.op_type == "HardSigmoid"]
    if not gates:
        kinds = {is_depthwise(node) or node.op_type == "HardSwish" for node in readers}
        return kinds == {True}
    others = [node for node in readers if node is not gates[0]]
    return not others or _is_swish(gates[0], others)


def _is_swish(gate: onnx.NodeProto, others: Sequence[onnx.NodeProto]) -> bool:
    return len(others) == 1 and others[0].op_type == "Mul" and gate.output[0] in others[0].input


def _limits(readers: Sequence[onnx.NodeProto]) -> tuple[float, float]:
    """Beyond which no reader cares how large a value is."""
    if all(node.op_type == "HardSwish" for node in readers):
        return -3.0, np.inf
    gates = [node for node in readers if node.op_type == "HardSigmoid"]
    if not gates:
        return -np.inf, np.inf
    low, high = saturation(gates[0])
    return (low, high) if len(readers) == 1 else (low, np.inf)


def channel_ranges(
    model: onnx.ModelProto, tensors: Sequence[str], images: Sequence[np.ndarray]
) -> Mapping[str, Range]:
    """The lowest, at most 0, and the highest x, at least 0, of each channel: [C], [C]."""
    ranges: dict[str, Range] = {}
    for values in Activations(model, tensors, images) if tensors else ():
        for name, value in values.items():
            flat = value.reshape(*value.shape[:2], -1)
            nothing = np.zeros(flat.shape[1])
            low, high = ranges.get(name, (nothing, nothing))
            ranges[name] = (
                np.minimum(low, flat.min(axis=(0, 2))),
                np.maximum(high, flat.max(axis=(0, 2))),
            )
    return ranges


def with_one_zero(low: np.ndarray, high: np.ndarray) -> Range:
    """Widens ranges [C] until 0 is the same of the 256 steps in all: what a layer pads with.

    Of all such steps the one with the finest channels on average, by the logarithm.
    """
    zeros = np.arange(UINT8_STEPS + 1)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        below = np.where(low < 0, -low / zeros, 0.0)
        above = np.where(high > 0, high / (UINT8_STEPS - zeros), 0.0)
    steps = np.maximum(below, above)  # [256, C]
    zero = int(np.argmin(np.log(steps).mean(axis=1)))
    return -zero * steps[zero], (UINT8_STEPS - zero) * steps[zero]
