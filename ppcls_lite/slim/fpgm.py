"""Filter pruning: Filter Pruning via Geometric Median, He et al. 2019, arXiv 1811.00250.

A filter near the geometric median of its layer is the one that the others can replace best. What is
pruned is the expanded channels of a block: its expanding and its depthwise convolution with their
batch norms, and the inputs and outputs that squeeze-excite and the projection have for them. What a
block takes and gives stays as it is, and so does what squeeze-excite squeezes to.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import paddle
from paddle import Tensor, nn

from ppcls_lite.arch.count import layer_macs, watch_forward
from ppcls_lite.arch.layers import InvertedResidual
from ppcls_lite.arch.units import Unit, units
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.slim.network import network_of

# Where the layers of a block have its expanded channels: the axis of their weights.
AXES = {"expand": 0, "depthwise": 0, "reduce": 1, "restore": 0, "project": 1}


def distance_sums(filters: np.ndarray) -> np.ndarray:
    """For each filter the sum of its Euclidean distances to all: [n, values] -> float64 [n].

    The filter of the smallest sum is the closest to the geometric median (paper, equation 7).
    """
    filters = filters.astype(np.float64)
    return np.array([np.linalg.norm(filters - one, axis=1).sum() for one in filters])


def blocks_of(model: nn.Layer) -> Iterator[tuple[str, dict[str, list[Unit]]]]:
    """Yields the name of each block and its layers by role, in the order of `expanded`."""
    every = units(model)
    for name, layer in model.named_sublayers():
        if isinstance(layer, InvertedResidual):
            roles: dict[str, list[Unit]] = {}
            for unit in every:
                if unit.ours.startswith(name + "."):
                    roles.setdefault(unit.role, []).append(unit)
            yield name, roles


def prune(model: nn.Layer, info: ModelInfo, ratio: float) -> tuple[nn.Layer, ModelInfo]:
    """Makes the network without `ratio` of the expanded channels of each block that expands.

    A channel is judged by all that makes it: its filters in both convolutions, as one.
    Differs from PaddleSlim: there by the expanding convolution alone.

    Args:
        model: network of `info`; it is left as it was.
        ratio: 0 to below 1; the count is rounded, and two channels are always left.

    Returns:
        The smaller network with the weights of what is left, and its description.
    """
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    expanded = []
    for _, roles in blocks_of(model):
        filters = [state[f"{roles[r][0].ours}.weight"] for r in ("expand", "depthwise")
                   if r in roles]  # fmt: skip
        channels = len(filters[-1])
        if "expand" in roles:
            sums = distance_sums(np.hstack([f.reshape(channels, -1) for f in filters]))
            gone = min(round(ratio * channels), channels - 2)
            kept = np.sort(np.argsort(sums, kind="stable")[gone:])
            _keep(state, roles, kept)
            channels = len(kept)
        expanded.append(channels)
    info = replace(info, overrides=info.overrides | {"expanded": expanded})
    smaller = network_of(info)
    smaller.set_state_dict({name: paddle.to_tensor(array) for name, array in state.items()})
    return smaller, info


def _keep(state: dict[str, np.ndarray], roles: dict[str, list[Unit]], kept: np.ndarray) -> None:
    """Leaves only the channels `kept` of a block's arrays."""
    for role, axis in AXES.items():
        for unit in roles.get(role, []):
            names = ["weight"] if axis else ["weight", "bias", "_mean", "_variance"]
            if axis and unit.part:
                continue  # the batch norm of what the block gives
            for name in (f"{unit.ours}.{own}" for own in names):
                if name in state:
                    state[name] = state[name].take(kept, axis)


def report(before: ModelInfo, after: ModelInfo, image_size: int) -> list[str]:
    """Lines that compare two networks block by block: expanded channels and multiply-adds.

    Args:
        image_size: height and width of the counted image, pixels.
    """
    (old, old_rest), (new, new_rest) = (_costs(info, image_size) for info in (before, after))
    lines = [f"pruned    {'block':<14}{'expanded':>14}{'M MACs':>22}"]
    for name, (channels, macs) in old.items():
        kept, left = new[name]
        lines.append(f"          {name:<14}{f'{channels} -> {kept}':>14}{_change(macs, left):>22}")
    totals = [sum(macs for _, macs in costs.values()) + rest
              for costs, rest in ((old, old_rest), (new, new_rest))]  # fmt: skip
    return [
        *lines,
        f"          {'network':<28}{_change(*totals):>22} ({totals[1] / totals[0]:.0%})",
    ]


def _costs(info: ModelInfo, image_size: int) -> tuple[dict[str, tuple[int, int]], int]:
    """Returns expanded channels and multiply-adds of each block, and those outside of blocks."""
    model = network_of(info)
    names = [name for name, _ in blocks_of(model)]
    macs = dict.fromkeys([*names, ""], 0)
    layers = {layer: name for name, layer in model.named_sublayers()
              if isinstance(layer, nn.Conv2D | nn.Linear)}  # fmt: skip

    def add(layer: nn.Layer, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        own = next((name for name in names if layers[layer].startswith(name + ".")), "")
        macs[own] += layer_macs(layer, output)

    watch_forward(model, list(layers), add, image_size)
    found = dict(model.named_sublayers())
    channels = {name: found[roles["depthwise"][0].ours].weight.shape[0]
                for name, roles in blocks_of(model)}  # fmt: skip
    return {name: (channels[name], macs[name]) for name in names}, macs[""]


def _change(before: int, after: int) -> str:
    return f"{before / 1e6:.3f} -> {after / 1e6:.3f}"
