"""The layers of our networks by their role, so that other frameworks' names can be told."""

from dataclasses import dataclass
from itertools import groupby

from paddle import nn

from ppcls_lite.arch.mobilenet_v3 import MobileNetV3


@dataclass(frozen=True)
class BlockRole:
    """Where a block stands and what it has.

    Attributes:
        index: among all blocks, from 0; MnasNet's separable block is the first.
        stage: row of MnasNet's table; in MobileNetV3's, rows that give the same channels.
        row: index inside of the stage.
        expands: has an expanding convolution.
        gated: has squeeze-excite.
        shortcut: shapes allow one.
    """

    index: int
    stage: int
    row: int
    expands: bool
    gated: bool
    shortcut: bool


@dataclass(frozen=True)
class Unit:
    """A layer that has values.

    Attributes:
        ours: prefix of its names in our state dict.
        role: stem, expand, depthwise, reduce, restore (the two of squeeze-excite), project, last,
            hidden or classifier; a batch norm has the role of its convolution.
        part: 1 for a batch norm, else 0.
        block: None outside of blocks.
        blocks: number of blocks of the network.
        stages: number of stages of the network.
    """

    ours: str
    role: str
    part: int
    block: BlockRole | None
    blocks: int
    stages: int


def units(model: nn.Layer) -> list[Unit]:
    """The layers of one of our networks that have values, in order."""
    kinds = (nn.Conv2D, nn.BatchNorm2D, nn.Linear)
    layers = [(name, x) for name, x in model.named_sublayers() if isinstance(x, kinds)]
    roles = _roles(layers)
    lengths = _stage_lengths(model)
    places = [(stage, row) for stage, length in enumerate(lengths) for row in range(length)]
    blocks: dict[int, BlockRole] = {}  # by position in `layers`
    start = 2  # after the stem and its batch norm
    for index, (stage, row) in enumerate(places):
        end = roles.index("project", start) + 2
        found = dict(zip(roles[start:end:2], layers[start:end:2], strict=True))
        depthwise, project = found["depthwise"][1], found["project"][1]
        in_channels = layers[start][1]._in_channels
        shortcut = depthwise._stride[0] == 1 and project._out_channels == in_channels
        block = BlockRole(index, stage, row, "expand" in found, "reduce" in found, shortcut)
        blocks |= dict.fromkeys(range(start, end), block)
        start = end
    return [
        Unit(name, role, int(isinstance(x, nn.BatchNorm2D)), blocks.get(i), len(places),
             len(lengths))
        for i, ((name, x), role) in enumerate(zip(layers, roles, strict=True))
    ]  # fmt: skip


def _roles(layers: list[tuple[str, nn.Layer]]) -> list[str]:
    def is_depthwise(layer: nn.Layer) -> bool:
        return isinstance(layer, nn.Conv2D) and layer._groups > 1

    roles = ["stem"]
    for i, (name, layer) in enumerate(layers[1:], 1):
        if isinstance(layer, nn.Linear):
            roles.append("classifier" if i == len(layers) - 1 else "hidden")
        elif isinstance(layer, nn.BatchNorm2D):
            roles.append(roles[-1])
        elif name.endswith((".fc1", ".fc2")):
            roles.append("reduce" if name.endswith("1") else "restore")
        elif is_depthwise(layer):
            roles.append("depthwise")
        elif roles[-1] in ("depthwise", "restore"):
            roles.append("project")
        else:
            roles.append("expand" if is_depthwise(layers[i + 2][1]) else "last")
    return roles


def _stage_lengths(model: nn.Layer) -> list[int]:
    if isinstance(model, MobileNetV3):
        return [len(list(rows)) for _, rows in groupby(model.table.blocks, lambda row: row.out)]
    separable = [] if model.table.separable is None else [1]
    return separable + [stage.repeats for stage in model.table.stages]
