"""Errors of the training kernels and of Paddle's own layers, both against Paddle in float64.

    PYTHONPATH=. python tests/float64_reference.py                # all networks of the zoo
    PYTHONPATH=. python tests/float64_reference.py NETWORK ...    # larger pictures, four draws

prints the tables of docs/kernels.md.

A gradient jumps where an activation has a kink. A value within rounding of one may fall on the
other side of it than in float64, and moves gradients by far more than rounding does, in any
implementation. So float64 is run twice: by itself, and made to take, at every kink, the side that
the float32 run took. What is left of the error in the second comparison is rounding; what is gone
was sides.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from ppcls_lite import create_model
from ppcls_lite.arch.flavours import HardSigmoid
from ppcls_lite.arch.layers import SqueezeExcite
from ppcls_lite.arch.zoo import ZOO
from ppcls_lite.kernels import abi, calls
from ppcls_lite.kernels.accelerate import accelerate
from ppcls_lite.kernels.calls import Kernels

Sides = list[np.ndarray]  # of the values of one activation after the other: 0, 1, ... from below


class Watched(nn.Layer):
    """An activation that writes its values' sides to `seen`, or takes those it is `told`."""

    def __init__(self, act, seen: Sides, told: Sides | None) -> None:
        super().__init__()
        self.act, self.seen, self.told = act, seen, told
        self.kinks, self.pieces = shape_of(act)

    def forward(self, y: paddle.Tensor) -> paddle.Tensor:
        values = y.numpy()
        if self.told is None:
            self.seen.append(sides_of(values, self.kinks))
            return self.act(y)
        side = paddle.to_tensor(self.told[len(self.seen)].reshape(values.shape))
        self.seen.append(self.told[len(self.seen)])
        out = paddle.zeros_like(y)
        for i, piece in enumerate(self.pieces):
            out = paddle.where(side == i, piece(y), out)
        return out


def shape_of(act):
    """Where an activation has kinks, and its formula below, between and above them."""
    zero, same = paddle.zeros_like, lambda y: y
    if isinstance(act, nn.ReLU):
        return (0.0,), (zero, same)
    if isinstance(act, nn.ReLU6):
        return (0.0, 6.0), (zero, same, lambda y: zero(y) + 6)
    if isinstance(act, nn.Hardswish):
        return (-3.0, 3.0), (zero, lambda y: y * (y + 3) / 6, same)
    slope = act.slope
    return (-0.5 / slope, 0.5 / slope), (zero, lambda y: slope * y + 0.5, lambda y: zero(y) + 1)


def sides_of(values: np.ndarray, kinks: tuple[float, ...]) -> np.ndarray:
    return sum((values > kink).astype(np.int8) for kink in kinks)


def watch(layer: nn.Layer, told: Sides | None = None) -> Sides:
    """Puts a `Watched` in the place of every activation of a network, gates included."""
    seen: Sides = []
    for parent in layer.sublayers(include_self=True):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.ReLU | nn.ReLU6 | nn.Hardswish):
                setattr(parent, name, Watched(child, seen, told))
        if isinstance(parent, SqueezeExcite) and isinstance(parent.gate, HardSigmoid):
            gate = Watched(parent.gate, seen, told)
            del parent.gate  # a plain attribute; the name is free for a layer then
            parent.gate = gate
    return seen


@contextmanager
def watched_kernels() -> Iterator[Sides]:
    """Gives the sides that the kernels take, in the order of the layers."""
    seen: Sides = []
    run = calls.Call.run

    def watching(call: calls.Call, direction: str) -> None:
        run(call, direction)
        if direction == "forward":
            seen.extend(kernel_sides(call.struct))

    calls.Call.run = watching
    try:
        yield seen
    finally:
        calls.Call.run = run


KINKS = {abi.RELU: (0.0,), abi.RELU6: (0.0, 6.0), abi.HARD_SWISH: (-3.0, 3.0)}


def kernel_sides(struct: ctypes.Structure) -> Iterator[np.ndarray]:
    """What the kernels stored for one stem, block or head, as sides [N, C, H, W]."""
    if isinstance(struct, abi.Block):
        n, act, gate = struct.images, struct.activation, struct.se
        if struct.expand_weight:
            shape = (n, struct.height, struct.width, struct.expanded)
            yield _sides(_normalised(struct.expand_z, struct.expand_bn, shape), KINKS[act])
        shape = (n, struct.out_height, struct.out_width, struct.expanded)
        y = _normalised(struct.depthwise_z, struct.depthwise_bn, shape)
        if not gate.first:
            yield _sides(y, KINKS[act])
        if gate.squeezed:
            yield _sides(_array(gate.hidden_y, (n, 1, 1, gate.squeezed)), KINKS[gate.activation])
            gates = _array(gate.gate, (n, 1, 1, struct.expanded))
            if gate.gate_kind == abi.HARD_SIGMOID:
                limit = 0.5 / gate.slope
                gate_y = _array(gate.gate_y, gates.shape)
                yield _sides(gate_y, (-limit, limit))
            if gate.first:
                yield _sides(y * gates, KINKS[act])
    elif isinstance(struct, abi.Stem):
        shape = (struct.images, struct.out_height, struct.out_width, struct.out_channels)
        yield _sides(_normalised(struct.z, struct.bn, shape), KINKS[struct.activation])
    elif isinstance(struct, abi.Head):
        shape = (struct.images, struct.pixels, 1, struct.out_channels)
        yield _sides(_normalised(struct.z, struct.bn, shape), KINKS[struct.activation])


def _array(pointer: int, shape: tuple[int, ...]) -> np.ndarray:
    floats = ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float))
    return np.ctypeslib.as_array(floats, shape).astype(np.float64)


def _normalised(z: int, bn: abi.BatchNorm, shape: tuple[int, ...]) -> np.ndarray:
    """scale * z + shift with the roundings of the kernels: each of the two a fused one."""
    gamma, beta, mean, inv_std = (
        _array(p, shape[-1:]) for p in (bn.gamma, bn.beta, bn.mean, bn.inv_std)
    )
    scale = (gamma * inv_std).astype(np.float32).astype(np.float64)
    shift = (beta - mean * scale).astype(np.float32).astype(np.float64)
    return _array(z, shape) * scale + shift


def _sides(y: np.ndarray, kinks: tuple[float, ...]) -> np.ndarray:
    return np.ascontiguousarray(sides_of(y, kinks).transpose(0, 3, 1, 2))


def randomised(layer: nn.Layer) -> None:
    """Batch norm and biases away from their initial ones and zeros, as in a trained network."""
    for name, value in layer.state_dict().items():
        if value.ndim == 1:
            draws = paddle.randn(value.shape) * 0.2
            positive = name.endswith(("_variance",)) or (float(value.min()) == 1.0)
            value.set_value(draws.abs() + 0.5 if positive else draws)


def step(net, model: nn.Layer, images: paddle.Tensor, labels: paddle.Tensor):
    """Gradients and running statistics after one training step, as float64 arrays by name."""
    model.train()
    F.cross_entropy(net(images), labels).backward()
    gradients = {k: p.grad for k, p in model.named_parameters() if not p.stop_gradient}
    state = model.state_dict()
    statistics = {k: v for k, v in state.items() if k.endswith(("_mean", "_variance"))}
    return tuple(
        {k: v.numpy().astype(np.float64) for k, v in found.items()}
        for found in (gradients, statistics)
    )


def distance(got: dict[str, np.ndarray], exact: dict[str, np.ndarray]) -> float:
    """Size of the difference of all arrays together, as a share of the size of the exact ones."""
    off = sum(np.sum((got[k] - v) ** 2) for k, v in exact.items())
    return float(np.sqrt(off / sum(np.sum(v**2) for v in exact.values())))


class Reference:
    """One network, its batch, and its training step in three ways."""

    def __init__(self, name: str, batch: int, size: int, seed: int = 0, **overrides) -> None:
        paddle.seed(seed)
        self.make = lambda: create_model(name, 10, dropout=0.0, **overrides)
        model = self.make()
        randomised(model)
        self.state = {k: v.clone() for k, v in model.state_dict().items()}
        self.images = paddle.randn([batch, 3, size, size])
        self.labels = paddle.arange(batch) % 10

    def stock(self):
        """Paddle's layers in float32."""
        model = self._model()
        sides = watch(model)
        return *step(model, model, self.images, self.labels), sides

    def kernels(self, threads: int = 2):
        model = self._model()
        behind = watch(model.classifier)  # Paddle runs its activation in any case
        net = accelerate(model, Kernels(threads))
        assert all(piece.fused for piece in net.pieces), net.summary()
        with watched_kernels() as sides:
            found = step(net, model, self.images, self.labels)
        return *found, sides + behind

    def exact(self, told: Sides | None = None):
        """Float64, by itself or with the sides it is told."""
        paddle.set_default_dtype("float64")
        try:
            model = self._model()
        finally:
            paddle.set_default_dtype("float32")
        sides = watch(model, told)
        return *step(model, model, self.images.astype("float64"), self.labels), sides

    def _model(self) -> nn.Layer:
        model = self.make()
        dtype = model.parameters()[0].dtype
        model.set_state_dict({k: v.astype(dtype) for k, v in self.state.items()})
        return model


def flips(sides: Sides, exact: Sides) -> int:
    return sum(int((a.reshape(b.shape) != b).sum()) for a, b in zip(sides, exact, strict=True))


def compare(name: str, batch: int, size: int, seed: int = 0, **overrides) -> dict[str, list[float]]:
    """[Paddle's, the kernels'] errors and counts of values on the other side of a kink."""
    reference = Reference(name, batch, size, seed, **overrides)
    gradients, statistics, exact_sides = reference.exact()
    found: dict[str, list[float]] = {"flips": [], "gradients": [], "same": [], "statistics": []}
    for run in (reference.stock, reference.kernels):
        own_gradients, own_statistics, sides = run()
        told, _, _ = reference.exact(sides)
        found["flips"].append(flips(sides, exact_sides))
        found["gradients"].append(distance(own_gradients, gradients))
        found["same"].append(distance(own_gradients, told))
        found["statistics"].append(distance(own_statistics, statistics))
    found["values"] = [sum(s.size for s in exact_sides)]
    return found


def main() -> None:
    named = sys.argv[1:]
    batch, size, seeds = (8, 128, 4) if named else (8, 64, 1)
    print("| network | values | beyond a kink: Paddle, kernels | gradients: Paddle, kernels |"
          " same sides: Paddle, kernels | running statistics: Paddle, kernels |")  # fmt: skip
    print("|---|---|---|---|---|---|")
    for name, seed in product(named or [spec.name for spec in ZOO], range(seeds)):
        row = compare(name, batch, size, seed)
        pairs = [", ".join(f"{e:.1e}" for e in row[k]) for k in ("gradients", "same", "statistics")]
        counts = ", ".join(map(str, row["flips"]))
        print(f"| {name} | {row['values'][0]} | {counts} | {' | '.join(pairs)} |", flush=True)


if __name__ == "__main__":
    main()
