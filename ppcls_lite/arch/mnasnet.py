"""MnasNet: Platform-Aware Neural Architecture Search, Tan et al. 2018, arXiv 1807.11626."""

from collections.abc import Sequence
from typing import NamedTuple

from paddle import Tensor, nn

from ppcls_lite.arch.flavours import Flavour, make_divisible
from ppcls_lite.arch.layers import (
    InvertedResidual,
    conv_norm_act,
    flatten,
    kept_channels,
)


class Stage(NamedTuple):
    """`repeats` equal blocks, of which only the first has the stride; channels at width 1."""

    kernel: int
    expansion: int
    out: int
    repeats: int
    stride: int
    se: bool = False


class MnasTable(NamedTuple):
    """Channels of the stem and of the separable block after it, then the stages.

    The separable block has no shortcut. Where a source gives it one, `separable` is None and the
    block is the first stage, with expansion 1.
    """

    stem: int
    separable: int | None
    stages: tuple[Stage, ...]
    act: str = "RE"
    stem_stride: int = 2


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

# The variant with squeeze-excite, which its authors call A1.
A1 = MnasTable(stem=32, separable=16, stages=(
    #     kernel  expansion  out  repeats  stride  se
    Stage(3,      6,          24, 2,       2),
    Stage(5,      3,          40, 3,       2,      True),
    Stage(3,      6,          80, 4,       2),
    Stage(3,      6,         112, 2,       1,      True),
    Stage(5,      6,         160, 3,       2,      True),
    Stage(3,      6,         320, 1,       1),
))

# The small variant of its authors' released code; not in the paper.
SMALL = MnasTable(stem=8, separable=None, stages=(
    #     kernel  expansion  out  repeats  stride  se
    Stage(3,      1,           8, 1,       1),
    Stage(3,      3,          16, 1,       2),
    Stage(3,      6,          16, 2,       2),
    Stage(5,      6,          32, 4,       2,      True),
    Stage(3,      6,          32, 3,       1,      True),
    Stage(5,      6,          88, 3,       2,      True),
    Stage(3,      6,         144, 1,       1),
))

# EfficientNet-Lite0: MnasNet's blocks with another search's numbers and ReLU6.
LITE0 = MnasTable(stem=32, separable=16, act="R6", stages=(
    #     kernel  expansion  out  repeats  stride
    Stage(3,      6,          24, 2,       2),
    Stage(5,      6,          40, 2,       2),
    Stage(3,      6,          80, 3,       2),
    Stage(5,      6,         112, 3,       1),
    Stage(5,      6,         192, 4,       2),
    Stage(3,      6,         320, 1,       1),
))
# fmt: on

HEAD = 1280  # the same at every width


class MNASNet(nn.Layer):
    """Images [N, 3, H, W] float32 to logits [N, num_classes].

    `width` (torchvision: alpha, the paper: depth multiplier) scales every layer but the last
    convolution, rounded to multiples of 8. `expanded` is what pruning left of the blocks, see
    `InvertedResidual.kept`; the separable block is none of them.
    """

    def __init__(
        self,
        table: MnasTable,
        width: float,
        num_classes: int,
        dropout: float,
        flavour: Flavour,
        expanded: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        kept = kept_channels(expanded, sum(row.repeats for row in table.stages))
        self.table, self.flavour = table, flavour
        act = table.act
        channels = flavour.stem_width(table.stem, width)
        parts: list[nn.Layer] = [
            conv_norm_act(
                3, channels, 3, flavour, stride=table.stem_stride, act=act, same=flavour.same_stem
            )
        ]
        if table.separable is not None:
            out = make_divisible(table.separable * width)
            parts += [
                conv_norm_act(channels, channels, 3, flavour, groups=channels, act=act),
                conv_norm_act(channels, out, 1, flavour),
            ]
            channels = out
        parts = flatten(parts)
        for row in table.stages:
            out = make_divisible(row.out * width)
            parts.append(_stage(row, channels, out, act, flavour, kept[: row.repeats]))
            channels, kept = out, kept[row.repeats :]
        parts += conv_norm_act(channels, HEAD, 1, flavour, act=act)
        self.layers = nn.Sequential(*parts)
        self.plain_blocks = (int(table.separable is not None), 0)  # before and after the others
        self.avgpool = nn.AdaptiveAvgPool2D(1)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout, mode=flavour.dropout_mode),
            nn.Linear(HEAD, num_classes, weight_attr=flavour.linear_init),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Normalised pictures [N, 3, H, W] to logits [N, K], both float."""
        x = self.layers(x)  # [N, 1280, H/32, W/32]
        x = self.avgpool(x).squeeze([2, 3])  # [N, 1280]
        return self.classifier(x)  # [N, K]


def _stage(
    row: Stage,
    in_channels: int,
    out_channels: int,
    act: str,
    flavour: Flavour,
    kept: Sequence[int | None],
) -> nn.Sequential:
    blocks = []
    for i in range(row.repeats):
        channels, stride = (in_channels, row.stride) if i == 0 else (out_channels, 1)
        blocks.append(
            InvertedResidual(
                channels,
                channels * row.expansion,
                out_channels,
                row.kernel,
                stride,
                act,
                flavour,
                se=row.se,
                flat=True,
                kept=kept[i],
            )
        )
    return nn.Sequential(*blocks)
