"""The layers MobileNetV3 and MnasNet share, named as torchvision does."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from paddle.nn.initializer import KaimingNormal

from ppcls_lite.arch.flavours import Flavour
from ppcls_lite.errors import UserError

# The papers' letters for the non-linearity of a row; None is a linear layer.
ACTIVATIONS = {"RE": nn.ReLU, "R6": nn.ReLU6, "HS": nn.Hardswish}


def conv_norm_act(
    in_channels: int,
    out_channels: int,
    kernel: int,
    flavour: Flavour,
    *,
    stride: int = 1,
    groups: int = 1,
    act: str | None = None,
    same: bool = False,
) -> nn.Sequential:
    """Convolution without bias, batch norm and, unless `act` is None, an activation.

    Differs from torch: Paddle's batch norm keeps the biased batch variance in its running
    statistics, torch the unbiased one; n values per channel make them differ by n / (n - 1).
    """
    fan = flavour.conv_fan(kernel, in_channels, out_channels, groups)
    conv = nn.Conv2D(
        in_channels,
        out_channels,
        kernel,
        stride=stride,
        padding="SAME" if same else kernel // 2,
        groups=groups,
        weight_attr=KaimingNormal(fan_in=fan),
        bias_attr=False,
    )
    norm = nn.BatchNorm2D(out_channels, momentum=flavour.bn_momentum, epsilon=flavour.bn_eps)
    return nn.Sequential(conv, norm, *([ACTIVATIONS[act]()] if act else []))


class SqueezeExcite(nn.Layer):
    """Scales each channel by a gate in [0, 1] computed from the means of all channels.

    Args:
        act: activation of the block, for the flavours that use it in here or after the gate.
    """

    def __init__(self, channels: int, squeezed: int, act: str, flavour: Flavour) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2D(1)
        self.fc1 = self._conv(channels, squeezed, flavour)
        self.act = ACTIVATIONS[act if flavour.se_block_act else "RE"]()
        self.fc2 = self._conv(squeezed, channels, flavour)
        self.gate = flavour.se_gate
        self.last_act = ACTIVATIONS[act]() if flavour.se_before_act else nn.Identity()

    @staticmethod
    def _conv(in_channels: int, out_channels: int, flavour: Flavour) -> nn.Conv2D:
        fan = flavour.conv_fan(1, in_channels, out_channels, 1)
        init = flavour.se_init or KaimingNormal(fan_in=fan)
        bias = None if flavour.se_bias else False  # None is Paddle's default, zeros
        return nn.Conv2D(in_channels, out_channels, 1, weight_attr=init, bias_attr=bias)

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W]
        """Returns x with every channel weighted by its gate, float32 [N, C, H, W]."""
        squeezed = self.act(self.fc1(self.pool(x)))  # [N, squeezed, 1, 1]
        gate = self.gate(self.fc2(squeezed))  # [N, C, 1, 1]
        return self.last_act(x * gate)  # [N, C, H, W]


class InvertedResidual(nn.Layer):
    """Expand 1x1, depthwise, squeeze-excite where asked, linear 1x1; a shortcut if shapes allow.

    The expanding convolution is left out when there is nothing to expand, in most flavours.

    Args:
        expanded: channels of the depthwise convolution.
        act: key of ACTIVATIONS, used after the expanding and the depthwise convolution.
        se: squeeze-excite after the depthwise convolution.
        flat: torchvision's MnasNet names its layers `layers.<layer>`, its MobileNetV3
            `block.<stage>.<layer>`; True for the former.
        shortcut: False for a block that has none although its shapes allow one.
        kept: channels that pruning left of `expanded`; None for all. Squeeze-excite still squeezes
            to what the whole block does.

    Raises:
        UserError: `kept` channels cannot be left of `expanded`.
    """

    def __init__(
        self,
        in_channels: int,
        expanded: int,
        out_channels: int,
        kernel: int,
        stride: int,
        act: str,
        flavour: Flavour,
        *,
        se: bool = False,
        flat: bool = False,
        shortcut: bool = True,
        kept: int | None = None,
    ) -> None:
        super().__init__()
        stages: list[nn.Layer] = []
        expands = expanded != in_channels or flavour.always_expand
        channels = expanded if kept is None else kept
        if not 1 < channels <= expanded or (channels < expanded and not expands):
            allowed = f"2 to {expanded}" if expands else f"{expanded}, for it expands nothing"
            raise UserError(
                f"--expanded has {channels} for a block; allowed: {allowed}",
                "change this number, or leave --expanded out",
            )
        if expands:
            stages.append(conv_norm_act(in_channels, channels, 1, flavour, act=act))
        stages.append(
            conv_norm_act(
                channels, channels, kernel, flavour, stride=stride, groups=channels,
                act=None if se and flavour.se_before_act else act, same=flavour.same_depthwise,
            )
        )  # fmt: skip
        if se:
            squeezed = flavour.se_width(in_channels, expanded)
            stages.append(SqueezeExcite(channels, squeezed, act, flavour))
        stages.append(conv_norm_act(channels, out_channels, 1, flavour))
        if flat:
            self.layers = nn.Sequential(*flatten(stages))
        else:
            self.block = nn.Sequential(*stages)
        self.flat = flat
        self.act = act
        self.shortcut = shortcut and stride == 1 and in_channels == out_channels
        self.drop_path = 0.0  # see set_drop_path

    def forward(self, x: Tensor) -> Tensor:  # [N, in_channels, H, W]
        """Returns the block's output, float32 [N, out_channels, ceil(H/stride), ceil(W/stride)]."""
        y = self.layers(x) if self.flat else self.block(x)  # [N, out_channels, H/stride, W/stride]
        if not self.shortcut:
            return y
        if self.drop_path:  # zeroes whole samples and scales the others, in training
            y = F.dropout(y, self.drop_path, axis=0, training=self.training)
        return x + y


def set_drop_path(model: nn.Layer, rate: float) -> None:
    """Makes the shortcut blocks of a model drop samples in training: stochastic depth.

    Deep Networks with Stochastic Depth, Huang et al. 2016. As timm counts: block i of n drops with
    probability rate x i / n; of a MobileNetV3 the last convolution is the last block, of a MnasNet
    the separable convolution behind the stem is the first one.
    """
    blocks = [layer for layer in model.sublayers() if isinstance(layer, InvertedResidual)]
    before, after = model.plain_blocks
    for i, block in enumerate(blocks, start=before):
        block.drop_path = rate * i / (before + len(blocks) + after)


def set_zero_gamma(model: nn.Layer) -> None:
    """Gives the last batch norm of every block with a shortcut a gain of 0.

    Accurate, Large Minibatch SGD, Goyal et al. 2017, section 5.1.
    """
    for block in model.sublayers():
        if isinstance(block, InvertedResidual) and block.shortcut:
            norms = [layer for layer in block.sublayers() if isinstance(layer, nn.BatchNorm2D)]
            norms[-1].weight.set_value(paddle.zeros_like(norms[-1].weight))


def kept_channels(expanded: Sequence[int] | None, blocks: int) -> list[int | None]:
    """What `InvertedResidual.kept` is in each block of a network.

    Raises:
        UserError: `expanded` has another length than the network.
    """
    if expanded is None:
        return [None] * blocks
    if len(expanded) != blocks:
        raise UserError(
            f"--expanded has {len(expanded)} numbers, the model has {blocks} blocks",
            f"give --expanded {blocks} numbers, or leave it out",
        )
    return list(expanded)


def flatten(stages: list[nn.Layer]) -> list[nn.Layer]:
    """The layers of the stages, each `Sequential` replaced by what is in it."""
    return [
        layer
        for stage in stages
        for layer in (stage if isinstance(stage, nn.Sequential) else [stage])
    ]


@contextmanager
def evaluation_mode(model: nn.Layer) -> Iterator[None]:
    """Puts a model into evaluation mode and then each layer back into the mode it was in."""
    modes = [(layer, layer.training) for layer in model.sublayers(include_self=True)]
    model.eval()
    try:
        yield
    finally:
        for layer, training in modes:
            layer.training = training
