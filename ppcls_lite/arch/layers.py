"""The layers MobileNetV3 and MnasNet share, named and initialised as torchvision does."""

from dataclasses import dataclass

from paddle import Tensor, nn
from paddle.nn import functional as F
from paddle.nn.initializer import Initializer, KaimingNormal

# The papers' letters for the non-linearity of a row; None is a linear layer.
ACTIVATIONS = {"RE": nn.ReLU, "HS": nn.Hardswish}


@dataclass(frozen=True)
class Flavour:
    """How one source builds layers that share a block table; one row per source in `zoo`.

    A source that differs in something new gets a new field whose default keeps every existing row.

    Args:
        bn_eps: added to the variance inside every batch norm.
        bn_momentum: share of the old running statistics kept at each step; 1 - torch's momentum.
        linear_init: distribution the weights of the linear layers start from.
    """

    bn_eps: float
    bn_momentum: float
    linear_init: Initializer


def make_divisible(channels: float) -> int:
    """Rounds to the nearest multiple of 8 that is at least 8 and not below 90 % of `channels`."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


def conv_norm_act(
    in_channels: int,
    out_channels: int,
    kernel: int,
    flavour: Flavour,
    *,
    stride: int = 1,
    groups: int = 1,
    act: str | None = None,
) -> nn.Sequential:
    """Convolution without bias, batch norm and, unless `act` is None, an activation.

    Differs from torch: Paddle's batch norm keeps the biased batch variance in its running
    statistics, torch the unbiased one; n values per channel make them differ by n / (n - 1).
    """
    conv = nn.Conv2D(
        in_channels,
        out_channels,
        kernel,
        stride=stride,
        padding=kernel // 2,
        groups=groups,
        # fan_out = out_channels * kernel**2, not divided by groups: as torch counts it.
        weight_attr=KaimingNormal(mode="fan_out"),
        bias_attr=False,
    )
    norm = nn.BatchNorm2D(out_channels, momentum=flavour.bn_momentum, epsilon=flavour.bn_eps)
    return nn.Sequential(conv, norm, *([ACTIVATIONS[act]()] if act else []))


def linear(in_features: int, out_features: int, flavour: Flavour) -> nn.Linear:
    """Linear layer with a bias that starts at zero."""
    return nn.Linear(in_features, out_features, weight_attr=flavour.linear_init)


class SqueezeExcite(nn.Layer):
    """Scales each channel by a gate in [0, 1] computed from the means of all channels."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2D(channels, squeezed, 1, weight_attr=KaimingNormal(mode="fan_out"))
        self.fc2 = nn.Conv2D(squeezed, channels, 1, weight_attr=KaimingNormal(mode="fan_out"))

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W]
        squeezed = F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1)))  # [N, squeezed, 1, 1]
        # Paddle's default slope, 0.1666667, is not the paper's relu6(x + 3) / 6.
        gate = F.hardsigmoid(self.fc2(squeezed), slope=1 / 6)  # [N, C, 1, 1]
        return x * gate  # [N, C, H, W]


class InvertedResidual(nn.Layer):
    """Expand 1x1, depthwise, squeeze-excite where asked, linear 1x1; a shortcut if shapes allow.

    The expanding convolution is left out when there is nothing to expand.

    Args:
        expanded: channels of the depthwise convolution.
        act: key of ACTIVATIONS, used after the expanding and the depthwise convolution.
        se: squeeze-excite after the depthwise convolution, to a quarter of its channels.
        flat: torchvision's MnasNet names its layers `layers.<layer>`, its MobileNetV3
            `block.<stage>.<layer>`; True for the former.
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
    ) -> None:
        super().__init__()
        stages = []
        if expanded != in_channels:
            stages.append(conv_norm_act(in_channels, expanded, 1, flavour, act=act))
        stages.append(
            conv_norm_act(
                expanded, expanded, kernel, flavour, stride=stride, groups=expanded, act=act
            )
        )
        if se:
            stages.append(SqueezeExcite(expanded, make_divisible(expanded // 4)))
        stages.append(conv_norm_act(expanded, out_channels, 1, flavour))
        if flat:
            self.layers = nn.Sequential(*(layer for stage in stages for layer in stage))
        else:
            self.block = nn.Sequential(*stages)
        self.flat = flat
        self.shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:  # [N, in_channels, H, W]
        y = self.layers(x) if self.flat else self.block(x)  # [N, out_channels, H/stride, W/stride]
        return x + y if self.shortcut else y
