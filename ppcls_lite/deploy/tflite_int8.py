"""What of an int8 ONNX graph TFLite computes in integers, and with which steps.

The graph says where it rounds, by pairs of QuantizeLinear and DequantizeLinear. An operator whose
inputs and whose output are rounded becomes one of integers; all others stay in float, between
DEQUANTIZE and QUANTIZE. So a file may hold any mixture that the quantizer has chosen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from ppcls_lite.int8.qdq import WEIGHTED_OPS

# By operator, the smallest and the largest factor between the steps of what it reads and makes:
# XNNPACK refuses a whole file with another one.
FACTORS = {"Conv": (2.0**-32, 256.0), "Gemm": (2.0**-32, 256.0), "MatMul": (2.0**-32, 256.0),
           "Add": (2.0**-10, 256.0), "Mul": (2.0**-16, 256.0),
           "GlobalAveragePool": (2.0**-32, 256.0), "HardSwish": (2.0**-8, 128.0)}  # fmt: skip
SAME_VALUES = ("Identity", "Flatten", "Reshape", "Squeeze")
SIGNED = 128  # a uint8 of the graph is an int8 of the file and so much


@dataclass(frozen=True)
class Steps:
    """Of a tensor in integers: value = scale * (integer - zero) + offset.

    Attributes:
        zero: of int8.
        offset: what a layer has added for `zero` in the graph, and must not in the file.
    """

    scale: float
    zero: int
    offset: float = 0.0


@dataclass(frozen=True)
class Weights:
    """A layer's weights: float32, or int8 with the scale of each output channel, float32 [O]."""

    values: np.ndarray
    scales: np.ndarray | None


class Int8Graph:
    """An ONNX graph by what it says of rounding.

    Args:
        model: float, or of `quantize.folding.fold_channel_steps`.
        constants: its initializers, by name.
        readers: of each tensor.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        constants: Mapping[str, np.ndarray],
        readers: Mapping[str, Sequence[onnx.NodeProto]],
    ) -> None:
        self.constants, self.readers = constants, readers
        self.makers = {name: node for node in model.graph.node for name in node.output}

    def weights(self, node: onnx.NodeProto) -> Weights:
        """The weights of a layer, as they stand in the graph."""
        name = node.input[1]
        if name in self.constants:
            return Weights(self.constants[name], None)
        maker = self.makers[name]
        return Weights(self.constants[maker.input[0]], self.constants[maker.input[1]])

    def steps_of(self, quantize: onnx.NodeProto) -> Steps:
        """The steps in which a QuantizeLinear ends.

        Several scales are a factor before it and, where the zero points differ, an addition.
        """
        scale, zero = self.pair(quantize)
        if scale.ndim:
            return Steps(1.0, -SIGNED if np.ptp(zero) else int(zero[0]) - SIGNED)
        (back,) = self.readers[quantize.output[0]]
        step, own = float(scale), int(zero)
        read = self.pair(back)[1]
        if read.ndim or int(read) == own:
            return Steps(step, own - SIGNED)
        return Steps(step, int(read) - SIGNED, step * (int(read) - own))

    def pair(self, node: onnx.NodeProto) -> tuple[np.ndarray, np.ndarray]:
        """The scales and zero points of a QuantizeLinear or DequantizeLinear, [] or [C]."""
        return self.constants[node.input[1]], self.constants[node.input[2]]

    def ends_in(self, name: str) -> Steps | None:
        """The steps of a tensor that is read by one QuantizeLinear only; through a reshape, too."""
        readers = self.readers.get(name, ())
        if len(readers) != 1:
            return None
        if readers[0].op_type in SAME_VALUES:
            return self.ends_in(readers[0].output[0])
        if readers[0].op_type != "QuantizeLinear" or self.pair(readers[0])[0].ndim:
            return None
        return self.steps_of(readers[0])

    def integers(
        self, node: onnx.NodeProto, last: onnx.NodeProto, inputs: Sequence[Steps | None]
    ) -> Steps | None:
        """The steps of what an operator makes, if integers can make it.

        Args:
            node: the operator.
            last: itself, or the activation that is computed with it.
            inputs: of each of its inputs that are no weights; None where it is in float.
        """
        made, known = self.ends_in(last.output[0]), [steps for steps in inputs if steps]
        if node.op_type not in FACTORS or made is None or len(known) < len(inputs):
            return None
        read = np.asarray([steps.scale for steps in known])
        if node.op_type in WEIGHTED_OPS:
            scales = self.weights(node).scales
            if scales is None:
                return None
            read = read[0] * scales
        elif made.offset:
            return None
        elif node.op_type == "Mul":
            read = np.prod(read)
        low, high = FACTORS[node.op_type]
        factors = read / made.scale
        return made if low <= np.min(factors) and np.max(factors) < high else None
