"""MnasNet: Platform-Aware Neural Architecture Search, Tan et al. 2018, arXiv 1807.11626."""

from typing import NamedTuple

from paddle import Tensor, nn

from ppcls_lite.arch.layers import (
    Flavour,
    InvertedResidual,
    conv_norm_act,
    linear,
    make_divisible,
)


class Stage(NamedTuple):
    """`repeats` equal blocks, of which only the first has the stride; channels at depth 1."""

    kernel: int
    expansion: int
    out: int
    repeats: int
    stride: int


class MnasTable(NamedTuple):
    """Channels of the stem and of the separable block after it, then the stages."""

    stem: int
    separable: int
    stages: tuple[Stage, ...]


# fmt: off
# The variant without squeeze-excite, which its authors call B1.
B1 = MnasTable(stem=32, separable=16, stages=(
    #     kernel  expansion  out  repeats  stride
    Stage(3,      3,          24, 3,       2),
    Stage(5,      3,          40, 3,       2),
    Stage(5,      6,          80, 3,       2),
    Stage(3,      6,          96, 2,       1),
    Stage(5,      6,         192, 4,       2),
    Stage(3,      6,         320, 1,       1),
))
# fmt: on

HEAD = 1280  # the same at every width


class MNASNet(nn.Layer):
    """Images [N, 3, H, W] float32 to logits [N, num_classes].

    `width` (torchvision: alpha, the paper: depth multiplier) scales every layer but the last
    convolution, rounded to multiples of 8.
    """

    def __init__(
        self, table: MnasTable, width: float, num_classes: int, dropout: float, flavour: Flavour
    ) -> None:
        super().__init__()
        stem = make_divisible(table.stem * width)
        separable = make_divisible(table.separable * width)
        stages, channels = [], separable
        for row in table.stages:
            out = make_divisible(row.out * width)
            stages.append(_stage(row, channels, out, flavour))
            channels = out
        self.layers = nn.Sequential(
            *conv_norm_act(3, stem, 3, flavour, stride=2, act="RE"),
            *conv_norm_act(stem, stem, 3, flavour, groups=stem, act="RE"),
            *conv_norm_act(stem, separable, 1, flavour),
            *stages,
            *conv_norm_act(channels, HEAD, 1, flavour, act="RE"),
        )
        self.avgpool = nn.AdaptiveAvgPool2D(1)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            linear(HEAD, num_classes, flavour),
        )

    def forward(self, x: Tensor) -> Tensor:  # [N, 3, H, W]
        x = self.layers(x)  # [N, 1280, H/32, W/32]
        x = self.avgpool(x).squeeze([2, 3])  # [N, 1280]
        return self.classifier(x)  # [N, K]


def _stage(row: Stage, in_channels: int, out_channels: int, flavour: Flavour) -> nn.Sequential:
    blocks = []
    for i in range(row.repeats):
        channels, stride = (in_channels, row.stride) if i == 0 else (out_channels, 1)
        expanded = channels * row.expansion
        blocks.append(
            InvertedResidual(
                channels, expanded, out_channels, row.kernel, stride, "RE", flavour, flat=True
            )
        )
    return nn.Sequential(*blocks)
