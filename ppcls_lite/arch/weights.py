"""Weights into a model: every mismatch is named."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ppcls_lite.arch.formats import read_weights
from ppcls_lite.errors import UserError, nearest
from ppcls_lite.program import command

if TYPE_CHECKING:
    import paddle


@dataclass(frozen=True)
class LoadReport:
    """Names of the tensors a file gave, and of those left at their initial values."""

    loaded: tuple[str, ...]
    reinitialised: tuple[str, ...]


def load_weights(
    model: "paddle.nn.Layer",
    source: str | Path | Mapping[str, np.ndarray],
    *,
    replace_head: bool = False,
) -> LoadReport:
    """Puts the arrays of a file (or a mapping) into a model; all of them must fit.

    Args:
        model: the network to fill.
        source: path of a weights file (see `formats`), or the arrays themselves.
        replace_head: when only the last linear layer differs in its number of classes, keep its
            initial values (fine-tuning) instead of refusing.

    Raises:
        UserError: names or shapes differ; the message is a table of every difference.
    """
    arrays = source if isinstance(source, Mapping) else read_weights(source)
    label = "the weights" if isinstance(source, Mapping) else str(source)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    missing = [name for name in wanted if name not in arrays]
    unexpected = [name for name in arrays if name not in wanted]
    misshaped = [n for n in wanted if n in arrays and tuple(arrays[n].shape) != wanted[n]]

    last_layer = list(wanted)[-1].rpartition(".")[0]
    head = [name for name in misshaped if name.rpartition(".")[0] == last_layer]
    head_only = bool(head) and head == misshaped and not missing and not unexpected
    if missing or unexpected or (misshaped and not (head_only and replace_head)):
        rows = [f"  missing     {n} {wanted[n]}{nearest(n, unexpected)}" for n in missing]
        rows += [f"  unexpected  {n} {arrays[n].shape}{nearest(n, missing)}" for n in unexpected]
        rows += [
            f"  shape       {n} {arrays[n].shape}, the model has {wanted[n]}" for n in misshaped
        ]
        shown = rows[:20] + ([f"  ... and {len(rows) - 20} more"] if len(rows) > 20 else [])
        hint = f"check --model; {command('list_models')} names them all"
        if head_only:
            hint = f"--num-classes {arrays[head[-1]].shape[-1]}"
        raise UserError("\n".join([f"{label} and the model differ:", *shown]), hint)

    loaded = {name: arrays[name] for name in wanted if name not in head}
    model.set_state_dict(loaded)
    return LoadReport(tuple(loaded), tuple(head))
