"""Whether a network of the zoo computes what a TFLite file does, beside having its shapes."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from paddle import nn

from ppcls_lite.arch.flavours import PAPER_GATE
from ppcls_lite.arch.layers import InvertedResidual
from ppcls_lite.arch.mnasnet import MnasTable
from ppcls_lite.arch.mobilenet_v3 import V3Table
from ppcls_lite.arch.units import Unit, units
from ppcls_lite.weights.tflite_files import Layer, Network

# What a file may have where a network of ours has an activation. The range of quantised values
# stands for ReLU and ReLU6 where it begins at 0.
_FITTING = {"HS": ("HS",), "RE": ("RE", "clamp"), "R6": ("R6", "RE", "clamp"), "": ("", "clamp")}


def may_fit(arrays: Mapping[str, np.ndarray], table: V3Table | MnasTable) -> bool:
    """Tells whether a file has the blocks of a table, which is sooner known than all its shapes."""
    if isinstance(table, V3Table):
        kernels = [row.kernel for row in table.blocks]
    else:
        kernels = [row.kernel for row in table.stages for _ in range(row.repeats)]
        kernels = kernels if table.separable is None else [3, *kernels]
    depthwise = [a for name, a in arrays.items() if name.endswith(".depthwise.weight")]
    return kernels == [array.shape[-1] for array in depthwise]


def differences(network: Network, model: nn.Layer, name_of: Callable[[Unit], str]) -> Iterator[str]:
    """What a file's layers compute otherwise than a model's: stride, padding, activation and so on.

    Layers that the file has not are passed over.

    Args:
        name_of: name of a layer in the file.
    """
    convs = dict(model.named_sublayers())
    residuals = [layer for layer in convs.values() if isinstance(layer, InvertedResidual)]
    for unit in units(model):
        name = name_of(unit)
        if unit.part or unit.role == "classifier" or name not in network.layers:
            continue
        layer, conv, place = network.layers[name], convs[unit.ours], -1
        if unit.block:
            place = unit.block.index - model.plain_blocks[0]
        block = residuals[place] if place >= 0 else None
        if isinstance(conv, nn.Conv2D):
            yield from _unlike_conv(name, layer, conv)
        yield from _unlike_rest(name, layer, unit, model, block)


def _unlike_conv(name: str, layer: Layer, conv: nn.Conv2D) -> Iterator[str]:
    ours: dict[str, tuple[int, ...]] = {
        "stride": tuple(conv._stride), "dilation": tuple(conv._dilation)
    }  # fmt: skip
    theirs: dict[str, tuple[int, ...]] = {"stride": layer.stride, "dilation": layer.dilation}
    if layer.padding is not None and layer.same_padding is not None and ours == theirs:
        same = layer.same_padding
        ours["padding"] = same if conv._padding == "SAME" else (conv._padding,) * 4
        theirs["padding"] = layer.padding
    for what, number in theirs.items():
        if number != ours[what]:
            yield f"  computes    {name}: {what} {number}, the model has {ours[what]}"


def _unlike_rest(
    name: str, layer: Layer, unit: Unit, model: nn.Layer, block: InvertedResidual | None
) -> Iterator[str]:
    flavour = model.flavour
    wanted = block.act if block else model.table.act
    if unit.role == "reduce":
        wanted = wanted if flavour.se_block_act else "RE"
    if unit.role == "project" or (
        unit.role == "depthwise" and unit.block and unit.block.gated and flavour.se_before_act
    ):
        wanted = ""
    if unit.role == "restore":
        gate = {nn.functional.sigmoid: "sigmoid", PAPER_GATE: "hard"}.get(flavour.se_gate, "other")
        if layer.gate != gate:
            yield f"  computes    {name}: gate {layer.gate}, the model has {gate}"
    elif layer.activation not in _FITTING[wanted]:
        has = f"the model has {wanted or 'none'}"
        yield f"  computes    {name}: activation {layer.activation or 'none'}, {has}"
    if unit.role == "project" and layer.shortcut != bool(block and block.shortcut):
        has = "has none" if layer.shortcut else "has one"
        yield f"  computes    {name}: {'a' if layer.shortcut else 'no'} shortcut, the model {has}"
