"""Reads the pickles of Paddle and torch: arrays, tables, numbers and texts, and nothing is run.

The standard Unpickler trusts its bytes even when it may import nothing: in Python 3.11 ten bytes
made it take 4 GB (a large memo number), and a dictionary key of deeply nested tuples ended the
process. So `pickletools` splits the bytes into opcodes, and what these may do is written here.
"""

import pickletools
import re
from collections.abc import Callable, Iterable
from math import prod
from typing import Any, BinaryIO

import numpy as np

from ppcls_lite.weights.raw import Damaged, Refused, decode, shaped


class Name(str):
    """A function or class that a pickle names. Only the name: nothing is imported."""


class _Ignored:
    """Stands for an object that is no part of the weights, like a run's settings."""


class _Array:
    """An array whose values come later in the pickle.

    Not an ndarray filled by its own `__setstate__`: that frees memory others may look at.
    """

    values: np.ndarray | None = None


_MARK = _Ignored()

_LITERALS = {
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT",
    "SHORT_BINSTRING", "BINSTRING", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
    "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_NEW: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "MARK": lambda: _MARK,
}
# How many values of the stack each of these takes; None takes those above the last mark.
_COLLECTED = {
    "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "TUPLE": None, "APPEND": 1, "APPENDS": None,
    "SETITEM": 2, "SETITEMS": None,
}  # fmt: skip


def load_pickle(file: BinaryIO, find_storage: Callable[[tuple[Any, ...]], np.ndarray]) -> Any:
    """Reads one pickle, up to its end, from a file positioned at its start.

    Args:
        file: may hold more after the pickle.
        find_storage: called with a persistent id, torch's name for the values of a tensor.

    Raises:
        Refused: the pickle names a function or class that a table of arrays does not need.
        ValueError, IndexError, KeyError, TypeError: it is damaged.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    texts: dict[str, bytes] = {}
    operations: Iterable[tuple[Any, Any, Any]] = pickletools.genops(file)
    for name, arg in ((opcode.name, arg) for opcode, arg, _ in operations):
        if name in _LITERALS:
            stack.append(arg)
        elif name in _NEW:
            stack.append(_NEW[name]())
        elif name in _COLLECTED:
            _collect(stack, name)
        elif name == "GLOBAL":
            stack.append(_known(arg.replace(" ", ".", 1)))
        elif name == "STACK_GLOBAL":
            last, module = stack.pop(), stack.pop()
            stack.append(_known(f"{require(module, str)}.{require(last, str)}"))
        elif name in ("REDUCE", "NEWOBJ"):
            args, callee = require(stack.pop(), tuple), require(stack.pop(), Name)
            if callee == "_codecs.encode":
                # Once per text: many copies of a long one would fill the memory.
                text = require(args[0], str)
                if text not in texts:
                    texts[text] = text.encode("latin1")
                stack.append(texts[text])
            else:
                stack.append(_call(callee, args))
        elif name == "BUILD":
            state = stack.pop()
            _set_state(stack[-1], state)
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if name == "MEMOIZE" else arg] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[arg])
        elif name == "BINPERSID":
            stack.append(find_storage(require(stack.pop(), tuple)))
        elif name == "STOP":
            return stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise Damaged(f"its pickle holds {name}, which no table of arrays needs")
    raise Damaged("its pickle has no end")


def array_of(value: Any) -> np.ndarray | None:
    """The array behind an entry of an unpickled table, None when the entry is none."""
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
        value = value[1]  # a tensor of Paddle's, with its name
    if isinstance(value, _Array):
        value = value.values
    return value if isinstance(value, np.ndarray) else None


def _collect(stack: list[Any], name: str) -> None:
    """Puts values from the end of the stack into a tuple, list or table."""
    count = _COLLECTED[name]
    items: list[Any] = []
    while len(items) != count and (item := stack.pop()) is not _MARK:
        items.append(item)
    items.reverse()
    if name.startswith("TUPLE"):
        stack.append(tuple(items))
    elif name.startswith("APPEND"):
        require(stack[-1], list).extend(items)
    else:
        _set_items(require(stack[-1], dict), zip(items[::2], items[1::2], strict=True))


def require(value: Any, kind: type) -> Any:
    """Passes a value on that has to be of this type.

    Above all before it becomes the key of a dictionary: the hash of deeply nested tuples overflows
    the stack of the process.
    """
    if not isinstance(value, kind):
        raise Damaged(f"its pickle has a {type(value).__name__} for a {kind.__name__}")
    return value


def _set_items(table: dict[Any, Any], items: Any) -> None:
    for key, value in items:
        if not isinstance(key, str | int):
            raise Damaged(f"a {type(key).__name__} is the name of an entry")
        table[key] = value


def _dtype(code: str, *_: Any) -> np.dtype:
    """A plain type of at most 8 bytes, never an object or a record."""
    if not re.fullmatch(r"[<|=]?(b1|[iu][1248]|f[248])", code):
        raise Damaged(f"it holds values of type {code[:50]!r}")
    return np.dtype(code)


def _scalar(dtype: np.dtype, raw: bytes) -> np.ndarray:
    return shaped(decode(raw, require(dtype, np.dtype).name), ())


def _array(raw: bytes, dtype: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    values = decode(raw, require(dtype, np.dtype).name)
    fortran = order == "F"
    array = shaped(values, _sizes(shape)[::-1] if fortran else _sizes(shape))
    return array.T if fortran else array


def _sizes(values: tuple[int, ...]) -> tuple[int, ...]:
    if len(require(values, tuple)) > 64:
        raise Damaged(f"it has a tensor of {len(values)} dimensions")
    for value in values:
        if require(value, int) < 0:
            raise Damaged(f"it has a tensor with a size, stride or offset of {value}")
    return values


def _tensor(
    storage: np.ndarray,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    requires_grad: bool = False,
    hooks: Any = None,
    metadata: Any = None,
) -> np.ndarray:
    """A view of a storage, as torch describes it: elements, not bytes."""
    if require(storage, np.ndarray).ndim != 1 or not storage.flags.c_contiguous:
        raise Damaged("it has a tensor inside a tensor")
    (offset,) = _sizes((offset,))
    if metadata:
        raise Damaged("it has a conjugated or negated tensor")
    if len(_sizes(size)) != len(_sizes(stride)):
        raise Damaged(f"it has a tensor of size {size} with the strides {stride}")
    if 0 in size:
        return np.zeros(size, storage.dtype)
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    # The second rule refuses expanded tensors: a few bytes that pretend to be gigabytes.
    if last >= storage.size or prod(size) > storage.size:
        raise Damaged(f"it has a tensor of size {size} in a storage of {storage.size} values")
    step = storage.itemsize
    return np.ndarray(size, storage.dtype, storage, offset * step, [s * step for s in stride])


_CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": lambda: {},
    "builtins.tuple": lambda items: require(items, tuple),  # Paddle's tensors: (name, array)
    "builtins.bytes": lambda: b"",  # how protocol 2 writes no bytes
    "numpy.dtype": _dtype,
    "numpy._core.multiarray._reconstruct": lambda *_: _Array(),
    "numpy._core.multiarray.scalar": _scalar,
    "numpy._core.numeric._frombuffer": _array,
    "torch.Size": lambda items: require(items, tuple),
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
    "argparse.Namespace": lambda: _Ignored(),
    "torch.device": lambda *_: _Ignored(),
}
_STORAGES = {
    f"torch.{name}Storage": dtype
    for name, dtype in {
        "Bool": "bool", "Char": "int8", "Short": "int16", "Int": "int32", "Long": "int64",
        "Byte": "uint8", "Half": "float16", "Float": "float32", "Double": "float64",
        "BFloat16": "bfloat16",
    }.items()
}  # fmt: skip


def storage_dtype(name: str) -> str:
    """The type of the values in one of torch's storage classes."""
    if name not in _STORAGES:
        raise Damaged(f"it has a storage of the class {name!r}")
    return _STORAGES[name]


def _known(name: str) -> Name:
    # Under numpy 1 the core was `numpy.core`, under Python 2 the builtins were `__builtin__`.
    name = name.replace("numpy.core", "numpy._core").replace("__builtin__", "builtins")
    if not (name in _CALLS or name in _STORAGES or name in ("numpy.ndarray", "_codecs.encode")):
        raise Refused(f"it asks to run {name[:100]}")
    return Name(name)


def _call(name: Name, args: tuple[Any, ...]) -> Any:
    if name not in _CALLS:
        raise Damaged(f"it calls {name}")
    return _CALLS[name](*args)


def _set_state(target: Any, state: Any) -> None:
    """BUILD: only arrays have a state of interest."""
    if isinstance(target, np.dtype):
        if require(state, tuple)[1] == ">":
            raise Damaged("its values are big-endian")
    elif isinstance(target, _Array):
        _, shape, dtype, is_fortran, raw = state
        if isinstance(raw, str):  # how Python 2 wrote bytes
            raw = raw.encode("latin1")
        target.values = _array(raw, dtype, shape, "F" if is_fortran else "C")
    elif not isinstance(target, dict | _Ignored):
        raise Damaged(f"it gives a state to a {type(target).__name__}")
