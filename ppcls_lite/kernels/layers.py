"""Stem, block and head as autograd functions; the parameters stay the network's own."""

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.autograd import PyLayer

from ppcls_lite.kernels import abi
from ppcls_lite.kernels.build import load_kernels


@dataclass(frozen=True)
class ConvNorm:
    """Convolution without bias, batch norm, activation (a number of `abi`)."""

    conv: nn.Conv2D
    norm: nn.BatchNorm2D
    activation: int


@dataclass(frozen=True)
class Gate:
    """Squeeze-excite: `kind` and `slope` tell the gate, `activation` is the hidden layer's.

    Attributes:
        first: the block's activation comes after the gate.
    """

    reduce: nn.Conv2D
    restore: nn.Conv2D
    activation: int
    kind: int
    slope: float
    first: bool


@dataclass(frozen=True)
class FusedStem:
    """Images [N, C, H, W] to [N, H/2, W/2, C]."""

    unit: ConvNorm
    threads: int

    def __call__(self, images: Tensor) -> Tensor:
        return _Stem.apply(images.contiguous(), self, *_trained([self.unit]))


@dataclass(frozen=True)
class FusedBlock:
    """[N, H, W, C] to [N, H/stride, W/stride, out_channels]; `activation` is the block's."""

    expand: ConvNorm | None
    depthwise: ConvNorm
    gate: Gate | None
    project: ConvNorm
    activation: int
    shortcut: bool
    threads: int

    def __call__(self, x: Tensor) -> Tensor:
        units = [self.expand, self.depthwise, self.gate, self.project]
        return _Block.apply(x.contiguous(), self, *_trained(units))


@dataclass(frozen=True)
class FusedHead:
    """[N, H, W, C] to the means over all pixels [N, out_channels]."""

    unit: ConvNorm
    threads: int

    def __call__(self, x: Tensor) -> Tensor:
        return _Head.apply(x.contiguous(), self, *_trained([self.unit]))


def _trained(units: list[Any]) -> list[Tensor]:
    """The parameters that want a gradient."""
    layers: list[nn.Layer] = []
    for unit in units:
        if isinstance(unit, ConvNorm):
            layers += [unit.conv, unit.norm]
        elif isinstance(unit, Gate):
            layers += [unit.reduce, unit.restore]
    return [p for layer in layers for p in layer.parameters() if not p.stop_gradient]


def _empty(*shape: int) -> Tensor:
    return paddle.empty(shape, "float32")


class _Call:
    """A struct for the kernels, and what has to live as long as it does."""

    def __init__(self, struct: ctypes.Structure, name: str) -> None:
        self.struct, self.name = struct, name
        self.kept: list[Any] = []

    def point(self, target: ctypes.Structure, **tensors: Tensor | None) -> None:
        """Sets pointers; the tensors are kept alive."""
        for field, tensor in tensors.items():
            setattr(target, field, None if tensor is None else tensor.data_ptr())
            self.kept.append(tensor)

    def batch_norm(self, target: abi.BatchNorm, norm: nn.BatchNorm2D) -> None:
        saved = np.empty((2, norm.weight.shape[0]), np.float32)  # far cheaper than a tensor
        self.kept.append(saved)
        target.mean, target.inv_std = saved[0].ctypes.data, saved[1].ctypes.data
        self.point(
            target,
            gamma=norm.weight,
            beta=norm.bias,
            running_mean=norm._mean,
            running_var=norm._variance,
        )
        target.epsilon, target.momentum = norm._epsilon, norm._momentum
        target.frozen = not norm.training or bool(norm._use_global_stats)

    def run(self, direction: str) -> None:
        getattr(load_kernels(), f"mobile_{self.name}_{direction}")(self.struct)


class _Gradients:
    """Room for the gradients of a PyLayer's inputs, found by parameter; None: not wanted."""

    def __init__(self, ctx: Any) -> None:
        self.x = None if ctx.x.stop_gradient else _empty(*ctx.x.shape)
        self.trained = [_empty(*p.shape) for p in ctx.trained]
        self._by_id = {id(p): g for p, g in zip(ctx.trained, self.trained, strict=True)}

    def of(self, parameter: Tensor | None) -> Tensor | None:
        return self._by_id.get(id(parameter))

    def batch_norm(self, call: _Call, target: abi.BatchNorm, norm: nn.BatchNorm2D) -> None:
        call.point(target, d_gamma=self.of(norm.weight), d_beta=self.of(norm.bias))

    def all(self) -> tuple[Tensor | None, ...]:
        return (self.x, *self.trained)


def _finish(ctx: Any, gradients: _Gradients) -> tuple[Tensor | None, ...]:
    ctx.call.run("backward")
    ctx.call = ctx.x = None  # frees what forward stored as backward goes on
    return gradients.all()


def _start(ctx: Any, call: _Call, x: Tensor, trained: tuple[Tensor, ...]) -> None:
    call.run("forward")
    ctx.call, ctx.x, ctx.trained = call, x, trained


def _window(conv: nn.Conv2D, height: int, width: int) -> dict[str, int]:
    """Kernel, stride, padding at the top and left, and the size of what comes out."""
    kernel, stride = conv._kernel_size[0], conv._stride[0]
    window = {"kernel": kernel, "stride": stride}
    for side, start, size in (("height", "top", height), ("width", "left", width)):
        if conv._padding_algorithm == "SAME":  # as little as needed, less of it before than after
            out = -(-size // stride)
            before = max((out - 1) * stride + kernel - size, 0) // 2
        else:
            before = conv._updated_padding[0 if side == "height" else 1]
            out = (size + 2 * before - kernel) // stride + 1
        window |= {f"pad_{start}": before, f"out_{side}": out}
    return window


class _Stem(PyLayer):
    @staticmethod
    def forward(ctx: Any, x: Tensor, stem: FusedStem, *trained: Tensor) -> Tensor:
        unit = stem.unit
        images, channels, height, width = x.shape
        window = _window(unit.conv, height, width)
        out = (images, window["out_height"], window["out_width"], unit.conv._out_channels)
        struct = abi.Stem(
            threads=stem.threads, images=images, height=height, width=width, in_channels=channels,
            out_channels=out[3], activation=unit.activation, **window,
        )  # fmt: skip
        call = _Call(struct, "stem")
        y = _empty(*out)
        call.point(struct, x=x, weight=unit.conv.weight, z=_empty(*out), y=y)
        call.batch_norm(struct.bn, unit.norm)
        _start(ctx, call, x, trained)
        ctx.unit, ctx.out = unit, out
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        call, gradients = ctx.call, _Gradients(ctx)
        d_weight = gradients.of(ctx.unit.conv.weight)
        call.point(call.struct, dy=dy.contiguous(), d_weight=d_weight, d_y=_empty(*ctx.out))
        gradients.batch_norm(call, call.struct.bn, ctx.unit.norm)
        return _finish(ctx, gradients)


class _Block(PyLayer):
    @staticmethod
    def forward(ctx: Any, x: Tensor, block: FusedBlock, *trained: Tensor) -> Tensor:
        images, height, width, channels = x.shape
        window = _window(block.depthwise.conv, height, width)
        expanded, out_channels = block.project.conv._in_channels, block.project.conv._out_channels
        inner, out = (images, height, width), (images, window["out_height"], window["out_width"])
        struct = abi.Block(
            threads=block.threads, images=images, height=height, width=width, in_channels=channels,
            expanded=expanded, out_channels=out_channels, activation=block.activation,
            shortcut=block.shortcut, **window,
        )  # fmt: skip
        call = _Call(struct, "block")
        if block.expand:
            call.point(
                struct, expand_weight=block.expand.conv.weight, expand_z=_empty(*inner, expanded)
            )
            call.batch_norm(struct.expand_bn, block.expand.norm)
        y = _empty(*out, out_channels)
        call.point(
            struct, x=x, depthwise_weight=block.depthwise.conv.weight,
            project_weight=block.project.conv.weight, depthwise_z=_empty(*out, expanded),
            project_z=_empty(*out, out_channels), y=y,
        )  # fmt: skip
        call.batch_norm(struct.depthwise_bn, block.depthwise.norm)
        call.batch_norm(struct.project_bn, block.project.norm)
        if block.gate:
            _point_gate(call, struct.se, block.gate, images)
        _start(ctx, call, x, trained)
        ctx.block = block
        ctx.work = {"d_depthwise_y": (*out, expanded)}
        if block.expand:
            ctx.work["d_expand_y"] = (*inner, expanded)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        call, block, gradients = ctx.call, ctx.block, _Gradients(ctx)
        struct = call.struct
        call.point(
            struct, dy=dy.contiguous(), dx=gradients.x,
            d_depthwise_weight=gradients.of(block.depthwise.conv.weight),
            d_project_weight=gradients.of(block.project.conv.weight),
            **{name: _empty(*shape) for name, shape in ctx.work.items()},
        )  # fmt: skip
        gradients.batch_norm(call, struct.depthwise_bn, block.depthwise.norm)
        gradients.batch_norm(call, struct.project_bn, block.project.norm)
        if block.expand:
            call.point(struct, d_expand_weight=gradients.of(block.expand.conv.weight))
            gradients.batch_norm(call, struct.expand_bn, block.expand.norm)
        if block.gate:
            reduce, restore = block.gate.reduce, block.gate.restore
            call.point(
                struct.se,
                d_reduce_weight=gradients.of(reduce.weight),
                d_reduce_bias=gradients.of(reduce.bias),
                d_restore_weight=gradients.of(restore.weight),
                d_restore_bias=gradients.of(restore.bias),
            )
        return _finish(ctx, gradients)


def _point_gate(call: _Call, struct: abi.SqueezeExcite, gate: Gate, images: int) -> None:
    squeezed, channels = gate.reduce._out_channels, gate.restore._out_channels
    struct.squeezed, struct.activation, struct.first = squeezed, gate.activation, gate.first
    struct.gate_kind, struct.slope = gate.kind, gate.slope
    call.point(
        struct, reduce_weight=gate.reduce.weight, reduce_bias=gate.reduce.bias,
        restore_weight=gate.restore.weight, restore_bias=gate.restore.bias,
    )  # fmt: skip
    narrow = {name: _empty(images, squeezed) for name in ("hidden_y", "hidden", "d_hidden_y")}
    wide = {name: _empty(images, channels) for name in ("pooled", "gate_y", "gate", "d_gate_y")}
    call.point(struct, **narrow, **wide)


class _Head(PyLayer):
    @staticmethod
    def forward(ctx: Any, x: Tensor, head: FusedHead, *trained: Tensor) -> Tensor:
        unit = head.unit
        images, height, width, channels = x.shape
        out = unit.conv._out_channels
        struct = abi.Head(
            threads=head.threads, images=images, pixels=height * width, in_channels=channels,
            out_channels=out, activation=unit.activation,
        )  # fmt: skip
        call = _Call(struct, "head")
        y = _empty(images, out)
        call.point(struct, x=x, weight=unit.conv.weight, z=_empty(images, height, width, out), y=y)
        call.batch_norm(struct.bn, unit.norm)
        _start(ctx, call, x, trained)
        ctx.unit, ctx.work = unit, (images, height, width, out)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        call, gradients = ctx.call, _Gradients(ctx)
        call.point(
            call.struct, dy=dy.contiguous(), dx=gradients.x, d_y=_empty(*ctx.work),
            d_weight=gradients.of(ctx.unit.conv.weight),
        )  # fmt: skip
        gradients.batch_norm(call, call.struct.bn, ctx.unit.norm)
        return _finish(ctx, gradients)
