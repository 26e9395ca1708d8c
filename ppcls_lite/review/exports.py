"""Exported files beside a run: how large they are, how fast, and what int8 lost."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ppcls_lite.deploy.sidecar import SIDECAR, read_sidecar
from ppcls_lite.errors import UserError
from ppcls_lite.program import export_command


def export_folders(named: Sequence[str], run: Path | None) -> list[Path]:
    """Returns the export folders that were named; none: those inside of a run's folder.

    Raises:
        UserError: a folder that was named is no export.
    """
    for folder in named:
        if not (Path(folder) / SIDECAR).is_file():
            raise UserError(f"--exported {folder} has no {SIDECAR}", export_command(folder))
    if named or run is None:
        return [Path(folder) for folder in named]
    return sorted(path.parent for path in run.glob(f"*/{SIDECAR}"))


def export_rows(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Returns a row for each file and engine: what `inference.yml` says of them.

    Returns:
        folder, file, engine; mb, of file and weights; ms of one picture, and difference, the
        largest of a probability, where they were measured; int8: top1, top1_float, agreement.
    """
    rows = []
    for folder in folders:
        sidecar = read_sidecar(folder)
        if sidecar is None:
            continue
        checked = sidecar.verification.get("engines", [])
        engines = checked or [{"file": name, "engine": ""} for name in sidecar.outputs]
        int8 = sidecar.verification.get("int8")
        for engine in engines:
            row = {"folder": str(folder), "int8": int8, "mb": _megabytes(folder / engine["file"])}
            row |= {key: engine.get(key) for key in ("file", "engine", "ms", "passed")}
            rows.append(row | {"difference": engine.get("max_abs_diff")})
    return rows


def _megabytes(file: Path) -> float:
    """What a program needs: the file, and for Paddle's the weights beside it."""
    parts = [file] if file.suffix == ".onnx" else [file, file.with_suffix(".pdiparams")]
    return sum(part.stat().st_size for part in parts if part.is_file()) / 1e6
