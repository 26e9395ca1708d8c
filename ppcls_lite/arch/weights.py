"""Weights in: files are read without running code from them, and every mismatch is named."""

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ppcls_lite.errors import UserError, nearest

if TYPE_CHECKING:
    import paddle

# All that `paddle.save` puts into a file of arrays; anything else in a pickle is a call that
# we refuse to make. Under numpy 1 the core was `numpy.core`: such files are read as well.
_HARMLESS = {
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
    ("collections", "OrderedDict"),
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy.core", "numpy._core")
        if (module, name) not in _HARMLESS:
            raise pickle.UnpicklingError(f"it asks to run {module}.{name}")
        return super().find_class(module, name)


def read_arrays(path: str | Path) -> dict[str, Any]:
    """Reads a file written by `paddle.save` (.pdparams, .pdopt) without executing anything in it.

    Raises:
        UserError: the file is missing, cut short, not such a file, or asks to run code.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no weights file {path}", f"ls {path.parent}")
    data = path.read_bytes()
    try:
        content = _ArrayUnpickler(io.BytesIO(data)).load()
    except pickle.UnpicklingError as error:
        if "asks to run" in str(error):
            raise UserError(
                f"{path} is refused: {error}, and a weights file may hold nothing but arrays",
                "get the file again from a source you trust",
            ) from None
        raise _damaged(path, len(data)) from None
    except (EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise _damaged(path, len(data)) from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, not a table of named arrays")
    return content


def _damaged(path: Path, size: int) -> UserError:
    return UserError(
        f"{path} ({size} bytes) is damaged or is no Paddle weights file",
        "copy it again, or use an older checkpoint of the same folder",
    )


def load_params(path: str | Path) -> dict[str, np.ndarray]:
    """Reads the named arrays of a .pdparams file (see `read_arrays` for the errors raised)."""
    return {k: v for k, v in read_arrays(path).items() if isinstance(v, np.ndarray)}


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
        source: path of a .pdparams file, or the arrays themselves.
        replace_head: when only the last linear layer differs in its number of classes, keep its
            initial values (fine-tuning) instead of refusing.

    Raises:
        UserError: names or shapes differ; the message is a table of every difference.
    """
    arrays = source if isinstance(source, Mapping) else load_params(source)
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
        hint = "check --model; python tools/list_models.py names them all"
        if head_only:
            hint = f"--num-classes {arrays[head[-1]].shape[-1]}"
        raise UserError("\n".join([f"{label} and the model differ:", *shown]), hint)

    loaded = {name: arrays[name] for name in wanted if name not in head}
    model.set_state_dict(loaded)
    return LoadReport(tuple(loaded), tuple(head))
