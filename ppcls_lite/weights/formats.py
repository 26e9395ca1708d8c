"""Weights files of six frameworks, read without these frameworks and without running code."""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from ppcls_lite.errors import UserError
from ppcls_lite.files import FileContent
from ppcls_lite.program import list_command, os_remedy, quoted
from ppcls_lite.weights.mindspore_files import read_mindspore
from ppcls_lite.weights.pickles import array_of, load_pickle
from ppcls_lite.weights.raw import Damaged, Refused, Unread, decode, shaped
from ppcls_lite.weights.tflite_files import Network, TfliteContent, read_tflite
from ppcls_lite.weights.tflite_graph import MAGIC
from ppcls_lite.weights.torch_files import LEGACY_MAGIC, read_torch_legacy, read_torch_zip

# What files of them are called; their first bytes decide, these only tell paths from other words.
WEIGHTS_SUFFIXES = (
    ".pdparams", ".pth", ".pt", ".tar", ".bin", ".safetensors", ".ckpt", ".npz", ".tflite",
)  # fmt: skip
FORMATS = (".pdparams", ".pth/.pt (zip and legacy)", ".safetensors", ".ckpt", ".npz", ".tflite")

# Where training scripts put the weights among other things. The moving average comes first: where
# there is one, it is what the published accuracy was measured on.
NAME_TABLE = "StructuredToParameterName@@"  # paddle.save adds it to every table
_CONTAINERS = (
    "state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model",
)  # fmt: skip
# Put before every name by torch's DataParallel and AveragedModel, and by torch.compile.
_WRAPPERS = ("module.", "_orig_mod.")
_COUNT_OF_AVERAGES = "n_averaged"  # the one entry of an AveragedModel that has no wrapper

# What parsing damaged bytes may raise; none of it is worth a traceback to a user.
_PARSE_ERRORS = (
    ValueError, TypeError, LookupError, EOFError, OverflowError, MemoryError, RecursionError,
    SyntaxError, NotImplementedError, RuntimeError, struct.error, zipfile.BadZipFile, zlib.error,
    safetensors.SafetensorError,
)  # fmt: skip


@dataclass(frozen=True)
class WeightsFile:
    """What was found in a file.

    Attributes:
        format: for people, like "torch zip".
        container: key of the table that was taken, "" when the whole file is that table.
        others: keys of tables of arrays that were passed over.
        network: what a TFLite file computes with the arrays; None for others, which do not say.
        changes: what was done to the values of a TFLite file, in words.
    """

    arrays: dict[str, np.ndarray]
    format: str
    container: str
    others: tuple[str, ...]
    network: Network | None = None
    changes: str = ""

    def choice(self) -> str:
        """Says which of several tables of arrays was taken, or what was done to them; "" where
        there was only one and nothing to do."""
        if self.changes:
            return f" ({self.format}: {self.changes})"
        if not self.others:
            return ""
        taken = repr(self.container) if self.container else "the top"
        return f" (weights from {taken} of the file, not from {', '.join(map(repr, self.others))})"


def read_weights(source: str | Path | FileContent) -> dict[str, np.ndarray]:
    """Reads the named arrays of a weights file, in any of FORMATS (see `open_weights`)."""
    return open_weights(source).arrays


def open_weights(source: str | Path | FileContent) -> WeightsFile:
    """Reads a weights file; its format is told by its first bytes, never by its name.

    Values keep their type, except that bfloat16 becomes float32 (Paddle's own files hold
    bfloat16 as uint16, and so does what is returned). Names lose the `module.` of DataParallel.

    Raises:
        UserError: the file is missing, damaged, of no known format, holds no arrays, or would
            have to run code.
    """
    file = source if isinstance(source, FileContent) else FileContent(Path(source))
    path = file.path
    name, content = _read(file)
    if isinstance(content, TfliteContent):
        arrays = {key: np.array(array, order="C") for key, array in content.arrays.items()}
        return WeightsFile(arrays, name, "", (), content.network, content.changes)
    if not isinstance(content, dict):
        raise UserError(
            f"{path} holds a {type(content).__name__}, not a table of named arrays",
            "save the model's state_dict() alone in a file, and give that",
        )
    tables = {"": content} | _tables(content)
    found = {key: arrays for key, table in tables.items() if (arrays := _arrays(table))}
    if not content.keys() - {NAME_TABLE}:
        found[""] = {}  # the optimizer state of plain SGD, for one, or before the first step
    container = _choose(path, list(found))
    arrays = found[container]
    # Many names for the same bytes are a few bytes that pretend to be gigabytes.
    if sum(array.nbytes for array in arrays.values()) > _largest(len(file.data)):
        raise UserError(
            f"{path} is damaged: its arrays share their values",
            "get the file again from a source that you trust",
        )
    arrays = {key: np.array(array, order="C") for key, array in _unwrapped(arrays).items()}
    others = tuple(key for key in found if key not in (container, ""))
    return WeightsFile(arrays, name, container, others)


def _arrays(table: dict[Any, Any]) -> dict[str, np.ndarray]:
    entries = ((name, array_of(value)) for name, value in table.items() if isinstance(name, str))
    return {name: array for name, array in entries if array is not None}


def _tables(content: dict[Any, Any]) -> dict[str, dict[Any, Any]]:
    """The tables in a table, each one under its first name only."""
    first = {id(v): k for k, v in reversed(content.items()) if isinstance(k, str)}
    return {k: v for k, v in content.items() if first.get(id(v)) == k and isinstance(v, dict)}


def _largest(size: int) -> int:
    """Bytes of arrays that a file of this many bytes may hold; weights compress badly."""
    return max(2**26, 20 * size)


def _choose(path: Path, found: list[str]) -> str:
    known = [key for key in _CONTAINERS if key in found]
    if known:
        return known[0]
    if "" in found:
        return ""
    if len(found) == 1:
        return found[0]
    raise UserError(
        f"{path} holds {'no named arrays' if not found else 'tables of arrays under'}"
        f" {', '.join(map(repr, found))}".rstrip()
        + f"; the weights are looked for at the top and under {', '.join(_CONTAINERS)}",
        "save the state dict alone, under no other name",
    )


def _unwrapped(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    for wrapper in _WRAPPERS:
        names = [name for name in arrays if name != _COUNT_OF_AVERAGES]
        if all(name.startswith(wrapper) for name in names):
            arrays = {name.removeprefix(wrapper): arrays[name] for name in names}
    return arrays


def _read(file: FileContent) -> tuple[str, Any]:
    """Returns the format and the content."""
    path = file.path
    if path.is_dir():
        inside = sorted(p for p in path.iterdir() if p.suffix in WEIGHTS_SUFFIXES)
        hint = f"--pretrained {quoted(str(inside[0]))}" if inside else f"ls {quoted(str(path))}"
        raise UserError(f"{path} is a folder, no weights file", hint)
    if not path.is_file():
        raise UserError(f"no weights file {path}", list_command(path))
    try:
        data = file.data
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror}", os_remedy(error, path)
        ) from None
    try:
        found = _parse(data)
    except Refused as error:
        raise UserError(
            f"{path} is refused: {error}, and a weights file may hold nothing but arrays",
            "get the file again from a source you trust, or save its state_dict where its code is",
        ) from None
    except Unread as error:
        raise UserError(f"{path}: {error}", "take the model's weights in another format") from None
    except _PARSE_ERRORS as error:
        cause = error if isinstance(error, Damaged) else f"{type(error).__name__} {error}"
        raise UserError(
            f"{path} ({len(data)} bytes) is damaged: {cause}",
            "copy it again, or use an older checkpoint of the same folder",
        ) from error
    if found is None:
        raise UserError(
            f"{path} ({len(data)} bytes) is no weights file or is damaged: it begins with"
            f" {data[:16]!r}; known are {', '.join(FORMATS)}",
            "copy it again, and check that it is not a web page or a pointer to the file",
        )
    return found


def _parse(data: bytes) -> tuple[str, Any] | None:
    if data[4:9] == b"\0\0\0\0{":  # first: the length before it may look like any other format
        return "safetensors", dict(_read_safetensors(data))
    if data.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            if any(name.endswith("data.pkl") for name in names):
                return "torch zip", read_torch_zip(archive, len(data))
            if names and all(name.endswith(".npy") for name in names):
                return "npz", dict(_read_npz(archive, len(data)))
            return None
    if data.startswith(LEGACY_MAGIC):
        return "torch legacy", read_torch_legacy(data)
    if data[:1] == b"\x80" and b"\x02" <= data[1:2] <= b"\x05":
        return "paddle", load_pickle(io.BytesIO(data), _no_storage)
    if data[4:8] == MAGIC:
        return "TFLite", read_tflite(data)
    if data[:1] == b"\x0a":
        return "mindspore", read_mindspore(data)
    return None


def _no_storage(name: tuple[Any, ...]) -> np.ndarray:
    raise Damaged("it speaks of a storage outside the pickle")


def _read_npz(archive: zipfile.ZipFile, size: int) -> Iterator[tuple[str, np.ndarray]]:
    members = archive.infolist()
    expanded = sum(info.file_size for info in members)
    if expanded > _largest(size):
        raise Damaged(f"{size} bytes would expand to {expanded}, which weights do not")
    for info in members:
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Damaged(f"{info.filename} is compressed in a way that numpy does not use")
        file = io.BytesIO(archive.read(info))
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, is_fortran, dtype = read_header(file)
        if dtype.kind not in "biuf" or dtype.byteorder == ">":
            raise Damaged(f"{info.filename} holds values of type {dtype}")
        values = decode(file.read(), dtype.name)
        array = shaped(values, shape[::-1] if is_fortran else shape)
        yield info.filename.removesuffix(".npy"), array.T if is_fortran else array


_SAFETENSORS_TYPES = {
    "BOOL": "bool", "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64",
    "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64",
    "F16": "float16", "F32": "float32", "F64": "float64", "BF16": "bfloat16",
}  # fmt: skip


def _read_safetensors(data: bytes) -> Iterator[tuple[str, np.ndarray]]:
    # Not safetensors.numpy: its answer to bfloat16 depends on other packages.
    for name, entry in safetensors.deserialize(data):
        dtype = _SAFETENSORS_TYPES.get(entry["dtype"], entry["dtype"])
        yield name, shaped(decode(bytes(entry["data"]), dtype), tuple(entry["shape"]))
