"""Weights into a model: every mismatch is named."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle

from ppcls_lite.errors import UserError
from ppcls_lite.weights.find import Weights, find_weights
from ppcls_lite.weights.mapping import THRESHOLD, to_ours, with_rows


@dataclass(frozen=True)
class LoadReport:
    """What a file gave.

    Attributes:
        loaded: names of the tensors it gave.
        reinitialised: names of those left at their initial values; clipping thresholds, which come
            with the first batch, are not among them.
        layout: key of `layouts.LAYOUTS` that it was in; None when nothing was loaded.
        choice: which of several tables in the file was taken; "" where there was one.
        answers: logits, float32 [N, K], and labels, int64 [N], of the training pictures as they are
            evaluated, where the last layer was fitted to them.
    """

    loaded: tuple[str, ...]
    reinitialised: tuple[str, ...]
    layout: str | None = None
    choice: str = ""
    answers: tuple[np.ndarray, np.ndarray] | None = None

    def fresh_layers(self) -> str:
        """Says which layers of the head start at their initial values; "" where none does."""
        layers = {name.rpartition(".")[0] for name in self.reinitialised}
        if not layers:
            return ""
        which = (
            "the last layer starts" if len(layers) == 1 else "the hidden and the last layer start"
        )
        return f"{which} fresh: {', '.join(self.reinitialised)}"


def load_weights(
    model: paddle.nn.Layer,
    source: str | Path | Weights | Mapping[str, np.ndarray],
    *,
    replace_head: bool = False,
    rows: Sequence[int] | None = None,
) -> LoadReport:
    """Puts the arrays of a file (or a mapping), in any of `layouts.LAYOUTS`, into a model.

    Half and double precision become float32, which the models compute in.

    Args:
        model: the model to fill.
        source: path of a weights file (see `formats`), tag of published weights (`model.tag`),
            weights that were found already, or the arrays themselves.
        replace_head: when only the head differs (see `mapping.to_ours`), start what differs afresh
            (fine-tuning) instead of refusing.
        rows: for each class of the model the class of the weights whose row of the last layer it
            goes on with, -1 for a fresh start, [K]; None takes the layer as it is.

    Returns:
        Which tensors came from it, and which started afresh.

    Raises:
        UserError: names or shapes differ (the message is a table of every difference), the values
            are no floating-point numbers, or they are of a network that no model here computes.
    """
    if isinstance(source, Mapping):
        arrays, label, choice, network = source, "the weights", "", None
        flags: Sequence[str] = ()
    else:
        weights = find_weights(source)
        arrays, label, choice = weights.arrays, str(weights.path), weights.file.choice()
        network, flags = weights.file.network, weights.flags
    if rows is not None:
        arrays = with_rows(arrays, model, rows, network)
    ours, layout = to_ours(
        arrays, model, replace_head=replace_head, label=label, network=network, flags=flags
    )
    refuse_others(ours, layout, label)
    fresh = tuple(
        name for name in model.state_dict() if name not in ours and not name.endswith(THRESHOLD)
    )
    model.set_state_dict({name: array.astype(np.float32) for name, array in ours.items()})
    taken = [k for k, row in enumerate(rows or ()) if row >= 0]
    if rows is not None and not fresh and len(taken) < len(rows):
        head = tuple(name for name in ours if not name.endswith(THRESHOLD))[-2:]
        _start_head(model, head, taken)
        fresh = () if taken else head
    elif replace_head and fresh:
        _start_head(model, fresh[-2:], [])  # a hidden layer starts as the network does
    return LoadReport(tuple(ours), fresh, layout, choice)


def refuse_others(ours: Mapping[str, np.ndarray], layout: str, label: str) -> None:
    """Raises UserError where no model here computes with these arrays.

    Args:
        ours: the arrays by the model's names.
        layout: key of `layouts.LAYOUTS`.
        label: what a message calls them.
    """
    if layout == "d-li14":
        raise UserError(
            f"{label} ({layout} layout) would not compute what they were trained for: their network"
            " has squeeze-excite before the activation, none of these models has",
            "take torchvision's or timm's weights of the same model",
        )
    for name, array in ours.items():
        if array.dtype.kind != "f":
            raise UserError(
                f"{label}: {name} holds {array.dtype}, not floating-point numbers",
                "give the float weights that this file was made from",
            )


def _start_head(model: paddle.nn.Layer, names: tuple[str, ...], taken: list[int]) -> None:
    """Gives the fresh last layer small weights, so that its first, random gradients are small; the
    classes in `taken` keep theirs.

    A network's own start can be far too large behind trained features: EfficientNet's grows as the
    classes get fewer, which gives ten classes a first loss of 4 instead of 2.3.
    """
    values = model.state_dict()
    for name in names:
        shape = values[name].shape
        small = paddle.normal(0.0, 0.01, shape) if len(shape) > 1 else paddle.zeros(shape)
        array = small.numpy()  # [in, K] or [K]
        array[..., taken] = values[name].numpy()[..., taken]
        values[name].set_value(array)
