"""MobileNetV3: Searching for MobileNetV3, Howard et al. 2019, arXiv 1905.02244."""

from typing import NamedTuple

from paddle import Tensor, nn

from ppcls_lite.arch.layers import (
    Flavour,
    InvertedResidual,
    conv_norm_act,
    linear,
    make_divisible,
)


class Block(NamedTuple):
    """One `bneck` row of the paper; channel counts at width 1."""

    kernel: int
    expanded: int
    out: int
    se: bool
    act: str
    stride: int


class V3Table(NamedTuple):
    """The rows between the stem and the last convolution, and the width of the hidden layer."""

    blocks: tuple[Block, ...]
    head: int


# fmt: off
# Paper, table 1.
LARGE = V3Table(head=1280, blocks=(
    #     kernel  exp  out     se    nl  stride
    Block(3,       16,  16, False, "RE", 1),
    Block(3,       64,  24, False, "RE", 2),
    Block(3,       72,  24, False, "RE", 1),
    Block(5,       72,  40, True,  "RE", 2),
    Block(5,      120,  40, True,  "RE", 1),
    Block(5,      120,  40, True,  "RE", 1),
    Block(3,      240,  80, False, "HS", 2),
    Block(3,      200,  80, False, "HS", 1),
    Block(3,      184,  80, False, "HS", 1),
    Block(3,      184,  80, False, "HS", 1),
    Block(3,      480, 112, True,  "HS", 1),
    Block(3,      672, 112, True,  "HS", 1),
    Block(5,      672, 160, True,  "HS", 2),
    Block(5,      960, 160, True,  "HS", 1),
    Block(5,      960, 160, True,  "HS", 1),
))

# Paper, table 2.
SMALL = V3Table(head=1024, blocks=(
    #     kernel  exp  out     se    nl  stride
    Block(3,       16,  16, True,  "RE", 2),
    Block(3,       72,  24, False, "RE", 2),
    Block(3,       88,  24, False, "RE", 1),
    Block(5,       96,  40, True,  "HS", 2),
    Block(5,      240,  40, True,  "HS", 1),
    Block(5,      240,  40, True,  "HS", 1),
    Block(5,      120,  48, True,  "HS", 1),
    Block(5,      144,  48, True,  "HS", 1),
    Block(5,      288,  96, True,  "HS", 2),
    Block(5,      576,  96, True,  "HS", 1),
    Block(5,      576,  96, True,  "HS", 1),
))
# fmt: on


class MobileNetV3(nn.Layer):
    """Images [N, 3, H, W] float32 to logits [N, num_classes].

    `width` scales the stem, the blocks, the last convolution and the hidden layer of the head;
    each is rounded to a multiple of 8 (torchvision's rule).
    """

    def __init__(
        self, table: V3Table, width: float, num_classes: int, dropout: float, flavour: Flavour
    ) -> None:
        super().__init__()
        channels = make_divisible(16 * width)
        features: list[nn.Layer] = [conv_norm_act(3, channels, 3, flavour, stride=2, act="HS")]
        for row in table.blocks:
            out = make_divisible(row.out * width)
            features.append(
                InvertedResidual(
                    channels,
                    make_divisible(row.expanded * width),
                    out,
                    row.kernel,
                    row.stride,
                    row.act,
                    flavour,
                    se=row.se,
                )
            )
            channels = out
        last = 6 * channels
        features.append(conv_norm_act(channels, last, 1, flavour, act="HS"))
        self.features = nn.Sequential(*features)
        self.avgpool = nn.AdaptiveAvgPool2D(1)
        hidden = make_divisible(table.head * width)
        self.classifier = nn.Sequential(
            linear(last, hidden, flavour),
            nn.Hardswish(),
            nn.Dropout(dropout),
            linear(hidden, num_classes, flavour),
        )

    def forward(self, x: Tensor) -> Tensor:  # [N, 3, H, W]
        x = self.features(x)  # [N, C, H/32, W/32]
        x = self.avgpool(x).squeeze([2, 3])  # [N, C]
        return self.classifier(x)  # [N, K]
