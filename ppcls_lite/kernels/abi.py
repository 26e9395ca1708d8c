"""The C interface of the kernels: the structs of the headers here.

A C compiler lays out fields in order, so here stand the same names in the same order. Numbers are
64 bits wide throughout; a null pointer means "none" or "not wanted", as the C++ side says.
"""

import ctypes
from typing import Any

# Values of the enums in lanes.h and squeeze_excite.h.
NONE, RELU, RELU6, HARD_SWISH = range(4)
HARD_SIGMOID, SIGMOID = range(2)


def _numbers(names: str) -> list[tuple[str, Any]]:
    return [(name, ctypes.c_int64) for name in names.split()]


def _pointers(names: str) -> list[tuple[str, Any]]:
    return [(name, ctypes.c_void_p) for name in names.split()]


class BatchNorm(ctypes.Structure):
    """`BatchNorm` of batch_norm.h."""

    _fields_ = [
        *_pointers("gamma beta running_mean running_var mean inv_std d_gamma d_beta"),
        ("epsilon", ctypes.c_float),
        ("momentum", ctypes.c_float),
        *_numbers("frozen"),
    ]


class SqueezeExcite(ctypes.Structure):
    """`SqueezeExcite` of squeeze_excite.h."""

    _fields_ = [
        *_numbers("squeezed activation gate_kind first"),
        ("slope", ctypes.c_double),
        *_pointers("reduce_weight reduce_bias restore_weight restore_bias"),
        *_pointers("pooled hidden_y hidden gate_y gate"),
        *_pointers("d_reduce_weight d_reduce_bias d_restore_weight d_restore_bias"),
        *_pointers("d_hidden_y d_gate_y"),
    ]


class Block(ctypes.Structure):
    """`Block` of block.h."""

    _fields_ = [
        *_numbers("threads images height width in_channels expanded out_channels"),
        *_numbers("kernel stride pad_top pad_left out_height out_width activation shortcut"),
        *_pointers("x expand_weight depthwise_weight project_weight"),
        ("expand_bn", BatchNorm),
        ("depthwise_bn", BatchNorm),
        ("project_bn", BatchNorm),
        ("se", SqueezeExcite),
        *_pointers("expand_z depthwise_z project_z y"),
        *_pointers("dy dx d_expand_weight d_depthwise_weight d_project_weight"),
        *_pointers("d_expand_y d_depthwise_y"),
    ]


class Stem(ctypes.Structure):
    """`Stem` of ends.h."""

    _fields_ = [
        *_numbers("threads images height width in_channels out_channels"),
        *_numbers("kernel stride pad_top pad_left out_height out_width activation"),
        *_pointers("x weight"),
        ("bn", BatchNorm),
        *_pointers("z y dy d_weight d_y"),
    ]


class Head(ctypes.Structure):
    """`Head` of ends.h."""

    _fields_ = [
        *_numbers("threads images pixels in_channels out_channels activation"),
        *_pointers("x weight"),
        ("bn", BatchNorm),
        *_pointers("z y dy dx d_weight d_y"),
    ]


class Dense(ctypes.Structure):
    """`Dense` of dense.h."""

    _fields_ = [
        *_numbers("threads rows in out"),
        *_pointers("x weight bias y dy dx d_weight d_bias"),
    ]


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
