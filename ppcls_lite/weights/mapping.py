"""Arrays from another framework's layout into ours and back."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import paddle
from paddle import nn

from ppcls_lite.arch.zoo import ZOO, build_model
from ppcls_lite.errors import UserError, nearest
from ppcls_lite.program import command
from ppcls_lite.weights.formats import WeightsFile
from ppcls_lite.weights.layouts import LAYOUTS, Entry, Forms, forms, recognise, unwrapped
from ppcls_lite.weights.tflite_files import Network
from ppcls_lite.weights.tflite_fit import differences, may_fit

Arrays = Mapping[str, np.ndarray]  # by name, in any layout
# torch's batch norm counts batches; nothing reads the counts as long as momentum is a number.
_COUNTER = ".num_batches_tracked"
# Clipping thresholds of a quantized network (`slim.pact`): a float one has no use for them, and a
# quantized one that is given none finds its own.
THRESHOLD = ".alpha"


def to_ours(
    arrays: Arrays,
    model: nn.Layer,
    *,
    replace_head: bool = False,
    label: str = "the weights",
    network: Network | None = None,
    flags: Sequence[str] = (),
) -> tuple[dict[str, np.ndarray], str]:
    """Arrays of any layout under our names and in our shapes.

    Args:
        model: the network they are for.
        replace_head: when only the head differs, in its number of classes, its layers or their
            names, or is not there at all, leave it out of what is returned instead of refusing.
        label: what to call the arrays in a message.
        network: what a TFLite file computes with the arrays; the model has to compute the same.
        flags: those that name the arrays on a command line, for a hint.

    Returns:
        the arrays in our order, and the key of LAYOUTS they were in.

    Raises:
        UserError: names or shapes differ; the message is a table of every difference.
    """
    fit = _Fit(arrays, model, network, forms(model))
    if fit.differs or (fit.replaced and not replace_head):
        form = f" ({fit.layout} layout)" if fit.layout != "ours" else ""
        table = [f"{label}{form} and the model differ:", *fit.table()]
        raise UserError("\n".join(table), _hint(fit, arrays, network, flags))
    kept = {e.ours: e.to_ours(fit.arrays[e.theirs]) for e in fit.wanted if e not in fit.replaced}
    if LAYOUTS[fit.layout].folded:
        kept = _unfolded(kept, model)
    return kept, fit.layout


def with_rows(
    arrays: Arrays, model: nn.Layer, rows: Sequence[int], network: Network | None = None
) -> Arrays:
    """Returns arrays of any layout whose last layer has other classes.

    Args:
        arrays: the arrays; without a last layer they come back as they are.
        model: the network they are for.
        rows: for each of its classes the class of the arrays, [K]; -1 where it does not matter.
        network: as in `to_ours`.
    """
    fit = _Fit(arrays, model, network, forms(model))
    weight, bias = fit.classifier
    if fit.differs or weight.theirs not in fit.arrays or bias.theirs not in fit.arrays:
        return arrays
    chosen = np.maximum(rows, 0)
    axes = {weight: 0 if weight.transposed else -1, bias: 0}
    changed = {e.theirs: np.take(fit.arrays[e.theirs], chosen, axis) for e, axis in axes.items()}
    return {**fit.arrays, **changed}


def count_classes(arrays: Arrays, name: str, *, label: str) -> int:
    """Number of classes that weights for the zoo's model `name` were trained for; 1000, ImageNet's,
    for a network without its last layer.

    Raises:
        UserError: as `to_ours`.
    """
    model, tensors = _skeleton(name)
    arrays = unwrapped(arrays, tensors)
    _, layout = to_ours(arrays, model, replace_head=True, label=label)
    bias = arrays.get(tensors[layout][-1].theirs)
    return 1000 if bias is None else bias.shape[-1]


def network_of_file(
    file: WeightsFile, name: str | None, *, label: str
) -> tuple[str | None, dict[str, Any]]:
    """The model of the zoo that a TFLite file is of, and what it overrides: TensorFlow's padding in
    a network that has another, where nothing else makes it fit.

    Args:
        name: the model asked for, None for any.

    Returns:
        `name` and no overrides for a file that fits nothing.

    Raises:
        UserError: it fits several.
    """
    for overrides in ({}, {"same_padding": True}):
        fitting = fitting_models(file.arrays, file.network, name, **overrides)
        if len(fitting) > 1:
            raise UserError(
                f"{label} fits {' and '.join(fitting)}: which one is it?", f"--model {fitting[0]}"
            )
        if fitting:
            return fitting[0], overrides
    return name, {}


def fitting_models(
    arrays: Arrays,
    network: Network | None = None,
    name: str | None = None,
    **overrides: Any,
) -> list[str]:
    """Names the models of the zoo that arrays fit, but for the head, and whose they are.

    Args:
        network: what a TFLite file computes with them.
        name: the only model to try; None tries all.
        overrides: of the models, see `build_model`.
    """
    fitting = []
    for spec in ZOO:
        if name not in (None, spec.name) or not (network is None or may_fit(arrays, spec.table)):
            continue
        model, tensors = _skeleton(spec.name, *overrides.items())
        fit = _Fit(arrays, model, network, tensors)
        sources = LAYOUTS[fit.layout].sources
        if not fit.differs and (sources is None or sources[:1] == (spec.source,)):
            fitting.append(spec.name)
    return fitting


@cache
def _skeleton(name: str, *overrides: tuple[str, Any]) -> tuple[nn.Layer, Forms]:
    """A model's names and shapes without values, kept: all of them take some seconds."""
    with paddle.LazyGuard():
        model = build_model(name, **dict(overrides))
    return model, forms(model)


class _Fit:
    """Arrays beside a model.

    Attributes:
        layout: of the arrays, a key of LAYOUTS.
        arrays: those that count.
        wanted: what the model has.
        classifier: of `wanted`, weight and bias of the last layer.
        replaced: of the head, layers that are missing or of other shapes, and the last one after
            any such.
        differs: there are other differences.
    """

    def __init__(
        self, arrays: Arrays, model: nn.Layer, network: Network | None, tensors: Forms
    ) -> None:
        arrays = unwrapped(arrays, tensors)
        self.layout = "tflite" if network is not None else recognise(arrays, tensors)
        wanted = tensors.get(self.layout, [])
        ours = {entry.ours for entry in wanted}
        arrays = {
            name: array
            for name, array in arrays.items()
            if not name.endswith(_COUNTER) and (name in ours or not name.endswith(THRESHOLD))
        }
        wanted = [e for e in wanted if e.theirs in arrays or not e.ours.endswith(THRESHOLD)]
        known = {entry.theirs for entry in wanted}
        if LAYOUTS[self.layout].folded:  # where there is no bias, it has zeros
            arrays = {n: a for n, a in arrays.items() if n in known or n[-5:] != ".bias" or a.any()}
        self.arrays, self.wanted = arrays, wanted
        self._missing = [entry for entry in wanted if entry.theirs not in arrays]
        self._unexpected = [name for name in arrays if name not in known]
        there = [entry for entry in wanted if entry.theirs in arrays]
        self._misshaped = [e for e in there if tuple(arrays[e.theirs].shape) != e.their_shape]
        self._computed: list[str] = []
        if network is not None:
            self._computed = list(differences(network, model, LAYOUTS[self.layout].prefix))
        plain = [e for e in wanted if not e.ours.endswith(THRESHOLD)]
        self.classifier = plain[-2:]  # weight and bias
        last = [e.ours for e in self.classifier]
        body = {e.ours: e for e in plain
                if e.ours not in last and not e.ours.startswith("classifier.")}  # fmt: skip
        unfit = [*self._missing, *self._misshaped]
        fresh = {_layer(e) for e in unfit if e.ours not in body}
        if fresh:  # what comes before the last layer has changed
            fresh.add(_layer(self.classifier[0]))
        self.replaced = [e for e in plain if _layer(e) in fresh]
        other = [e for e in unfit if e.ours in body]
        # A head of another make has other names; those of the body are no head's.
        parts = {_part(e.theirs) for e in body.values()} if fresh and network is None else None
        other_names = [n for n in self._unexpected if parts is None or _part(n) in parts]
        self.differs = bool(other or other_names or self._computed)

    @property
    def is_of_other_classes(self) -> bool:
        """Nothing but the number of classes differs."""
        there = all(entry.theirs in self.arrays for entry in self.classifier)
        same = not self.differs and not self._unexpected and self.replaced == self.classifier
        return same and there

    def table(self) -> list[str]:
        """Every difference; the first 20 of more."""
        missing = [entry.theirs for entry in self._missing]
        rows = [f"  missing     {e.theirs} {e.their_shape}{nearest(e.theirs, self._unexpected)}"
                for e in self._missing]  # fmt: skip
        rows += [
            f"  unexpected  {n} {tuple(self.arrays[n].shape)}{nearest(n, missing)}"
            for n in self._unexpected
        ]
        rows += [
            f"  shape       {e.theirs} {tuple(self.arrays[e.theirs].shape)}, the model has"
            f" {e.their_shape}"
            for e in self._misshaped
        ]
        rows += self._computed
        return rows[:20] + ([f"  ... and {len(rows) - 20} more"] if len(rows) > 20 else [])


def _layer(entry: Entry) -> str:
    return entry.ours.rpartition(".")[0]


def _part(name: str) -> str:
    return name.partition(".")[0]


def _hint(fit: _Fit, arrays: Arrays, network: Network | None, flags: Sequence[str]) -> str:
    if fit.is_of_other_classes:
        return f"--num-classes {fit.arrays[fit.replaced[-1].theirs].shape[-1]}"
    if not fit.differs:
        return command("train", *(flags or ("--pretrained", "WEIGHTS")), "--data-path", "DATA")
    if fitting := fitting_models(arrays, network):
        return _one_of(fitting)
    if network and (fitting := fitting_models(arrays, network, same_padding=True)):
        return _one_of(fitting, " --same-padding")
    return f"{command('list_models')}  # names all that --model may be"


def _one_of(names: Sequence[str], more: str = "") -> str:
    """The flag with the first of several, and which others there are."""
    others = f"  # or {' or '.join(names[1:])}" if names[1:] else ""
    return f"--model {names[0]}{more}{others}"


def _unfolded(kept: Arrays, model: nn.Layer) -> dict[str, np.ndarray]:
    """Adds what makes batch norm add its bias and do no more, in the model's order."""
    rest = {}
    for name, layer in model.named_sublayers():
        if isinstance(layer, nn.BatchNorm2D):
            one = np.ones(layer.weight.shape, np.float32)
            rest[f"{name}.weight"], rest[f"{name}._mean"] = one, np.zeros_like(one)
            rest[f"{name}._variance"] = one - np.float32(layer._epsilon)
    found = {**kept, **rest}
    return {name: found[name] for name in model.state_dict() if name in found}


def from_ours(arrays: Arrays, model: nn.Layer, layout: str) -> dict[str, np.ndarray]:
    """Our arrays under a layout's names and in its shapes; the way back from `to_ours`.

    torch's counters of batches start at 0. torchvision's MNASNet also wants the version of its
    format, which no file of arrays has: `state._metadata = {"": {"version": 2}}` before loading.

    Raises:
        UserError: the framework has no network of these tensors.
    """
    wanted = forms(model).get(layout)
    sources = LAYOUTS[layout].sources
    source = model.flavour.source
    if wanted is None or (sources is not None and source not in sources):
        raise UserError(
            f"{layout} has no network with the tensors of {source}'s {type(model).__name__}",
            "--to ours"
            + (f"  # or {source}" if source in ("torchvision", "timm", "ppcls") else ""),
        )
    theirs = {}
    for entry in wanted:
        theirs[entry.theirs] = entry.from_ours(arrays[entry.ours])
        layer, _, kind = entry.theirs.rpartition(".")
        if kind == "running_var":
            theirs[layer + _COUNTER] = np.zeros((), np.int64)
    return theirs
