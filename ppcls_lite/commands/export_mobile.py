"""`export mobile`: an exported network becomes files for a phone, and is checked."""

import dataclasses
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ppcls_lite.data.decode import load_image
from ppcls_lite.data.preprocess import find_images
from ppcls_lite.deploy.mobile import FORMATS
from ppcls_lite.deploy.predictor import Predictor
from ppcls_lite.deploy.ranking import probabilities
from ppcls_lite.deploy.settings import ExportMobileConfig
from ppcls_lite.deploy.sidecar import SIDECAR, Sidecar, read_sidecar, write_sidecar
from ppcls_lite.deploy.verify import agreement, check_images
from ppcls_lite.errors import UserError
from ppcls_lite.files import file_sha256, naming, temporary_folder
from ppcls_lite.int8.qdq import EXACT
from ppcls_lite.program import export_command
from ppcls_lite.runtimes import OnnxRuntime

# Of a probability. Two runtimes round int8 differently, and later layers follow.
LIMIT, INT8_LIMIT = 1e-4, 0.1


def run(config: ExportMobileConfig) -> int:
    """Converts, holds the answers against ONNX Runtime's, and writes both down.

    Returns:
        1 when they differ, else 0.
    """
    config.require("exported", "format", "out")
    export, folder = Path(config.exported), Path(config.out)
    sidecar = open_export(export, FORMATS[config.format or ""].sources)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"--out {folder} exists and is not an empty folder",
            "give --out the name of a new folder",
        )
    pictures = (
        [load_image(path) for path in find_images(config.img_path)] if config.img_path else []
    )
    images = sidecar.info.preprocess(pictures or check_images())  # [N, 3, H, W]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with naming(folder), temporary_folder(".mobile-", folder.parent) as temporary:
        work = Path(temporary) / "export"
        work.mkdir()
        found = convert(config.format or "", export, work, sidecar, images)
        if folder.exists():
            folder.rmdir()
        work.rename(folder)
    sizes = [f"{f.name} ({f.stat().st_size:,} bytes)" for f in sorted(folder.iterdir())]
    print(f"wrote {folder}: {', '.join(sizes)}")
    if not found:
        print("not checked: no Python with the package paddlelite beside paddle_lite_opt")
        return 0
    print(
        f"{config.format} against ONNX Runtime on {found['images']} images: same class"
        f" {found['same_top1']}/{found['images']}, largest difference of a probability"
        f" {found['max_abs_diff']:.1e}"
    )
    if not found["passed"]:
        print(f"export_mobile: more than {found['limit']}: do not deploy {folder}", file=sys.stderr)
    return 0 if found["passed"] else 1


def open_export(export: Path, sources: Sequence[str]) -> Sidecar:
    """Reads the sidecar of an export folder that has the files in question, unchanged.

    Raises:
        UserError: one is missing, or is not the one that was exported.
    """
    hint = export_command(export)
    for name in (SIDECAR, "inference.onnx", *sources):
        if not (export / name).is_file():
            raise UserError(f"no file {export / name}", hint)
    sidecar = read_sidecar(export)
    if sidecar is None:
        raise UserError(f"no file {export / SIDECAR}", hint)
    for name in sources:
        sidecar.check_file(export / name)
    return sidecar


def expected_answers(file: Path, sidecar: Sidecar, images: np.ndarray) -> np.ndarray:
    """ONNX Runtime's probabilities, float32 [N, K]; of int8 it rounds where the graph says so."""
    if sidecar.int8_target is None:
        return Predictor(file, "onnxruntime", "cpu").probabilities(images)
    return probabilities(OnnxRuntime(file, "cpu", EXACT)(images), sidecar.info)


def convert(
    format_: str, export: Path, work: Path, sidecar: Sidecar, images: np.ndarray
) -> dict[str, Any]:
    """Writes the files and their sidecar; returns how the answers differ, {} if nobody ran them."""
    target = FORMATS[format_]
    target.convert(export, work, sidecar.info.preprocess.crop_size)
    output = sidecar.outputs[target.sources[0]]
    found: dict[str, Any] = {}
    answers = target.answers(work, export, images)
    if answers is not None:
        if not (output["softmax"] or output.get("sigmoid")):
            answers = probabilities(answers, sidecar.info)
        int8 = sidecar.int8_target is not None
        limit = INT8_LIMIT if int8 else LIMIT
        expected = expected_answers(export / "inference.onnx", sidecar, images)
        found = {"images": len(images), "limit": limit} | agreement(answers, expected, limit)
    kept = {"int8"} & set(sidecar.verification)
    names = target.names or (sidecar.input["name"], output["name"])
    described = {
        name: {"sha256": file_sha256(work / name), "bytes": (work / name).stat().st_size}
        for name in target.files
    }
    shape = sidecar.input["shape"]
    if target.channels_last:
        shape = [1, *shape[2:], shape[1]]
    mobile = dataclasses.replace(
        sidecar,
        input=sidecar.input | {"name": names[0], "shape": shape},
        outputs={target.files[0]: output | {"name": names[1]}},
        files=described,
        verification={name: sidecar.verification[name] for name in kept} | {format_: found},
        created_by=shlex.join(["python", *sys.argv]),
    )
    write_sidecar(work, mobile)
    return found
