"""One call of a kernel: its struct, the arrays it points to, and room for the gradients."""

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from paddle import Tensor, _C_ops, nn

from ppcls_lite.kernels import abi
from ppcls_lite.kernels.build import load_kernels

# Of a step's 291 tensors each is made 2 microseconds sooner by what paddle.empty ends in.
CPU = paddle.CPUPlace()


def empty(*shape: int) -> Tensor:
    """Returns a float32 tensor that nobody has written to yet."""
    return _C_ops.empty(list(shape), paddle.float32, CPU)


@dataclass(frozen=True)
class Kernels:
    """How the kernels of a network run.

    Attributes:
        threads: of each call; results repeat to the bit as long as it stays the same.
        bf16: what a call keeps for its backward is bfloat16 instead of float32, and so are the
            operands of 1x1 convolutions where the CPU multiplies them.
    """

    threads: int
    bf16: bool = False

    def stored(self, *shape: int) -> Tensor:
        """Returns a tensor for what `Stored` of lanes.h is, that nobody has written to yet."""
        return _C_ops.empty(list(shape), paddle.bfloat16 if self.bf16 else paddle.float32, CPU)


class Call:
    """A struct for the kernels, and what has to live as long as it does."""

    def __init__(self, kernels: Kernels, struct: ctypes.Structure, name: str) -> None:
        self.kernels, self.struct, self.name = kernels, struct, name
        self.kept: list[Any] = []

    def point(self, target: ctypes.Structure, **tensors: Tensor | None) -> None:
        """Sets pointers; the tensors are kept alive."""
        for field, tensor in tensors.items():
            setattr(target, field, None if tensor is None else tensor.data_ptr())
            self.kept.append(tensor)

    def batch_norm(self, target: abi.BatchNorm, norm: nn.BatchNorm2D) -> None:
        """Points to a layer's parameters and statistics, and to room for those of the batch."""
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
        """Calls the kernel, `forward` or `backward`."""
        library = load_kernels(self.kernels.bf16)
        getattr(library, f"mobile_{self.name}_{direction}")(self.struct)


class Gradients:
    """Room for the gradients of a PyLayer's inputs, found by parameter; None: not wanted."""

    def __init__(self, ctx: Any) -> None:
        self.x = None if ctx.x.stop_gradient else empty(*ctx.x.shape)
        self.trained = [empty(*p.shape) for p in ctx.trained]
        self._by_id = {id(p): g for p, g in zip(ctx.trained, self.trained, strict=True)}

    def of(self, parameter: Tensor | None) -> Tensor | None:
        """Returns the room for one parameter's gradient; None where it is not wanted."""
        return self._by_id.get(id(parameter))

    def batch_norm(self, call: Call, target: abi.BatchNorm, norm: nn.BatchNorm2D) -> None:
        """Points to the room for a layer's gradients."""
        call.point(target, d_gamma=self.of(norm.weight), d_beta=self.of(norm.bias))

    def all(self) -> tuple[Tensor | None, ...]:
        """Returns the gradients in the order of the PyLayer's inputs."""
        return (self.x, *self.trained)


def finish(ctx: Any, gradients: Gradients) -> tuple[Tensor | None, ...]:
    """Ends a PyLayer's backward: runs the kernel and returns the gradients."""
    ctx.call.run("backward")
    ctx.call = ctx.x = None  # frees what forward stored as backward goes on
    return gradients.all()


def start(ctx: Any, call: Call, x: Tensor, trained: tuple[Tensor, ...]) -> None:
    """Ends a PyLayer's forward: runs the kernel and keeps what backward needs."""
    call.run("forward")
    ctx.call, ctx.x, ctx.trained = call, x, trained


def multiplies_bf16() -> bool:
    """Whether this CPU and compiler have the instruction that the products in bfloat16 are made of.

    Raises:
        Unavailable: as `load_kernels`.
    """
    return bool(load_kernels(bf16=True).mobile_multiplies_bf16())


def bf16_words(bf16: bool) -> str:
    """What the plan's line on kernels says of bfloat16, after a comma; empty for float32."""
    if not bf16:
        return ""
    return ", bf16 kept and multiplied" if multiplies_bf16() else ", bf16 kept"
