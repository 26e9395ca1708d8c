"""Weight scales with which biases fit in 32 bits."""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from ppcls_lite.int8.calibrate import INT8_STEPS, UINT8_STEPS, Threshold

LARGEST = 2**30  # half of what int32 holds: the other half is for the sum of products


def least_scales(
    node: onnx.NodeProto,
    constants: Mapping[str, onnx.TensorProto],
    thresholds: Mapping[str, Threshold],
) -> np.ndarray | float:
    """Weight scales [channels] from which on the biases of a node fit in 32 bits.

    Hardware adds a bias as int32, in steps of input scale times weight scale. These are too small
    behind a tensor that is nearly silent, and in a channel whose weights are, of which trained
    networks have some. What such a channel computes is its bias, so that a larger scale of its own
    costs it nothing, while a larger one of the input would cost every channel. As ONNX Runtime's
    quantizer does.
    """
    known = len(node.input) > 2 and node.input[0] in thresholds and node.input[2] in constants
    if not known:
        return 0.0
    bias = numpy_helper.to_array(constants[node.input[2]]).ravel().astype(np.float64)
    return np.abs(bias) / (step_of(thresholds[node.input[0]]).astype(np.float64) * LARGEST)


def step_of(threshold: Threshold) -> np.ndarray:
    """The scale that a threshold stands for, float32 [] or, one for each channel, [C]."""
    if isinstance(threshold, tuple):
        return np.asarray((threshold[1] - threshold[0]) / UINT8_STEPS, np.float32)
    return np.asarray(threshold, np.float32) / np.float32(INT8_STEPS)
