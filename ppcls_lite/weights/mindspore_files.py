"""MindSpore's checkpoints: a protobuf message of named tensors."""

import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from ppcls_lite.weights.raw import Damaged, decode, shaped


def read_mindspore(data: bytes) -> dict[str, np.ndarray]:
    """Reads a MindSpore checkpoint.

    It is a protobuf message: values (field 1), each with a tag (1) and a tensor (2) of dims (1),
    type (2) and content (3). A large tensor is spread over several values of one tag.
    """
    if data[-17:-10] == b"crc_num":
        if zlib.crc32(data[:-17]) != int.from_bytes(data[-10:], "big"):
            raise Damaged("its checksum is not the one it carries")
        data = data[:-17]
    parts: dict[str, tuple[tuple[int, ...], str, list[bytes]]] = {}
    for number, value in _fields(data):
        if number != 1 or not isinstance(value, bytes):
            raise Damaged(f"it has a field {number} that MindSpore does not write")
        entry = dict(_fields(value))
        tensor = list(_fields(entry[2]))
        dims = tuple(size for field, size in tensor if field == 1)
        dtype, content = bytes.decode(dict(tensor)[2]).lower(), dict(tensor)[3]
        known = parts.setdefault(bytes.decode(entry[1]), (dims, dtype, []))
        if known[:2] != (dims, dtype):
            raise Damaged(f"it has two tensors {entry[1].decode()}")
        known[2].append(content)
    arrays = {}
    for name, (dims, dtype, contents) in parts.items():
        if dtype == "str":  # a remark of the training script
            continue
        values = decode(b"".join(contents), dtype)
        arrays[name] = shaped(values, () if dims == (0,) and values.size == 1 else dims)
    return arrays


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protobuf message: (number, int or bytes)."""
    position = 0

    def varint() -> int:
        nonlocal position
        value = shift = 0
        while shift < 64:
            byte = data[position]
            position += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
        raise Damaged("it has a number of more than ten bytes")

    while position < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        elif key & 7 == 2:
            length = varint()
            if position + length > len(data):
                raise Damaged("it ends in the middle of a tensor")
            yield key >> 3, data[position : position + length]
            position += length
        else:
            raise Damaged(f"it has a field of the type {key & 7}, which MindSpore does not write")
