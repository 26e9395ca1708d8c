"""The C interface of the kernels: the structs of the headers here, which are read from them.

A pointer is an address, null means "none" or "not wanted", as the C++ side says.
"""

import ctypes
import re
from pathlib import Path
from typing import Any

# Values of the enums in lanes.h and squeeze_excite.h.
NONE, RELU, RELU6, HARD_SWISH = range(4)
HARD_SIGMOID, SIGMOID = range(2)

_NUMBERS = {"Index": ctypes.c_int64, "float": ctypes.c_float, "double": ctypes.c_double}


def _fields(header: str, struct: str, *parts: type[ctypes.Structure]) -> list[tuple[str, Any]]:
    """Reads the fields of a struct, which end at its first function; `parts` are structs in it.

    Raises:
        IndexError, KeyError: the struct, or the type of a field, is not there.
    """
    text = Path(__file__).with_name(header).read_text(encoding="utf-8")
    body = re.sub(r"//.*", "", text).split(f"struct {struct} {{\n")[1].split("\n};")[0]
    kinds = _NUMBERS | {part.__name__: part for part in parts}
    fields: list[tuple[str, Any]] = []
    for declaration in body.split(";"):
        words = [w for w in declaration.replace("*", " * ").split() if w != "const"]
        if not words or "(" in declaration:
            break
        kind, names = words[0], "".join(words[1:])
        fields += [
            (name.strip("*"), ctypes.c_void_p if "*" in names else kinds[kind])
            for name in names.split(",")
        ]
    return fields


class BatchNorm(ctypes.Structure):
    """`BatchNorm` of batch_norm.h."""

    _fields_ = _fields("batch_norm.h", "BatchNorm")


class SqueezeExcite(ctypes.Structure):
    """`SqueezeExcite` of squeeze_excite.h."""

    _fields_ = _fields("squeeze_excite.h", "SqueezeExcite")


class Block(ctypes.Structure):
    """`Block` of block.h."""

    _fields_ = _fields("block.h", "Block", BatchNorm, SqueezeExcite)


class Stem(ctypes.Structure):
    """`Stem` of ends.h."""

    _fields_ = _fields("ends.h", "Stem", BatchNorm)


class Head(ctypes.Structure):
    """`Head` of ends.h."""

    _fields_ = _fields("ends.h", "Head", BatchNorm)


class Dense(ctypes.Structure):
    """`Dense` of dense.h."""

    _fields_ = _fields("dense.h", "Dense")


# Functions of the library, each of which takes a pointer to one struct.
FUNCTIONS = {
    "mobile_stem_forward": Stem,
    "mobile_stem_backward": Stem,
    "mobile_block_forward": Block,
    "mobile_block_backward": Block,
    "mobile_head_forward": Head,
    "mobile_head_backward": Head,
    "mobile_dense_forward": Dense,
    "mobile_dense_backward": Dense,
}
