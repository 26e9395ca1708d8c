"""Graphs of `qdq` in Paddle, with gradients, float or with int8 written into them."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import onnx
import paddle
import paddle.nn.functional as F
from onnx import helper, numpy_helper
from paddle import Tensor
from paddle.autograd import PyLayer

from ppcls_lite.errors import UserError
from ppcls_lite.int8.calibrate import UINT8_STEPS

Attributes: TypeAlias = Mapping[str, Any]


class PaddleGraph:
    """Computes what ONNX Runtime does with a graph, and gradients besides.

    Gradients pass through the rounding of QuantizeLinear as if nothing was rounded, and are 0 for
    values that are clipped before it.

    Args:
        model: what `float_graph` or `insert_qdq` returned.

    Raises:
        UserError: the graph has an operator that is not in OPERATORS.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            if node.op_type not in OPERATORS:
                raise UserError(
                    f"{node.name}: {node.op_type} cannot be trained, only {', '.join(OPERATORS)}",
                    "leave the technique train out",
                )
        self._nodes = [
            (node, {a.name: helper.get_attribute_value(a) for a in node.attribute})
            for node in model.graph.node
        ]
        self._constants = {
            tensor.name: paddle.to_tensor(numpy_helper.to_array(tensor))
            for tensor in model.graph.initializer
        }
        self._input, self._output = model.graph.input[0].name, model.graph.output[0].name

    def __call__(self, images: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        """float32 [N, 3, H, W] -> logits [N, K].

        Args:
            images: of any number, whatever the graph says.
            given: tensors that are not computed, or read from the graph, but taken from here.
        """
        values = {**self._constants, **given, self._input: images}
        for node, attributes in self._nodes:
            name = node.output[0]
            if name not in given:
                inputs = [values[source] if source else None for source in node.input]
                values[name] = OPERATORS[node.op_type](attributes, *inputs)
        return values[self._output]


def _conv(attributes: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    strides, dilations = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    pads = list(attributes.get("pads", [0, 0, 0, 0]))
    if attributes.get("auto_pad", b"NOTSET") == b"SAME_UPPER":
        pads = _same(x.shape[2:], weight.shape[2:], strides, dilations)
    top, left, bottom, right = pads
    return F.conv2d(
        x, weight, bias, strides, [top, bottom, left, right], dilations, attributes.get("group", 1)
    )


def _same(size: list[int], kernel: list[int], strides: list[int], dilations: list[int]) -> list:
    """Padding such that a side of n gives ceil(n / stride): top, left, bottom, right."""
    totals = [
        max(0, (-(-n // step) - 1) * step + (k - 1) * dilation + 1 - n)
        for n, k, step, dilation in zip(size, kernel, strides, dilations, strict=True)
    ]
    return [total // 2 for total in totals] + [total - total // 2 for total in totals]


def _gemm(attributes: Attributes, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return paddle.matmul(x, weight, transpose_y=bool(attributes.get("transB", 0))) + bias


def _pad(_: Attributes, x: Tensor, edges: Tensor) -> Tensor:
    top, left, bottom, right = (edges.tolist()[i] for i in (2, 3, 6, 7))
    return F.pad(x, [left, right, top, bottom])


def _hard_sigmoid(attributes: Attributes, x: Tensor) -> Tensor:
    return F.hardsigmoid(x, attributes.get("alpha", 0.2), attributes.get("beta", 0.5))


class _Round(PyLayer):
    """x / scale as whole numbers, still float32. There are a hundred of them: few passes count."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor) -> Tensor:
        """The scale is one value, or goes with the shape of x."""
        ctx.save_for_backward(scale)
        return (x / scale).round_()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """As if nothing had been rounded; none for the scale."""
        (scale,) = ctx.saved_tensor()
        return gradient / scale, None


def _along(attributes: Attributes, vector: Tensor, x: Tensor) -> Tensor:
    """A scale or zero point for all, or one for each channel of x, as it multiplies x."""
    if not vector.shape:
        return vector
    return vector.reshape([-1 if i == attributes["axis"] else 1 for i in range(x.ndim)])


def _quantize(attributes: Attributes, x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    scale, zero = _along(attributes, scale, x), _along(attributes, zero, x)
    steps = _Round.apply(x, scale)
    if zero.dtype == paddle.uint8:
        return paddle.clip(steps + zero.astype("float32"), 0, UINT8_STEPS)
    return steps  # its zero point is 0, and a Clip to +-127 steps stands before it


def _dequantize(attributes: Attributes, steps: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    scale, zero = _along(attributes, scale, steps), _along(attributes, zero, steps)
    if zero.dtype == paddle.uint8:
        steps = steps - zero.astype("float32")
    return steps * scale


OPERATORS: dict[str, Callable[..., Tensor]] = {
    "Add": lambda _, x, y: x + y,
    "Clip": lambda _, x, low, high: paddle.clip(x, low, high),
    "Conv": _conv,
    "DequantizeLinear": _dequantize,
    "Flatten": lambda _, x: paddle.flatten(x, 1),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda _, x: F.adaptive_avg_pool2d(x, 1),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda _, x: F.hardswish(x),
    "MatMul": lambda _, x, y: paddle.matmul(x, y),
    "Mul": lambda _, x, y: x * y,
    "Pad": _pad,
    "QuantizeLinear": _quantize,
    "Relu": lambda _, x: F.relu(x),
    "Sigmoid": lambda _, x: F.sigmoid(x),
    "Squeeze": lambda _, x, axes: paddle.squeeze(x, axes.tolist()),
}
