"""The two formats of `torch.save`: a zip file (torch 1.6 and up), a chain of pickles (before)."""

import io
import zipfile
from typing import Any

import numpy as np

from ppcls_lite.weights.pickles import load_pickle, require, storage_dtype
from ppcls_lite.weights.raw import Damaged, Refused, decode, empty, item_size

LEGACY_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")


def read_torch_zip(archive: zipfile.ZipFile, size: int) -> Any:
    """Reads what `torch.save` put into a zip file.

    Args:
        size: of the file, in bytes.
    """
    members = {info.filename: info for info in archive.infolist()}
    prefix = next(name for name in members if name.endswith("data.pkl")).removesuffix("data.pkl")
    if f"{prefix}constants.pkl" in members:
        raise Refused("it is a TorchScript program")
    # torch compresses no tables of arrays: what expands or overlaps was made to fill the memory.
    if any(info.compress_type != zipfile.ZIP_STORED for info in members.values()):
        raise Damaged("its members are compressed, which torch does not do")
    if sum(info.file_size for info in members.values()) > size:
        raise Damaged("its members are larger than the file")
    if f"{prefix}byteorder" in members and archive.read(f"{prefix}byteorder") != b"little":
        raise Damaged("its values are big-endian")
    storages: dict[str, np.ndarray] = {}

    def find_storage(name: tuple[Any, ...]) -> np.ndarray:
        _, kind, key, _, count = name
        if require(key, str) not in storages:
            dtype = storage_dtype(require(kind, str))
            storages[key] = decode(archive.read(f"{prefix}data/{key}"), dtype)
            if storages[key].size != count:
                raise Damaged(f"storage {key} has {storages[key].size} values, not {count}")
        return storages[key]

    return load_pickle(io.BytesIO(archive.read(f"{prefix}data.pkl")), find_storage)


def read_torch_legacy(data: bytes) -> Any:
    """Reads what `torch.save` wrote before 1.6.

    Pickles of a magic number, a version, a description of the machine, the object and a list of
    its storages follow one another; then comes each storage, its length before its values.
    """
    file = io.BytesIO(data)
    storages: dict[str, tuple[np.ndarray, str]] = {}
    bytes_left = len(data)

    def find_storage(name: tuple[Any, ...]) -> np.ndarray:
        # Zeros for now: the values come after the pickle that describes their use.
        nonlocal bytes_left
        _, kind, key, _, count, view = name
        if view is not None:
            raise Damaged("it has a storage inside a storage, as torch wrote before 0.4")
        if require(key, str) not in storages:
            dtype = storage_dtype(require(kind, str))
            bytes_left -= require(count, int) * item_size(dtype)
            if bytes_left < 0 or count < 0:
                raise Damaged("its storages are larger than the file")
            storages[key] = empty(count, dtype), dtype
        return storages[key][0]

    for _ in range(2):
        load_pickle(file, find_storage)
    if not load_pickle(file, find_storage)["little_endian"]:
        raise Damaged("its values are big-endian")
    content = load_pickle(file, find_storage)
    for key in load_pickle(file, find_storage):
        values, dtype = storages[require(key, str)]
        if int.from_bytes(file.read(8), "little") != values.size:
            raise Damaged(f"storage {key} is not the length that it should be")
        values[:] = decode(file.read(values.size * item_size(dtype)), dtype)
    return content
