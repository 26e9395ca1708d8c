"""Quantization-aware training: every convolution and linear layer computes as in 8 bits.

Activations: PACT: Parameterized Clipping Activation for Quantized Neural Networks, Choi et al.
2018, arXiv 1805.06085. Weights: symmetric, one scale per output channel. Gradients pass through the
rounding.
"""

from collections.abc import Collection
from typing import Any

import paddle
import paddle.distributed as dist
import paddle.nn.functional as F
from paddle import Tensor, nn

from ppcls_lite.arch.units import units

# int8, as QuantizeLinear of ONNX has it: a threshold is 127 steps, the lowest value -128.
LOWEST, HIGHEST = -128, 127
TINY = 1e-8  # a scale is never 0
# What `quant_skip` may name, and the roles of the layers it means.
SKIPPED_ROLES = {"se": ("reduce", "restore"), "first": ("stem",), "last": ("classifier",)}


def round_through(x: Tensor) -> Tensor:
    """Rounds halves to even, as numpy and ONNX do; the gradient passes as if nothing was rounded.

    The sum is exact: within 2^23 the difference of a number to its nearest integer is a float.
    """
    return x + (paddle.round(x) - x).detach()


def quantize_weight(weight: Tensor, axis: int) -> Tensor:
    """Rounds weights to 127 steps on either side of 0, up to the largest along `axis`."""
    scale = weight_scale(weight, axis)
    return round_through(weight / scale) * scale


def weight_scale(weight: Tensor, axis: int) -> Tensor:
    """Size of a step for each index along `axis`; 1 in the other dimensions, without gradient."""
    others = [d for d in range(weight.ndim) if d != axis]
    return (weight.detach().abs().max(others, keepdim=True) / HIGHEST).clip(min=TINY)


def quantize_activation(x: Tensor, alpha: Tensor) -> Tensor:
    """Clips to `alpha` and rounds to steps of alpha / 127.

    The gradient to `alpha` is the paper's, 1 for every value clipped to it.
    Differs from the paper: signed, because blocks end linearly and h-swish goes below zero; what
    is clipped below, to -128 steps, has the gradient -128/127.

    Args:
        x: any shape.
        alpha: the threshold, [1].
    """
    alpha = alpha.clip(min=TINY)
    scale = alpha.detach() / HIGHEST
    lowest = alpha * (LOWEST / HIGHEST)
    # Not `minimum`: what is equal to the threshold counts as clipped, and gives alpha the gradient.
    clipped = paddle.where(x >= alpha, alpha, paddle.where(x <= lowest, lowest, x))
    return round_through(clipped / scale) * scale


class _Pact(nn.Layer):
    """What both kinds of layers have: `alpha`, 0 until the first batch in training sets it.

    That batch sets it to its largest absolute value, over all processes.
    Differs from PaddleSlim: there alpha starts at 20 and only clips, and a moving average of the
    largest values makes the scale; here, as in the paper, alpha is the range.
    """

    alpha: Tensor
    channel_axis: int  # of the outputs in `weight`

    def _take_over(self, layer: Any) -> None:
        self.weight, self.bias = layer.weight, layer.bias
        zero = nn.initializer.Constant(0.0)
        self.alpha = self.create_parameter([1], default_initializer=zero)
        self._asked = False  # whether the first batch has been seen

    def _quantized(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns input and weight as in 8 bits."""
        if self.training and not self._asked:
            self._asked = True
            if self.alpha.item() == 0:
                self._start(x.detach())
        return (
            quantize_activation(x, self.alpha),
            quantize_weight(self.weight, self.channel_axis),
        )

    def _start(self, x: Tensor) -> None:
        largest = x.abs().max().astype("float32").reshape([1])
        if dist.is_initialized():
            dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        self.alpha.set_value(largest)


class PactConv2D(_Pact, nn.Conv2D):
    """A convolution of 8-bit values with 8-bit weights; parameters of a plain one, and `alpha`."""

    channel_axis = 0

    def __init__(self, conv: nn.Conv2D) -> None:
        super().__init__(
            conv._in_channels,
            conv._out_channels,
            conv._kernel_size,
            stride=conv._stride,
            padding=conv._padding,
            dilation=conv._dilation,
            groups=conv._groups,
            bias_attr=False,
        )
        self._take_over(conv)

    def forward(self, x: Tensor) -> Tensor:
        """Float [N, C, H, W] to [N, O, H/stride, W/stride], by way of 8-bit values."""
        x, weight = self._quantized(x)
        return convolve(self, x, weight, self.bias)


class PactLinear(_Pact, nn.Linear):
    """A linear layer of 8-bit values with 8-bit weights; parameters of a plain one, and `alpha`."""

    channel_axis = 1

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(*linear.weight.shape, bias_attr=False)
        self._take_over(linear)

    def forward(self, x: Tensor) -> Tensor:
        """Float [N, in] to [N, out], by way of 8-bit values."""
        x, weight = self._quantized(x)
        return F.linear(x, weight, self.bias)


def convolve(conv: nn.Conv2D, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolves with the stride, padding and groups of `conv`."""
    return F.conv2d(x, weight, bias, conv._stride, conv._padding, conv._dilation, conv._groups)


def quantize(model: nn.Layer, skip: Collection[str]) -> None:
    """Replaces the layers of one of our networks by those that compute as in 8 bits.

    Weights stay where they are, under their names; each layer gets a threshold `alpha` beside them.

    Args:
        skip: keys of SKIPPED_ROLES, the layers to leave in float.
    """
    skipped = [role for word in skip for role in SKIPPED_ROLES[word]]
    layers = dict(model.named_sublayers())
    for unit in units(model):
        layer = layers[unit.ours]
        if not unit.part and unit.role not in skipped:
            replaced = PactConv2D(layer) if isinstance(layer, nn.Conv2D) else PactLinear(layer)
            replace_layer(model, unit.ours, replaced)


def replace_layer(model: nn.Layer, name: str, layer: nn.Layer) -> None:
    """Puts `layer` where the sub-layer `name` is (`features.0.1`)."""
    parent, _, own = name.rpartition(".")
    holder = dict(model.named_sublayers(include_self=True))[parent]
    setattr(holder, own, layer)
