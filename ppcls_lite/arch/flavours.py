"""What each framework does its own way in layers that share a block table."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import sqrt

from paddle import Tensor
from paddle.nn import functional as F
from paddle.nn.initializer import Initializer, KaimingNormal, KaimingUniform, Normal, XavierUniform

# Channels of a layer at a width: (channels at width 1, width) -> channels.
Width = Callable[[int, float], int]
# What squeeze-excite squeezes to: (channels of the block's input, expanded channels) -> channels.
Squeeze = Callable[[int, int], int]
# (kernel, input channels, output channels, groups) -> fan.
Fan = Callable[[int, int, int, int], int]


def make_divisible(channels: float) -> int:
    """Rounds to the nearest multiple of 8 that is at least 8 and not below 90 % of `channels`."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


def scaled(channels: int, width: float) -> int:
    """The usual rule of a `Width`."""
    return make_divisible(channels * width)


def fixed(channels: int, width: float) -> int:
    """The same channels at every width."""
    return channels


def six_times_scaled(channels: int, width: float) -> int:
    """Six times the last block as scaled: 6 x 32 for the small network at width 0.35."""
    return 6 * scaled(channels, width)


def scaled_six_times(channels: int, width: float) -> int:
    """576 or 960 of the papers, scaled: 200 for the small network at width 0.35."""
    return scaled(6 * channels, width)


def quarter(in_channels: int, expanded: int) -> int:
    """A quarter of the channels that are gated; these are always multiples of 8."""
    return expanded // 4


def quarter_rounded(in_channels: int, expanded: int) -> int:
    """A quarter of the channels that are gated, rounded to a multiple of 8."""
    return make_divisible(expanded // 4)


def fan_out(kernel: int, in_channels: int, out_channels: int, groups: int) -> int:
    """Fan out as torch counts it, not divided by groups."""
    return kernel**2 * out_channels


@dataclass(frozen=True)
class HardSigmoid:
    """The gate clip(slope * x + 0.5, 0, 1)."""

    slope: float

    def __call__(self, x: Tensor) -> Tensor:
        return F.hardsigmoid(x, slope=self.slope)


# relu6(x + 3) / 6; Paddle's default slope, 0.1666667, is not quite a sixth.
PAPER_GATE = HardSigmoid(1 / 6)


@dataclass(frozen=True)
class Flavour:
    """How one source builds layers that share a block table; one per source is below.

    A source that differs in something new gets a new field whose default keeps every existing row.

    Args:
        source: whose it is.
        bn_eps: added to the variance inside every batch norm.
        bn_momentum: share of the old running statistics kept at each step; 1 - torch's momentum.
        linear_init: distribution the weights of the last linear layer start from.
        conv_fan: convolutions start from weights of variance 2 / fan.
        same_stem: pad the stem as TensorFlow does (SAME: as little as the size asks for, more at
            the bottom and right) rather than by kernel // 2 on every side.
        same_depthwise: the same for depthwise convolutions.
        stem_width: channels of the stem at a width.
        expand_rounded: expand the rounded channels of a block's input by the table's factor,
            rather than scale the table's expanded channels by the width.
        always_expand: keep the expanding convolution where there is nothing to expand.
        first_shortcut: let the first block have a shortcut where shapes allow one.
        last_width: channels of the last convolution, from the table's last block, at a width.
        hidden_width: neurons of the hidden layer at a width.
        hidden_bias: give the hidden layer a bias.
        hidden_init: as `linear_init`, for the hidden layer; None is the same distribution.
        dropout: default rate of the dropout before the last linear layer.
        dropout_mode: Paddle's name for where values are scaled: in training, or in inference.
        se_width: channels that squeeze-excite squeezes to.
        se_gate: its gate.
        se_bias: give its two convolutions a bias.
        se_init: as `linear_init`, for its convolutions; None starts them like any other.
        se_block_act: use the block's activation inside it rather than ReLU.
        se_before_act: apply it before the depthwise convolution's activation, not after.
    """

    source: str
    bn_eps: float
    bn_momentum: float
    linear_init: Initializer
    conv_fan: Fan = fan_out
    same_stem: bool = False
    same_depthwise: bool = False
    stem_width: Width = scaled
    expand_rounded: bool = False
    always_expand: bool = False
    first_shortcut: bool = True
    last_width: Width = six_times_scaled
    hidden_width: Width = scaled
    hidden_bias: bool = True
    hidden_init: Initializer | None = None
    dropout: float = 0.2
    dropout_mode: str = "upscale_in_train"
    se_width: Squeeze = quarter_rounded
    se_gate: Callable[[Tensor], Tensor] = PAPER_GATE
    se_bias: bool = True
    se_init: Initializer | None = None
    se_block_act: bool = False
    se_before_act: bool = False


TV_V3 = Flavour(source="torchvision", bn_eps=1e-3, bn_momentum=0.99, linear_init=Normal(std=0.01))
TV_MNASNET = Flavour(
    source="torchvision",
    bn_eps=1e-5,
    bn_momentum=0.9997,
    linear_init=KaimingUniform(mode="fan_out", nonlinearity="sigmoid"),
)

MINDCV = Flavour(
    source="mindcv",
    bn_eps=1e-5,
    bn_momentum=0.9,
    linear_init=Normal(std=0.01),
    same_depthwise=True,
)

PADDLECLAS = Flavour(
    source="ppcls",
    bn_eps=1e-5,
    bn_momentum=0.9,
    # What Paddle does when it is not told: variance 2 / fan in, fan in not divided by groups.
    linear_init=XavierUniform(),
    hidden_init=KaimingNormal(),
    conv_fan=lambda kernel, in_channels, out_channels, groups: kernel**2 * in_channels,
    always_expand=True,
    last_width=scaled_six_times,
    hidden_width=fixed,
    hidden_bias=False,
    dropout_mode="downscale_in_infer",
    se_width=quarter,
    # clip(0.2 x + 0.5), up to 0.083 away from the paper's.
    se_gate=HardSigmoid(0.2),
)

SHOWLO = Flavour(
    source="showlo",
    bn_eps=1e-5,
    bn_momentum=0.9,
    linear_init=Normal(std=0.001),
    hidden_init=KaimingNormal(mode="fan_out"),
    # Scaled twice, in ShowLo's code.
    last_width=lambda channels, width: scaled(scaled_six_times(channels, width), width),
    hidden_width=lambda channels, width: scaled(channels, max(width, 1)),
    hidden_bias=False,
    se_width=quarter,
    se_bias=False,
    se_init=Normal(std=0.001),
    se_before_act=True,
)

TIMM_V3 = Flavour(
    source="timm",
    bn_eps=1e-5,
    bn_momentum=0.9,
    # Uniform within 1 / sqrt(fan out).
    linear_init=KaimingUniform(mode="fan_out", negative_slope=sqrt(5), nonlinearity="leaky_relu"),
    hidden_init=KaimingNormal(mode="fan_out"),
    conv_fan=lambda kernel, in_channels, out_channels, groups: kernel**2 * out_channels // groups,
    stem_width=lambda channels, width: channels if width < 0.75 else scaled(channels, width),
    expand_rounded=True,
    last_width=scaled_six_times,
    hidden_width=fixed,
    dropout=0.0,
)
TIMM_RW = replace(
    TIMM_V3,
    bn_eps=1e-3,
    stem_width=scaled,
    first_shortcut=False,
    hidden_bias=False,
    se_width=quarter,
    se_block_act=True,
)
TIMM_TF_V3 = replace(TIMM_V3, bn_eps=1e-3, same_stem=True, same_depthwise=True)
TIMM_MNASNET = replace(
    TIMM_V3,
    stem_width=scaled,
    se_width=lambda in_channels, expanded: in_channels // 4,
    se_gate=F.sigmoid,
)
TIMM_TF_LITE = replace(
    TIMM_MNASNET,
    bn_eps=1e-3,
    stem_width=fixed,
    same_stem=True,
    same_depthwise=True,
)
