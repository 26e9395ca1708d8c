"""Decides block by block what of a network the kernels run, and puts the pieces together."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from ppcls_lite.arch.flavours import HardSigmoid
from ppcls_lite.arch.layers import InvertedResidual, SqueezeExcite
from ppcls_lite.arch.mnasnet import MNASNet
from ppcls_lite.arch.mobilenet_v3 import MobileNetV3
from ppcls_lite.kernels import abi
from ppcls_lite.kernels.build import load_kernels
from ppcls_lite.kernels.calls import Kernels
from ppcls_lite.kernels.layers import (
    ConvNorm,
    FusedBlock,
    FusedDense,
    FusedHead,
    FusedStem,
    SqueezeExciteLayers,
)
from ppcls_lite.native import Unavailable

ACTIVATIONS = {nn.ReLU: abi.RELU, nn.ReLU6: abi.RELU6, nn.Hardswish: abi.HARD_SWISH}


class _Stock(Exception):
    """The kernels cannot run a piece; the text says what is in the way."""


@dataclass(frozen=True)
class Piece:
    """A part of a network, as the kernels or as Paddle's own layers run it.

    Attributes:
        name: stem, block 0, ..., head.
        stock: the layers that it consists of, [N, C, H, W] in and out.
        fused: the same in kernels; the stem takes [N, C, H, W] and the head gives [N, C], between
            them it is [N, H, W, C]. None: `reason` says why not.
    """

    name: str
    stock: list[nn.Layer]
    fused: Callable[[Tensor], Tensor] | None
    reason: str = ""


@dataclass(frozen=True)
class DroppingBlock:
    """Stochastic depth: kernels up to the shortcut, which Paddle adds with the layer's draws."""

    fused: FusedBlock
    residual: InvertedResidual

    def __call__(self, x: Tensor) -> Tensor:  # [N, H, W, C]
        y = self.fused(x)
        return x + F.dropout(y, self.residual.drop_path, axis=0, training=self.residual.training)


class AcceleratedModel(nn.Layer):
    """One of our networks with its training forward in kernels where they fit.

    It owns no parameters: `model` keeps them, and out of training mode a call runs `model` itself.
    Forward hooks of inner layers and double backward are not supported.
    """

    def __init__(self, model: nn.Layer, pieces: list[Piece], kernels: Kernels) -> None:
        super().__init__()
        self.model = model
        self.pieces, self.kernels = pieces, kernels
        # Not a sublayer, as the layers belong to the model.
        self.classifier = [_dense(layer, kernels) or layer for layer in model.classifier]

    def forward(self, images: Tensor) -> Tensor:
        """Normalised pictures, float32 [N, 3, H, W], to logits [N, K]; by kernels in training."""
        return self.run(images) if self.model.training else self.model(images)

    def run(self, images: Tensor) -> Tensor:
        """Runs the kernels, with batch norm and dropout in the mode that each layer is in.

        Args:
            images: [N, 3, H, W].

        Returns:
            Logits [N, K].
        """
        x, channels_last = images, False
        for piece in self.pieces:
            stem = isinstance(piece.fused, FusedStem)
            # The stem's kernel has no gradient of the images, which training never asks for.
            if piece.fused and (images.stop_gradient or not stem):
                if not channels_last and not stem:
                    x = x.transpose([0, 2, 3, 1])
                x, channels_last = piece.fused(x), True
            else:
                if channels_last:
                    x = x.transpose([0, 3, 1, 2])
                for layer in piece.stock:
                    x = layer(x)
                channels_last = False
        if not isinstance(self.pieces[-1].fused, FusedHead):
            x = self.model.avgpool(x).squeeze([2, 3])
        for run in self.classifier:
            x = run(x)
        return x  # [N, K]

    def summary(self) -> str:
        """What runs where, in one line."""
        stock = [f"{piece.name} ({piece.reason})" for piece in self.pieces if not piece.fused]
        count = len(self.pieces) - len(stock)
        line = f"{count} of {len(self.pieces)} parts"
        return line + (f"; Paddle's own layers run {', '.join(stock)}" if stock else "")


def accelerate(model: nn.Layer, kernels: Kernels) -> AcceleratedModel:
    """Wraps a network so that its training forward and backward run in the kernels.

    Args:
        kernels: how they run.

    Raises:
        Unavailable: the kernels cannot run here, or none of the network's parts fits them.
    """
    if not isinstance(model, MobileNetV3 | MNASNet):
        raise Unavailable(f"they know MobileNetV3 and MnasNet, not {type(model).__name__}")
    load_kernels(kernels.bf16)
    pieces = [_piece(name, layers, build, kernels) for name, layers, build in _split(model)]
    if not any(piece.fused for piece in pieces):
        raise Unavailable(f"no part fits: {pieces[0].name}: {pieces[0].reason}")
    return AcceleratedModel(model, pieces, kernels)


def _piece(name: str, layers: list[nn.Layer], build: Any, kernels: Kernels) -> Piece:
    try:
        for layer in layers:
            for inner in layer.sublayers(include_self=True):
                if inner._forward_pre_hooks or inner._forward_post_hooks:
                    raise _Stock("has forward hooks")
        return Piece(name, layers, build(layers, kernels))
    except _Stock as stock:
        return Piece(name, layers, None, str(stock))


def _split(model: nn.Layer) -> Iterator[tuple[str, list[nn.Layer], Any]]:
    """Names, layers and builders of the parts of a network, in order."""
    features = model.features if isinstance(model, MobileNetV3) else model.layers
    layers = list(_leaves(features))
    where = [i for i, layer in enumerate(layers) if isinstance(layer, InvertedResidual)]
    yield "stem", layers[:3], _stem
    blocks = [layers[3 : where[0]]] if where[0] > 3 else []  # MnasNet's separable one
    blocks += [[layers[i]] for i in where]
    for number, block in enumerate(blocks):
        yield f"block {number}", block, _block
    yield "head", layers[where[-1] + 1 :], _head


def _leaves(layer: nn.Layer) -> Iterator[nn.Layer]:
    if isinstance(layer, nn.Sequential):
        for child in layer:
            yield from _leaves(child)
    else:
        yield layer


# ---- builders: layers to kernels, or _Stock ----


def _stem(layers: list[nn.Layer], kernels: Kernels) -> FusedStem:
    unit = _conv_norm(layers)
    if unit.conv._groups != 1:
        raise _Stock("its convolution has groups")
    return FusedStem(unit, kernels)


def _head(layers: list[nn.Layer], kernels: Kernels) -> FusedHead:
    return FusedHead(_pointwise(layers), kernels)


def _dense(layer: nn.Layer, kernels: Kernels) -> FusedDense | None:
    """None: the layer runs as it is."""
    hooks = layer._forward_pre_hooks or layer._forward_post_hooks
    if type(layer) is not nn.Linear or hooks or layer.weight.dtype != paddle.float32:
        return None
    return FusedDense(layer, kernels)


def _block(layers: list[nn.Layer], kernels: Kernels) -> FusedBlock | DroppingBlock:
    shortcut, dropping = False, None
    if isinstance(layers[0], InvertedResidual):
        (residual,) = layers
        dropping = residual if residual.shortcut and residual.drop_path else None
        shortcut = residual.shortcut and not dropping
        layers = list(_leaves(residual.layers if residual.flat else residual.block))
    starts = [i for i, layer in enumerate(layers) if type(layer) is nn.Conv2D]
    depthwise_at = next((i for i in starts if layers[i]._groups > 1), None)
    gates = [i for i, layer in enumerate(layers) if isinstance(layer, SqueezeExcite)]
    if depthwise_at is None or not starts or depthwise_at == starts[-1] or len(gates) > 1:
        raise _Stock("its layers are not those of an inverted residual block")
    end = gates[0] if gates else starts[-1]
    depthwise = _depthwise(layers[depthwise_at:end])
    expand = _pointwise(layers[:depthwise_at]) if depthwise_at else None
    gate, activation = None, depthwise.activation
    if gates:
        gate = _gate(layers[gates[0]])
        if gate.first:
            activation = _activation(layers[gates[0]].last_act)
    project = _pointwise(layers[starts[-1] :])
    if project.activation != abi.NONE or (expand and expand.activation != activation):
        raise _Stock("its activations are not those of an inverted residual block")
    fused = FusedBlock(expand, depthwise, gate, project, activation, shortcut, kernels)
    return DroppingBlock(fused, dropping) if dropping else fused


def _conv_norm(layers: list[nn.Layer]) -> ConvNorm:
    kinds = [type(layer) for layer in layers]
    if kinds[:2] != [nn.Conv2D, nn.BatchNorm2D] or len(layers) > 3:
        raise _Stock(f"has {' '.join(kind.__name__ for kind in kinds)}")
    conv, norm = layers[:2]
    if conv.bias is not None or conv._dilation != [1, 1] or conv._padding_mode != "zeros":
        raise _Stock("its convolution has a bias, dilation or padding that is not zeros")
    if conv._padding_algorithm not in ("SAME", "EXPLICIT") or len(conv._updated_padding) != 2:
        raise _Stock("its padding is not the same on both sides")
    _check_precision(conv, norm)
    return ConvNorm(conv, norm, _activation(layers[2]) if len(layers) == 3 else abi.NONE)


def _check_precision(*layers: nn.Layer) -> None:
    if any(value.dtype != paddle.float32 for x in layers for value in x.state_dict().values()):
        raise _Stock("its weights are not float32")


def _pointwise(layers: list[nn.Layer]) -> ConvNorm:
    unit = _conv_norm(layers)
    conv = unit.conv
    if conv._kernel_size != [1, 1] or conv._stride != [1, 1] or conv._groups != 1:
        raise _Stock("its convolution is not 1x1")
    return unit


def _depthwise(layers: list[nn.Layer]) -> ConvNorm:
    unit = _conv_norm(layers)
    conv = unit.conv
    if not conv._groups == conv._in_channels == conv._out_channels:
        raise _Stock("its convolution is not depthwise")
    (kernel, other), stride = conv._kernel_size, conv._stride
    if kernel != other or kernel not in (3, 5, 7) or stride not in ([1, 1], [2, 2]):
        raise _Stock(f"its kernel is {kernel}x{other} with stride {stride[0]}")
    return unit


def _gate(layer: SqueezeExcite) -> SqueezeExciteLayers:
    if isinstance(layer.gate, HardSigmoid):
        kind, slope = abi.HARD_SIGMOID, layer.gate.slope
    elif layer.gate is F.sigmoid:
        kind, slope = abi.SIGMOID, 0.0
    else:
        raise _Stock("the gate of its squeeze-excite is unknown")
    if type(layer.fc1) is not nn.Conv2D or type(layer.fc2) is not nn.Conv2D:
        raise _Stock("its squeeze-excite has other layers than convolutions")
    _check_precision(layer.fc1, layer.fc2)
    first = not isinstance(layer.last_act, nn.Identity)
    return SqueezeExciteLayers(layer.fc1, layer.fc2, _activation(layer.act), kind, slope, first)


def _activation(layer: nn.Layer) -> int:
    if type(layer) not in ACTIVATIONS:
        raise _Stock(f"its activation is {type(layer).__name__}")
    return ACTIVATIONS[type(layer)]
