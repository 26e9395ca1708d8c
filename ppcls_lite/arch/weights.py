"""Weights in: files are read without running code from them, and every mismatch is named."""

import io
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ppcls_lite.errors import UserError

if TYPE_CHECKING:
    import paddle

# numpy's own classes are never handed to a pickle: setting the state of a real `dtype` can turn raw
# bytes into object pointers. These stand-ins take numbers and nothing else.


class _Dtype:
    """What a pickle says of a `numpy.dtype`."""

    def __init__(self, code: str, *_: bool) -> None:
        if not re.fullmatch(r"[fiu][1248]|b1", str(code)):
            raise pickle.UnpicklingError(f"it holds values of type {code}")
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] == ">":
            raise pickle.UnpicklingError("it was written on a big-endian machine")

    def plain(self) -> np.dtype:
        return np.dtype(self.code)


class _Array:
    """What a pickle says of a `numpy.ndarray`."""

    value: np.ndarray

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, data = state
        flat = np.frombuffer(data, dtype.plain())
        self.value = flat.reshape(shape, order="F" if is_fortran else "C").copy()


# All that `paddle.save` writes into a file of arrays; anything else is a call we refuse to make.
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy._core.multiarray", "_reconstruct"): lambda *_: _Array(),
    ("numpy._core.multiarray", "scalar"): lambda dtype, data: np.frombuffer(data, dtype.plain())[0],
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("collections", "OrderedDict"): dict,
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy.core", "numpy._core")  # its name under numpy 1
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks to run {module}.{name}")
        return _ALLOWED[module, name]


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
        if str(error).startswith("it "):
            raise UserError(
                f"{path} is refused: {error}, and a weights file may hold nothing but arrays of"
                " numbers",
                "get the file again from a source you trust",
            ) from None
        raise _damaged(path, len(data)) from None
    except (ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, RecursionError,
            TypeError, ValueError) as error:  # fmt: skip
        raise _damaged(path, len(data)) from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, not a table of named arrays")
    return {name: getattr(value, "value", value) for name, value in content.items()}


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
    """What a file gave.

    Attributes:
        loaded: names of the tensors it gave.
        reinitialised: names of those left at their initial values.
        layout: key of `layouts.LAYOUTS` that it was in; None when nothing was loaded.
    """

    loaded: tuple[str, ...]
    reinitialised: tuple[str, ...]
    layout: str | None = None


def load_weights(
    model: "paddle.nn.Layer",
    source: str | Path | Mapping[str, np.ndarray],
    *,
    replace_head: bool = False,
) -> LoadReport:
    """Puts the arrays of a file (or a mapping), in any of `layouts.LAYOUTS`, into a model.

    Args:
        model: the network to fill.
        source: path of a .pdparams file, or the arrays themselves.
        replace_head: when only the last linear layer differs in its number of classes, keep its
            initial values (fine-tuning) instead of refusing.

    Raises:
        UserError: names or shapes differ; the message is a table of every difference.
    """
    from ppcls_lite.arch.mapping import to_ours  # needs paddle; reading files does not

    arrays = source if isinstance(source, Mapping) else load_params(source)
    label = "the weights" if isinstance(source, Mapping) else str(source)
    ours, layout = to_ours(arrays, model, replace_head=replace_head, label=label)
    if layout == "d-li14":
        raise UserError(
            f"{label} ({layout} layout) would not compute what they were trained for: their network"
            " has squeeze-excite before the activation, none of these models has",
            "take torchvision's or timm's weights of the same network",
        )
    fresh = tuple(name for name in model.state_dict() if name not in ours)
    model.set_state_dict(ours)
    return LoadReport(tuple(ours), fresh, layout)
