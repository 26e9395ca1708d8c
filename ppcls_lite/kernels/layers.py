"""Stem, block, head and linear layer as autograd functions; parameters stay the network's own."""

from dataclasses import dataclass
from typing import Any

from paddle import Tensor, nn
from paddle.autograd import PyLayer

from ppcls_lite.kernels import abi
from ppcls_lite.kernels.calls import Call, Gradients, Kernels, empty, finish, start


@dataclass(frozen=True)
class ConvNorm:
    """Convolution without bias, batch norm, activation (a number of `abi`)."""

    conv: nn.Conv2D
    norm: nn.BatchNorm2D
    activation: int


@dataclass(frozen=True)
class SqueezeExciteLayers:
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
    kernels: Kernels

    def __call__(self, images: Tensor) -> Tensor:
        return _Stem.apply(images.contiguous(), self, *_trained([self.unit]))


@dataclass(frozen=True)
class FusedBlock:
    """[N, H, W, C] to [N, H/stride, W/stride, out_channels]; `activation` is the block's."""

    expand: ConvNorm | None
    depthwise: ConvNorm
    gate: SqueezeExciteLayers | None
    project: ConvNorm
    activation: int
    shortcut: bool
    kernels: Kernels

    def __call__(self, x: Tensor) -> Tensor:
        units = [self.expand, self.depthwise, self.gate, self.project]
        return _Block.apply(x.contiguous(), self, *_trained(units))


@dataclass(frozen=True)
class FusedHead:
    """[N, H, W, C] to the means over all pixels [N, out_channels]."""

    unit: ConvNorm
    kernels: Kernels

    def __call__(self, x: Tensor) -> Tensor:
        return _Head.apply(x.contiguous(), self, *_trained([self.unit]))


@dataclass(frozen=True)
class FusedDense:
    """[N, in] to [N, out]."""

    layer: nn.Linear
    kernels: Kernels

    def __call__(self, x: Tensor) -> Tensor:
        trained = [p for p in self.layer.parameters() if not p.stop_gradient]
        return _Dense.apply(x.contiguous(), self, *trained)


def _trained(units: list[Any]) -> list[Tensor]:
    """The parameters that want a gradient; `Layer.parameters` takes longer than a small kernel."""
    found: list[Tensor] = []
    for unit in units:
        if isinstance(unit, ConvNorm):
            found += [unit.conv.weight, unit.norm.weight, unit.norm.bias]
        elif isinstance(unit, SqueezeExciteLayers):
            reduce, restore = unit.reduce, unit.restore
            found += [reduce.weight, reduce.bias, restore.weight, restore.bias]
    return [p for p in found if p is not None and not p.stop_gradient]


def _window(conv: nn.Conv2D, height: int, width: int) -> dict[str, int]:
    """Kernel, stride, padding at the top and left, and the size of what comes out."""
    kernel, stride = conv._kernel_size[0], conv._stride[0]
    window = {"kernel": kernel, "stride": stride}
    for side, edge, size in (("height", "top", height), ("width", "left", width)):
        if conv._padding_algorithm == "SAME":  # as little as needed, less of it before than after
            out = -(-size // stride)
            before = max((out - 1) * stride + kernel - size, 0) // 2
        else:
            before = conv._updated_padding[0 if side == "height" else 1]
            out = (size + 2 * before - kernel) // stride + 1
        window |= {f"pad_{edge}": before, f"out_{side}": out}
    return window


class _Stem(PyLayer):
    @staticmethod
    def forward(ctx: Any, x: Tensor, stem: FusedStem, *trained: Tensor) -> Tensor:
        """Images [N, C, H, W] -> [N, H/2, W/2, out]; backward finds its arrays in `ctx`."""
        unit = stem.unit
        images, channels, height, width = x.shape
        window = _window(unit.conv, height, width)
        out = (images, window["out_height"], window["out_width"], unit.conv._out_channels)
        struct = abi.Stem(
            threads=stem.kernels.threads, images=images, height=height, width=width,
            in_channels=channels, out_channels=out[3], activation=unit.activation, **window,
        )  # fmt: skip
        call = Call(stem.kernels, struct, "stem")
        y = empty(*out)
        call.point(struct, x=x, weight=unit.conv.weight, z=stem.kernels.stored(*out), y=y)
        call.batch_norm(struct.bn, unit.norm)
        start(ctx, call, x, trained)
        ctx.unit, ctx.out = unit, out
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Gradient [N, H/2, W/2, out] -> those of weight and batch norm; images get none."""
        call, gradients = ctx.call, Gradients(ctx)
        d_weight = gradients.of(ctx.unit.conv.weight)
        call.point(
            call.struct, dy=dy.contiguous(), d_weight=d_weight, d_y=call.kernels.stored(*ctx.out)
        )
        gradients.batch_norm(call, call.struct.bn, ctx.unit.norm)
        return finish(ctx, gradients)


class _Block(PyLayer):
    @staticmethod
    def forward(ctx: Any, x: Tensor, block: FusedBlock, *trained: Tensor) -> Tensor:
        """[N, H, W, in] -> [N, H/stride, W/stride, out], by the stages of `Block`."""
        images, height, width, channels = x.shape
        window = _window(block.depthwise.conv, height, width)
        expanded, out_channels = block.project.conv._in_channels, block.project.conv._out_channels
        inner, out = (images, height, width), (images, window["out_height"], window["out_width"])
        struct = abi.Block(
            threads=block.kernels.threads, images=images, height=height, width=width,
            in_channels=channels, expanded=expanded, out_channels=out_channels,
            activation=block.activation, shortcut=block.shortcut, **window,
        )  # fmt: skip
        call, stored = Call(block.kernels, struct, "block"), block.kernels.stored
        if block.expand:
            call.point(
                struct, expand_weight=block.expand.conv.weight, expand_z=stored(*inner, expanded)
            )
            call.batch_norm(struct.expand_bn, block.expand.norm)
        y = empty(*out, out_channels)
        call.point(
            struct, x=x, depthwise_weight=block.depthwise.conv.weight,
            project_weight=block.project.conv.weight, depthwise_z=stored(*out, expanded),
            project_z=stored(*out, out_channels), y=y,
        )  # fmt: skip
        call.batch_norm(struct.depthwise_bn, block.depthwise.norm)
        call.batch_norm(struct.project_bn, block.project.norm)
        if block.gate:
            _point_gate(call, struct.se, block.gate, images)
        start(ctx, call, x, trained)
        ctx.block = block
        ctx.work = {"d_depthwise_y": (*out, expanded)}
        if block.expand:
            ctx.work["d_expand_y"] = (*inner, expanded)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Gradient [N, H/stride, W/stride, out] -> those of x and of what is trained."""
        call, block, gradients = ctx.call, ctx.block, Gradients(ctx)
        struct = call.struct
        call.point(
            struct, dy=dy.contiguous(), dx=gradients.x,
            d_depthwise_weight=gradients.of(block.depthwise.conv.weight),
            d_project_weight=gradients.of(block.project.conv.weight),
            **{name: call.kernels.stored(*shape) for name, shape in ctx.work.items()},
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
        return finish(ctx, gradients)


def _point_gate(
    call: Call, struct: abi.SqueezeExcite, gate: SqueezeExciteLayers, images: int
) -> None:
    squeezed, channels = gate.reduce._out_channels, gate.restore._out_channels
    struct.squeezed, struct.activation, struct.first = squeezed, gate.activation, gate.first
    struct.gate_kind, struct.slope = gate.kind, gate.slope
    call.point(
        struct, reduce_weight=gate.reduce.weight, reduce_bias=gate.reduce.bias,
        restore_weight=gate.restore.weight, restore_bias=gate.restore.bias,
    )  # fmt: skip
    narrow = {name: empty(images, squeezed) for name in ("hidden_y", "hidden", "d_hidden_y")}
    wide = {name: empty(images, channels) for name in ("pooled", "gate_y", "gate", "d_gate_y")}
    call.point(struct, **narrow, **wide)


class _Head(PyLayer):
    @staticmethod
    def forward(ctx: Any, x: Tensor, head: FusedHead, *trained: Tensor) -> Tensor:
        """[N, H, W, in] -> the means over all pixels [N, out]."""
        unit = head.unit
        images, height, width, channels = x.shape
        out = unit.conv._out_channels
        struct = abi.Head(
            threads=head.kernels.threads, images=images, pixels=height * width,
            in_channels=channels, out_channels=out, activation=unit.activation,
        )  # fmt: skip
        call = Call(head.kernels, struct, "head")
        y = empty(images, out)
        z = head.kernels.stored(images, height, width, out)
        call.point(struct, x=x, weight=unit.conv.weight, z=z, y=y)
        call.batch_norm(struct.bn, unit.norm)
        start(ctx, call, x, trained)
        ctx.unit, ctx.work = unit, (images, height, width, out)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Gradient [N, out] -> those of x and of what is trained."""
        call, gradients = ctx.call, Gradients(ctx)
        call.point(
            call.struct, dy=dy.contiguous(), dx=gradients.x, d_y=call.kernels.stored(*ctx.work),
            d_weight=gradients.of(ctx.unit.conv.weight),
        )  # fmt: skip
        gradients.batch_norm(call, call.struct.bn, ctx.unit.norm)
        return finish(ctx, gradients)


class _Dense(PyLayer):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dense: FusedDense, *trained: Tensor) -> Tensor:
        """[N, in] -> [N, out]."""
        layer = dense.layer
        rows, (width, out) = x.shape[0], layer.weight.shape
        struct = abi.Dense(dense.kernels.threads, rows, width, out)
        call = Call(dense.kernels, struct, "dense")
        y = empty(rows, out)
        call.point(struct, x=x, weight=layer.weight, bias=layer.bias, y=y)
        start(ctx, call, x, trained)
        ctx.layer = layer
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Gradient [N, out] -> those of x, weight and bias."""
        call, layer, gradients = ctx.call, ctx.layer, Gradients(ctx)
        call.point(
            call.struct, dy=dy.contiguous(), dx=gradients.x, d_weight=gradients.of(layer.weight),
            d_bias=gradients.of(layer.bias),
        )  # fmt: skip
        return finish(ctx, gradients)
