"""MobileNetV3: Searching for MobileNetV3, Howard et al. 2019, arXiv 1905.02244."""

from collections.abc import Sequence
from typing import NamedTuple

from paddle import Tensor, nn

from ppcls_lite.arch.flavours import Flavour, make_divisible
from ppcls_lite.arch.layers import (
    ACTIVATIONS,
    InvertedResidual,
    conv_norm_act,
    kept_channels,
)


class Bneck(NamedTuple):
    """One `bneck` row of the paper; channel counts at width 1."""

    kernel: int
    expanded: int
    out: int
    se: bool
    act: str
    stride: int


class V3Table(NamedTuple):
    """The rows between the stem and the last convolution, and the width of the hidden layer.

    `act` is the non-linearity of the stem, the last convolution and the hidden layer.
    """

    blocks: tuple[Bneck, ...]
    head: int
    act: str = "HS"
    stem_stride: int = 2


# fmt: off
# Paper, table 1.
LARGE = V3Table(head=1280, blocks=(
    #     kernel  exp  out     se    nl  stride
    Bneck(3,       16,  16, False, "RE", 1),
    Bneck(3,       64,  24, False, "RE", 2),
    Bneck(3,       72,  24, False, "RE", 1),
    Bneck(5,       72,  40, True,  "RE", 2),
    Bneck(5,      120,  40, True,  "RE", 1),
    Bneck(5,      120,  40, True,  "RE", 1),
    Bneck(3,      240,  80, False, "HS", 2),
    Bneck(3,      200,  80, False, "HS", 1),
    Bneck(3,      184,  80, False, "HS", 1),
    Bneck(3,      184,  80, False, "HS", 1),
    Bneck(3,      480, 112, True,  "HS", 1),
    Bneck(3,      672, 112, True,  "HS", 1),
    Bneck(5,      672, 160, True,  "HS", 2),
    Bneck(5,      960, 160, True,  "HS", 1),
    Bneck(5,      960, 160, True,  "HS", 1),
))

# Paper, table 2.
SMALL = V3Table(head=1024, blocks=(
    #     kernel  exp  out     se    nl  stride
    Bneck(3,       16,  16, True,  "RE", 2),
    Bneck(3,       72,  24, False, "RE", 2),
    Bneck(3,       88,  24, False, "RE", 1),
    Bneck(5,       96,  40, True,  "HS", 2),
    Bneck(5,      240,  40, True,  "HS", 1),
    Bneck(5,      240,  40, True,  "HS", 1),
    Bneck(5,      120,  48, True,  "HS", 1),
    Bneck(5,      144,  48, True,  "HS", 1),
    Bneck(5,      288,  96, True,  "HS", 2),
    Bneck(5,      576,  96, True,  "HS", 1),
    Bneck(5,      576,  96, True,  "HS", 1),
))
# fmt: on


def minimal(table: V3Table) -> V3Table:
    """The table without what is slow on some devices: 3x3 kernels, ReLU, no squeeze-excite.

    The "minimalistic" networks of the paper's authors' released code.
    """
    blocks = tuple(row._replace(kernel=3, se=False, act="RE") for row in table.blocks)
    return V3Table(blocks, table.head, act="RE")


class MobileNetV3(nn.Layer):
    """Images [N, 3, H, W] float32 to logits [N, num_classes].

    `width` scales the blocks and, as the flavour wants it, the stem, the last convolution and the
    hidden layer of the head; each is rounded to a multiple of 8. `expanded` is what pruning left of
    the blocks, see `InvertedResidual.kept`.
    """

    def __init__(
        self,
        table: V3Table,
        width: float,
        num_classes: int,
        dropout: float,
        flavour: Flavour,
        expanded: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        kept = kept_channels(expanded, len(table.blocks))
        self.table, self.flavour = table, flavour
        act = table.act
        channels = flavour.stem_width(16, width)
        features: list[nn.Layer] = [
            conv_norm_act(
                3, channels, 3, flavour, stride=table.stem_stride, act=act, same=flavour.same_stem
            )
        ]
        table_in = 16
        for i, row in enumerate(table.blocks):
            full = (
                make_divisible(channels * row.expanded / table_in)
                if flavour.expand_rounded
                else make_divisible(row.expanded * width)
            )
            out = make_divisible(row.out * width)
            features.append(
                InvertedResidual(
                    channels, full, out, row.kernel, row.stride, row.act, flavour,
                    se=row.se, shortcut=i > 0 or flavour.first_shortcut, kept=kept[i],
                )
            )  # fmt: skip
            channels, table_in = out, row.out
        last = flavour.last_width(table.blocks[-1].out, width)
        features.append(conv_norm_act(channels, last, 1, flavour, act=act))
        self.features = nn.Sequential(*features)
        self.plain_blocks = (0, 1)  # before and after the inverted residuals
        self.avgpool = nn.AdaptiveAvgPool2D(1)
        hidden = flavour.hidden_width(table.head, width)
        self.classifier = nn.Sequential(
            nn.Linear(
                last,
                hidden,
                weight_attr=flavour.hidden_init or flavour.linear_init,
                bias_attr=None if flavour.hidden_bias else False,  # None: zeros
            ),
            ACTIVATIONS[act](),
            nn.Dropout(dropout, mode=flavour.dropout_mode),
            nn.Linear(hidden, num_classes, weight_attr=flavour.linear_init),
        )

    def forward(self, x: Tensor) -> Tensor:  # [N, 3, H, W]
        """Returns the logits of normalised pictures, float32 [N, K]."""
        x = self.features(x)  # [N, C, H/32, W/32]
        x = self.avgpool(x).squeeze([2, 3])  # [N, C]
        return self.classifier(x)  # [N, K]
