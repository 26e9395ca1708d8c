"""Which engine runs which file."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from ppcls_lite.config import Engine
from ppcls_lite.deploy.sidecar import read_sidecar
from ppcls_lite.errors import UserError, nearest
from ppcls_lite.program import export_command, list_command, quoted
from ppcls_lite.runtimes import is_installed
from ppcls_lite.weights.formats import WEIGHTS_SUFFIXES

ENGINES: tuple[str, ...] = get_args(Engine)
# What can run a file, the engine that is taken when none is asked for first.
ENGINES_OF_SUFFIX = {
    **dict.fromkeys(WEIGHTS_SUFFIXES, ("dygraph",)),
    ".pdmodel": ("paddle_inference", "openvino"),
    ".json": ("paddle_inference",),
    ".onnx": ("onnxruntime", "openvino"),
}

EIGHT = 8  # images: the larger of the two batch sizes that an export is timed with


@dataclass(frozen=True)
class Choice:
    """An engine, the file it runs, and why auto took it; "" where there was nothing to choose."""

    engine: str
    file: Path
    why: str


def is_export(path: Path) -> bool:
    """Tells an export folder, or a file in one, from weights."""
    return path.is_dir() or path.suffix in (".pdmodel", ".json", ".onnx")


def find_model(
    path: Path, engine: str = "auto", device: str = "auto", batch_size: int = 1
) -> Choice:
    """Picks the engine and the model file that a path means.

    In an export folder, auto is the engine that was fastest when the folder was written, of those
    that agreed with the trained network then and are installed now: for one image, or, if
    `batch_size` is eight or more, in runs of eight. Nothing is measured here, so the same folder
    gives the same engine and file at every start; an engine that reads several files gets the one
    it ran fastest. An int8 folder gets the engine that quantize
    wrote it for. Folders without such measurements, and a GPU (they are of a CPU), get
    inference.onnx where ONNX Runtime is installed, else Paddle's file.

    Raises:
        UserError: there is no such file, or the engine cannot run it.
    """
    if engine not in ENGINES:
        raise UserError(
            f"engine {engine!r} is not one of {', '.join(ENGINES)}{nearest(engine, ENGINES)}",
            "leave the engine out: auto takes one that can run the file",
        )
    why = ""
    if path.is_dir():
        measured, said = _measured(path, batch_size)
        if engine == "auto" and device != "gpu":
            engine, why = _fastest(measured, said) if measured else _written_for(path)
        path = _file_of_folder(path, engine, measured)
    if not path.is_file():
        raise UserError(f"no file or folder {path}", list_command(path))
    if path.suffix not in ENGINES_OF_SUFFIX:
        raise UserError(
            f"{path} is not a model; allowed: an export folder, or a file that ends in "
            + ", ".join(ENGINES_OF_SUFFIX),
            f"{list_command(path)}  # shows what else is there",
        )
    fitting = ENGINES_OF_SUFFIX[path.suffix]
    if engine not in ("auto", *fitting):
        raise UserError(f"engine {engine} cannot run {path}", f"--engine {fitting[0]}")
    if path.suffix in (".pdmodel", ".json") and not path.with_suffix(".pdiparams").is_file():
        twin = path.with_suffix(".pdparams")
        hint = (
            f"--pretrained {quoted(str(twin))}"
            if twin.is_file()
            else "copy the whole export folder"
        )
        raise UserError(f"{path} has no weights {path.stem}.pdiparams beside it", hint)
    return Choice(fitting[0] if engine == "auto" else engine, path, why)


def _file_of_folder(folder: Path, engine: str, measured: Mapping[tuple[str, Path], float]) -> Path:
    """The file for an engine: the one it ran fastest, without measurements the first it reads."""
    times = {file: ms for (name, file), ms in measured.items() if name == engine}
    if times:
        return min(times, key=lambda file: times[file])
    names = ["inference.onnx", "inference.pdmodel", "inference.json"]
    if engine == "auto" and importlib.util.find_spec("onnxruntime") is None:
        names = [*names[1:], names[0]]
    for name in names:
        if (folder / name).is_file() and engine in (
            "auto",
            *ENGINES_OF_SUFFIX[Path(name).suffix],
        ):
            return folder / name
    checkpoints = sorted(folder.glob("*.pdparams"))
    wanted = "model" if engine == "auto" else f"model for engine {engine}"
    raise UserError(
        f"the folder {folder} holds no {wanted} (looked for {', '.join(names)})",
        f"--pretrained {quoted(str(checkpoints[0]))}" if checkpoints else export_command(folder),
    )


def _measured(folder: Path, batch_size: int) -> tuple[dict[tuple[str, Path], float], str]:
    """Returns ms a picture by engine and file, of those that agreed when they were exported.

    Beside them the words that say of which runs: of eight, where so many are asked for and were
    timed (older folders have times of one), else none.
    """
    sidecar = read_sidecar(folder)
    rows = sidecar.verification.get("engines", []) if sidecar is not None else []
    if (folder / "inference.pdmodel").is_file():  # threads take turns with the other one
        rows = [row for row in rows if row["file"] != "inference.json"]
    found = {(row["engine"], folder / row["file"]): row for row in rows}
    usable = {
        each: row
        for each, row in found.items()
        if row["passed"] and "ms" in row and each[1].is_file() and is_installed(each[0])
    }
    if batch_size >= EIGHT and all("ms_in_eight" in row for row in usable.values()):
        return {each: row["ms_in_eight"] for each, row in usable.items()}, " in runs of eight"
    return {each: row["ms"] for each, row in usable.items()}, ""


def _written_for(folder: Path) -> tuple[str, str]:
    """Returns the engine whose arithmetic an int8 folder has, and why; auto and "" without."""
    sidecar = read_sidecar(folder)
    target = sidecar.int8_target if sidecar is not None else None
    if target in ENGINES and is_installed(target):
        return target, f"this int8 model was written for {target}"
    return "auto", ""


def _fastest(measured: Mapping[tuple[str, Path], float], said: str) -> tuple[str, str]:
    """Returns the engine that the sidecar's measurements favour, and why."""
    usable: dict[str, float] = {}
    for (engine, _), milliseconds in measured.items():
        usable[engine] = min(milliseconds, usable.get(engine, milliseconds))
    first, *others = sorted(usable, key=lambda engine: usable[engine])
    times = ", ".join(f"{engine} {usable[engine]:.2f}" for engine in others)
    why = f"{first} took {usable[first]:.2f} ms an image{said} when this was exported"
    return first, why + (f"; {times}" if times else "; no other that agreed is installed")
