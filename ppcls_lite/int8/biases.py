"""Thresholds under which biases fit in 32 bits.

A convolution in int8 adds its bias as int32, in steps of input scale times weight scale. Behind a
tensor that is nearly silent these steps are so small that the bias does not fit any more.
"""

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from ppcls_lite.int8.calibrate import INT8_STEPS, UINT8_STEPS, Threshold
from ppcls_lite.int8.qdq import WEIGHTED_OPS, output_channel_axis, quantize_weights

LARGEST = 2**30  # half of what int32 holds: the other half is for the sum of products


def fit_biases(
    model: onnx.ModelProto,
    thresholds: Mapping[str, Threshold],
    float_layers: Collection[str] = (),
) -> dict[str, Threshold]:
    """Raises the thresholds of inputs whose layers have a bias beyond int32.

    Args:
        model: what `qdq.float_graph` returned.
        thresholds: for each of `qdq.rounded_tensors`.
        float_layers: names of nodes that stay float.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    result = dict(thresholds)
    for node in model.graph.node:
        if node.op_type not in WEIGHTED_OPS:
            continue
        if node.name in float_layers or len(node.input) < 3 or node.input[0] not in result:
            continue
        if node.input[1] not in constants or node.input[2] not in constants:
            continue
        weights, bias = (numpy_helper.to_array(constants[name]) for name in node.input[1:3])
        _, scales = quantize_weights(weights, output_channel_axis(node))
        least = float((np.abs(bias.ravel().astype(np.float64)) / scales).max() / LARGEST)
        result[node.input[0]] = _at_least(result[node.input[0]], least)
    return result


def _at_least(threshold: Threshold, scale: float) -> Threshold:
    """The threshold, or the one above it whose scale is the given one."""
    if not isinstance(threshold, tuple):
        return max(threshold, scale * INT8_STEPS)
    low, high = threshold
    growth = max(1.0, scale * UINT8_STEPS / (high - low))
    return (low * growth, high * growth)
