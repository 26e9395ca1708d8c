"""From a checkpoint to a folder that any runtime can serve, checked against the trained network.

One `inference.pdiparams` serves both Paddle formats: the network is built with parameter names
counted from zero, so the two savers order the same bytes in the same way. That is checked.
"""

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ppcls_lite.deploy.settings import OPSETS
from ppcls_lite.deploy.sidecar import SIDECAR, Sidecar, write_sidecar
from ppcls_lite.deploy.verify import verify
from ppcls_lite.environment import load_paddle
from ppcls_lite.errors import UserError, nearest
from ppcls_lite.files import check_utf8, file_sha256, naming, reserve, temporary_folder
from ppcls_lite.graph import INPUT_NAME, StaticGraph
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.runtimes import load_network
from ppcls_lite.version import __version__
from ppcls_lite.weights.find import Weights, find_weights

# Files of a format; the model file is the first.
FORMATS = {
    "pdmodel": ("inference.pdmodel", "inference.pdiparams", "inference.pdiparams.info"),
    "json": ("inference.json", "inference.pdiparams"),
    "onnx": ("inference.onnx",),
}
GRAPH = 2**19  # bytes of a file without its weights; mobilenet_v3_large's have 300 kB
OPSET = 14  # the first with HardSwish, which OpenVINO fuses into the convolution before it
INT8_OPSET = 13  # DequantizeLinear has a scale per channel since then


def export_model(
    pretrained: str | Path | Weights,
    folder: Path,
    *,
    formats: Sequence[str] = tuple(FORMATS),
    opset_version: int | None = None,
    image_size: int | None = None,
    batch: int | None = None,
    softmax_inside: bool = True,
    model: str | None = None,
    num_classes: int | None = None,
    created_by: str = "",
) -> Sidecar:
    """Writes a checkpoint in the formats asked for and compares each with the trained network.

    Args:
        pretrained: a checkpoint, weights of any framework, a tag, or weights that were found.
        folder: where the files go; created when missing.
        formats: any of pdmodel, json, onnx.
        opset_version: of the ONNX file; None is 14, or 13 for a quantized network.
        image_size: H and W; None is the checkpoint's crop size; the resize is scaled with it.
        batch: the only N that the files take; None: any.
        softmax_inside: outputs are probabilities (as Step6's predictor expects), not logits.
        model: network of weights that do not say it (Step6's files have no JSON).
        num_classes: K to assume for such weights; None takes it from them.
        created_by: the command, for the sidecar.

    Returns:
        What was written to `inference.yml`. Its `verification` tells whether the files agree.

    Raises:
        UserError: nothing was written.
    """
    _check_request(folder, formats)
    weights = find_weights(pretrained, model, num_classes)
    size = image_size or weights.info.preprocess.crop_size
    info = replace(weights.info, preprocess=weights.info.preprocess.scaled(size))
    opset, activation = _opset(opset_version, info), info.activation if softmax_inside else ""
    how = {"opset": opset, "activation": activation, "batch": batch}
    folder.mkdir(parents=True, exist_ok=True)
    with naming(folder), temporary_folder(".export-", folder) as temporary:
        work = Path(temporary)
        network = _write_graphs(weights, info, work, formats, how)
        files = [work / FORMATS[format_][0] for format_ in formats]
        outputs, checks = verify(network, info, files, softmax_inside)
        names = dict.fromkeys(name for format_ in formats for name in FORMATS[format_])
        sidecar = Sidecar(
            info=info,
            source={"file": weights.path.name, "sha256": weights.sha256},
            input={"name": INPUT_NAME, "shape": [batch or -1, 3, size, size], "dtype": "float32"},
            outputs=outputs,
            files={name: _describe(work / name, opset) for name in names},
            verification=checks,
            versions=_versions(formats),
            created_by=created_by,
        )
        write_sidecar(work, sidecar)
        for name in (*names, SIDECAR):  # the sidecar last: its hashes vouch for the others
            os.replace(work / name, folder / name)
    return sidecar


def _write_graphs(
    weights: Weights, info: ModelInfo, work: Path, formats: Sequence[str], how: dict[str, Any]
) -> Any:
    """Writes the network's graph in the formats into `work`; returns the network."""
    paddle = load_paddle()
    # Not at the top of the file: it imports paddle, which load_paddle must do first.
    from ppcls_lite.slim.int8 import deployable

    with paddle.utils.unique_name.guard():  # names as in a fresh process
        network, _ = load_network(weights, info)
        reserve(work, _room_for(network, formats))
        graph = deployable(network, info)
        size = info.preprocess.crop_size
        StaticGraph(graph, size, how["activation"], how["batch"]).save(work / "inference")
    _convert_in_child(weights.path, info, work, formats, how)
    return network


def _room_for(network: Any, formats: Sequence[str]) -> int:
    """Returns about what the files take while they are made, bytes: weights once, again in ONNX."""
    weights = sum(4 * value.size for value in network.state_dict().values())
    return weights * (1 + ("onnx" in formats)) + GRAPH * (1 + len(formats))


def _opset(asked: int | None, info: ModelInfo) -> int:
    if asked is not None and asked not in OPSETS:
        raise UserError(
            f"--opset-version {asked}; allowed: {OPSETS[0]} to {OPSETS[-1]}",
            "leave --opset-version out, or give one of these",
        )
    if info.quant_skip is None:
        return asked or OPSET
    if asked is not None and asked < INT8_OPSET:
        raise UserError(
            f"opset {asked} has no scale per channel, which a quantized model needs",
            f"--opset-version {INT8_OPSET}",
        )
    return asked or INT8_OPSET


def _check_request(folder: Path, formats: Sequence[str]) -> None:
    check_utf8(folder)
    for name in formats:
        if name not in FORMATS:
            raise UserError(
                f"format {name!r} is not one of {', '.join(FORMATS)}{nearest(name, FORMATS)}",
                f"--format {','.join(FORMATS)}",
            )
    if not formats:
        raise UserError(
            f"no format given; allowed: {', '.join(FORMATS)}", f"--format {','.join(FORMATS)}"
        )
    if os.environ.get("FLAGS_enable_pir_api", "").lower() in ("0", "false"):  # noqa: SIM112
        raise UserError(
            "FLAGS_enable_pir_api=0 is set; with it Paddle cannot write inference.json",
            "unset FLAGS_enable_pir_api; inference.pdmodel is written without it, too",
        )
    if "onnx" in formats and importlib.util.find_spec("paddle2onnx") is None:
        raise UserError(
            "format onnx needs the Python package paddle2onnx",
            "pip install paddle2onnx  # or --format pdmodel,json",
        )
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file, not a folder", "give another folder")
    # A folder describes one network: what an earlier export left would be described wrongly.
    left = [
        FORMATS[f][0] for f in FORMATS if f not in formats and (folder / FORMATS[f][0]).exists()
    ]
    if left:
        raise UserError(
            f"{folder} holds {', '.join(left)} of an earlier export, which this one would not"
            f" renew (--format {','.join(formats)})",
            "name all formats that the folder shall hold, or give another folder",
        )


def _convert_in_child(
    pretrained: Path,
    info: ModelInfo,
    work: Path,
    formats: Sequence[str],
    how: dict[str, Any],
) -> None:
    """Has the legacy format and ONNX, if wanted, written by `export_child` into `work`."""
    if not set(formats) & {"pdmodel", "onnx"}:
        return
    request = {
        "pretrained": str(pretrained.absolute()),
        "info": info.to_dict(),
        "prefix": str((work / "inference").absolute()),
        "pdmodel": "pdmodel" in formats,
    }
    request |= how if "onnx" in formats else how | {"opset": None}
    package_root = Path(__file__).parents[2]
    search_path = os.pathsep.join([str(package_root), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"FLAGS_enable_pir_api": "0", "PYTHONPATH": search_path}
    params = work / "inference.pdiparams"
    written_here = file_sha256(params)
    child = subprocess.run(
        [sys.executable, "-m", "ppcls_lite.deploy.export_child"],
        input=json.dumps(request),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode != 0:
        raise RuntimeError(f"the export process failed:\n{child.stdout}\n{child.stderr}")
    if file_sha256(params) != written_here:
        raise RuntimeError(
            "inference.json and inference.pdmodel would need different inference.pdiparams; "
            "export them into two folders"
        )


def _describe(path: Path, opset_version: int) -> dict[str, Any]:
    entry: dict[str, Any] = {"sha256": file_sha256(path), "bytes": path.stat().st_size}
    if path.suffix == ".onnx":
        entry["opset"] = opset_version
    return entry


def _versions(formats: Sequence[str]) -> dict[str, str]:
    versions = {"ppcls_lite": __version__, "paddle": load_paddle().__version__}
    if "onnx" in formats:
        versions |= {p: importlib.metadata.version(p) for p in ("paddle2onnx", "onnx")}
    return versions
