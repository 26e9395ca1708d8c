"""Arrays from another framework's layout into ours and back."""

from collections.abc import Iterable, Mapping

import numpy as np
import paddle
from paddle import nn

from ppcls_lite.arch.zoo import ZOO, build_model
from ppcls_lite.errors import UserError, nearest
from ppcls_lite.program import command
from ppcls_lite.weights.layouts import LAYOUTS, Entry, entries, recognise

# torch's batch norm counts batches; nothing reads the counts as long as momentum is a number.
_COUNTER = ".num_batches_tracked"
# Clipping thresholds of a quantized network (`slim.pact`): a float one has no use for them, and a
# quantized one that is given none finds its own.
THRESHOLD = ".alpha"


def to_ours(
    arrays: Mapping[str, np.ndarray],
    model: nn.Layer,
    *,
    replace_head: bool = False,
    label: str = "the weights",
) -> tuple[dict[str, np.ndarray], str]:
    """Arrays of any layout under our names and in our shapes.

    Args:
        model: the network they are for.
        replace_head: when only the last linear layer differs in its number of classes, leave it
            out of what is returned instead of refusing.
        label: what to call the arrays in a message.

    Returns:
        the arrays in our order, and the key of LAYOUTS they were in.

    Raises:
        UserError: names or shapes differ; the message is a table of every difference.
    """
    layout = recognise(arrays, model)
    wanted = entries(model, layout) or []
    ours = {entry.ours for entry in wanted}
    arrays = {
        name: array
        for name, array in arrays.items()
        if not name.endswith(_COUNTER) and (name in ours or not name.endswith(THRESHOLD))
    }
    wanted = [e for e in wanted if e.theirs in arrays or not e.ours.endswith(THRESHOLD)]
    missing, unexpected, misshaped = _differences(arrays, wanted)
    classifier = [e for e in wanted if not e.ours.endswith(THRESHOLD)][-2:]  # weight and bias
    head_only = bool(misshaped) and set(misshaped) <= set(classifier)
    head_only = head_only and not missing and not unexpected
    if missing or unexpected or (misshaped and not (head_only and replace_head)):
        table = _table(arrays, missing, unexpected, misshaped)
        if head_only:
            hint = f"--num-classes {arrays[classifier[-1].theirs].shape[-1]}"
        else:
            hint = _rows_hint(arrays)
        form = f" ({layout} layout)" if layout != "ours" else ""
        raise UserError("\n".join([f"{label}{form} and the model differ:", *table]), hint)
    kept = [entry for entry in wanted if not (misshaped and entry in classifier)]
    return {entry.ours: entry.to_ours(arrays[entry.theirs]) for entry in kept}, layout


def count_classes(arrays: Mapping[str, np.ndarray], name: str, *, label: str) -> int:
    """Number of classes that weights for the zoo's model `name` were trained for.

    Raises:
        UserError: as `to_ours`.
    """
    with paddle.LazyGuard():  # names and shapes without values
        model = build_model(name)
    _, layout = to_ours(arrays, model, replace_head=True, label=label)
    return arrays[(entries(model, layout) or [])[-1].theirs].shape[-1]


def _differences(
    arrays: Mapping[str, np.ndarray], wanted: list[Entry]
) -> tuple[list[Entry], list[str], list[Entry]]:
    """Returns what is missing, unexpected and of another shape."""
    missing = [entry for entry in wanted if entry.theirs not in arrays]
    known = {entry.theirs for entry in wanted}
    unexpected = [name for name in arrays if name not in known]
    there = [entry for entry in wanted if entry.theirs in arrays]
    misshaped = [e for e in there if tuple(arrays[e.theirs].shape) != e.their_shape]
    return missing, unexpected, misshaped


def _table(
    arrays: Mapping[str, np.ndarray],
    missing: Iterable[Entry],
    unexpected: list[str],
    misshaped: Iterable[Entry],
) -> list[str]:
    names = [entry.theirs for entry in missing]
    rows = [f"  missing     {e.theirs} {e.their_shape}{nearest(e.theirs, unexpected)}"
            for e in missing]  # fmt: skip
    rows += [f"  unexpected  {n} {tuple(arrays[n].shape)}{nearest(n, names)}" for n in unexpected]
    rows += [
        f"  shape       {e.theirs} {tuple(arrays[e.theirs].shape)}, the model has {e.their_shape}"
        for e in misshaped
    ]
    return rows[:20] + ([f"  ... and {len(rows) - 20} more"] if len(rows) > 20 else [])


def _rows_hint(arrays: Mapping[str, np.ndarray]) -> str:
    """Names the models of the zoo that the arrays do fit."""
    fitting = []
    for spec in ZOO:
        with paddle.LazyGuard():  # names and shapes without values
            model = build_model(spec.name)
        layout = recognise(arrays, model)
        wanted = entries(model, layout) or []
        missing, unexpected, misshaped = _differences(arrays, wanted)
        fits = not missing and not unexpected and set(misshaped) <= set(wanted[-2:])
        sources = LAYOUTS[layout].sources
        if fits and (sources is None or sources[:1] == (spec.source,)):
            fitting.append(spec.name)
    if fitting:
        return f"--model {' or '.join(fitting)}"
    return f"check --model; {command('list_models')} names them all"


def from_ours(
    arrays: Mapping[str, np.ndarray], model: nn.Layer, layout: str
) -> dict[str, np.ndarray]:
    """Our arrays under a layout's names and in its shapes; the way back from `to_ours`.

    torch's counters of batches start at 0. torchvision's MNASNet also wants the version of its
    format, which no file of arrays has: `state._metadata = {"": {"version": 2}}` before loading.

    Raises:
        UserError: the framework has no network of these tensors.
    """
    wanted = entries(model, layout)
    sources = LAYOUTS[layout].sources
    source = model.flavour.source
    if wanted is None or (sources is not None and source not in sources):
        raise UserError(
            f"{layout} has no network with the tensors of {source}'s {type(model).__name__}",
            "--to ours" + (f" or {source}" if source in ("torchvision", "timm", "ppcls") else ""),
        )
    theirs = {}
    for entry in wanted:
        theirs[entry.theirs] = entry.from_ours(arrays[entry.ours])
        layer, _, kind = entry.theirs.rpartition(".")
        if kind == "running_var":
            theirs[layer + _COUNTER] = np.zeros((), np.int64)
    return theirs
