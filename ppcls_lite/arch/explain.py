"""A network as the papers print it: one row per block, with the size of what it gives."""

from dataclasses import dataclass, replace
from typing import Any

from paddle import Tensor, nn

from ppcls_lite.arch.count import watch_forward
from ppcls_lite.arch.layers import ACTIVATIONS, InvertedResidual, SqueezeExcite


@dataclass(frozen=True)
class BlockRow:
    """One row of the table.

    Args:
        operator: as the paper calls it: conv2d, dwconv, bneck, pool, linear.
        expanded: channels of the block's depthwise convolution; None for other operators.
        out: channels it gives.
        squeezed: channels its squeeze-excite squeezes to; None without one.
        act: RE, R6 or HS; None is linear.
        stride: of its depthwise convolution, or its own; None where there is none.
        shortcut: whether its input is added to what it gives.
        output: height and width of what it gives, in pixels.
    """

    operator: str
    out: int
    output: tuple[int, int]
    expanded: int | None = None
    squeezed: int | None = None
    act: str | None = None
    stride: int | None = None
    shortcut: bool = False


def explain(model: nn.Layer, image_size: int = 224) -> list[BlockRow]:
    """The rows of a network, in order, as a real forward pass of one image meets them."""
    rows: list[BlockRow] = []
    letters = {layer: letter for letter, layer in ACTIVATIONS.items()}

    def add(layer: nn.Layer, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if type(layer) in letters:
            rows[-1] = replace(rows[-1], act=letters[type(layer)])
        else:
            rows.append(_row(layer, output))

    shown = (InvertedResidual, nn.Conv2D, nn.AdaptiveAvgPool2D, nn.Linear, *letters)
    units = [layer for layer in _units(model) if isinstance(layer, shown)]
    watch_forward(model, units, add, image_size)
    return rows


def _units(layer: nn.Layer) -> list[Any]:
    """All layers but those inside of a block."""
    units: list[Any] = []
    for child in layer.children():
        units.append(child)
        if not isinstance(child, InvertedResidual):
            units += _units(child)
    return units


def _row(layer: nn.Layer, output: Tensor) -> BlockRow:
    _, out, *size = output.shape
    height, width = size or (1, 1)
    if isinstance(layer, nn.Linear):
        return BlockRow("linear", out, (1, 1))
    if isinstance(layer, nn.AdaptiveAvgPool2D):
        return BlockRow("pool", out, (height, width))
    block = isinstance(layer, InvertedResidual)
    conv = next(c for c in layer.sublayers() if _is_depthwise(c)) if block else layer
    kernel, stride = conv.weight.shape[-1], conv._stride[0]
    if not block:
        name = "dwconv" if _is_depthwise(layer) else "conv2d"
        return BlockRow(f"{name} {kernel}x{kernel}", out, (height, width), stride=stride)
    gates = [gate for gate in layer.sublayers() if isinstance(gate, SqueezeExcite)]
    return BlockRow(
        f"bneck {kernel}x{kernel}",
        out,
        (height, width),
        expanded=conv.weight.shape[0],
        squeezed=gates[0].fc1.weight.shape[0] if gates else None,
        act=layer.act,
        stride=stride,
        shortcut=layer.shortcut,
    )


def _is_depthwise(layer: nn.Layer) -> bool:
    return isinstance(layer, nn.Conv2D) and layer._groups > 1
