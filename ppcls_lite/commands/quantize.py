"""`tools/quantize.py`: an int8 network for a runtime, and what it lost."""

import dataclasses
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import onnx

from ppcls_lite.deploy.sidecar import SIDECAR, write_sidecar
from ppcls_lite.errors import UserError
from ppcls_lite.files import check_utf8, file_sha256, naming, temporary_folder
from ppcls_lite.int8.qdq import FOR_COMPILER
from ppcls_lite.program import command
from ppcls_lite.quantize.job import Job, open_job
from ppcls_lite.quantize.recipe import Recipe, quantize, score
from ppcls_lite.quantize.sensitivity import with_worst
from ppcls_lite.quantize.settings import QuantizeConfig
from ppcls_lite.quantize.table import HEADING, compare, line
from ppcls_lite.quantize.targets import FILE, TARGETS

OTHERS = 341  # pictures of train that --table shows beside val


def run(config: QuantizeConfig) -> int:
    """Writes the export folder, or prints the table.

    Returns:
        1 when fewer pictures than `min_agreement` keep their class, else 0.
    """
    folder = Path(config.out)
    if not config.table:
        config.require("out")
        check_utf8(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(
                f"--out {folder} exists and is not an empty folder",
                "give --out the name of a new folder",
            )
    others = OTHERS if config.table else 0
    job = open_job(config, config.eval_images, others, config.train_images)
    for how in job.matched:
        print(f"classes: {how}")
    print(
        f"{job.sidecar.info.name}, {len(job.calibration)} calibration images of train,"
        f" measured on {len(job.pictures)} of val"
        + (f"; twin: {job.planted} channels up to {config.outliers:g} x" if job.planted else ""),
        flush=True,
    )
    recipe = _recipe(config)
    return _table(config, job, recipe) if config.table else _write(config, job, recipe, folder)


def _recipe(config: QuantizeConfig) -> Recipe:
    best = TARGETS[config.target].recipe
    return Recipe(
        config.calibration_mode or best.mode,
        best.techniques if config.remedies is None else config.remedies,
        best.float_layers if config.float_layers is None else config.float_layers,
        config.target,
    )


def _chosen(config: QuantizeConfig) -> bool:
    """Tells whether the user has said what is to be done."""
    return any(
        v is not None for v in (config.calibration_mode, config.remedies, config.float_layers)
    )


def _say(line: str) -> None:
    print(line, flush=True)


def _table(config: QuantizeConfig, job: Job, recipe: Recipe) -> int:
    print(HEADING, flush=True)
    rows = []
    for row in compare(job, recipe):
        rows.append(row)
        print(line(row), flush=True)
    if config.json:
        print(json.dumps({"recipe": recipe.to_dict(), "rows": rows}))
    return 0


def _write(config: QuantizeConfig, job: Job, recipe: Recipe, folder: Path) -> int:
    target = TARGETS[config.target]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with naming(folder), temporary_folder(".int8-", folder.parent) as temporary:
        work = Path(temporary) / "export"
        work.mkdir()
        fast = None if _chosen(config) else target.try_fast(job.graph, job.calibration, _say)
        if fast is not None:
            recipe, made = fast
        else:
            recipe = with_worst(job.graph, job.calibration, recipe)
            made = quantize(job.graph, job.calibration, recipe, job.training, _say)
        target.write(made, work)
        found = score(target.answers(made.int8, job.pictures), job.reference, job.labels)
        float_score = score(job.reference, job.reference, job.labels)
        measured = {
            "target": config.target,
            "recipe": recipe.to_dict() | {"float_layers": sorted(made.float_layers)},
            "calibration_pictures": len(job.calibration),
            "pictures": len(job.pictures),
            "top1_float": float_score["top1"],
        } | found
        _describe(job, work, measured)
        if folder.exists():
            folder.rmdir()
        work.rename(folder)
    return _report(config, folder, measured, job.labels.ndim == 2)


def _describe(job: Job, work: Path, measured: dict[str, Any]) -> None:
    files = {}
    for path in sorted(work.glob("*.onnx")):
        opset = max(entry.version for entry in onnx.load(str(path)).opset_import)
        size = path.stat().st_size
        files[path.name] = {"sha256": file_sha256(path), "bytes": size, "opset": opset}
    sidecar = dataclasses.replace(
        job.sidecar,
        outputs={FILE: job.sidecar.outputs[FILE]},
        files=files,
        verification={"int8": measured},
        created_by=shlex.join(["python", *sys.argv]),
    )
    write_sidecar(work, sidecar)


def accuracy_line(measured: dict[str, Any], several: bool) -> str:
    """Returns in words what `score` found; with several labels a picture it counts labels."""
    change = 100 * (measured["top1"] - measured["top1_float"])
    right, same = (
        ("labels right", "labels stay") if several else ("top-1", "images keep their class")
    )
    return (
        f"{right} {measured['top1']:.4f}, float {measured['top1_float']:.4f};"
        f" {measured['agreement']:.1%} of the {same};"
        f" difference {change:+.1f} +- {100 * measured['top1_error']:.1f} points"
    )


def _report(config: QuantizeConfig, folder: Path, measured: dict[str, Any], several: bool) -> int:
    recipe = measured["recipe"]
    print(f"wrote {folder}: {', '.join(sorted(file.name for file in folder.iterdir()))}")
    print(
        f"{config.target}: techniques {', '.join(recipe['remedies']) or 'none'};"
        f" in float {', '.join(recipe['float_layers']) or 'nothing'}"
    )
    print(accuracy_line(measured, several))
    if config.json:
        print(json.dumps(measured))
    if measured["agreement"] < config.min_agreement:
        network = () if config.model is None else ("--model", config.model)
        sensitivity = command(
            "quantize sensitivity", "--pretrained", config.pretrained, *network,
            "--data-path", config.data_path,
        )  # fmt: skip
        print(
            f"quantize: fewer than {config.min_agreement:.1%}"
            f" {'stay' if several else 'keep their class'}; the files were left"
            f" in place with these numbers in {SIDECAR}, do not deploy them\n"
            f"  next: {sensitivity}  # names the layers; then --float-layers worst:10, or --table",
            file=sys.stderr,
        )
        return 1
    if config.target == "accelerator":
        print(f"for the card: {folder / FOR_COMPILER}, with the layers above in exclude_layers")
        bundle = ("--pretrained", folder, "--data-path", config.data_path, "--out", "bundle")
        print("next: " + command("export accelerator", *bundle) + "  # everything for the card")
    if config.target == "tflite":
        phone = ("--exported", folder, "--format", "tflite", "--out", "phone")
        print("next: " + command("export mobile", *phone))
        return 0
    print("next: " + command("predict", "--pretrained", folder, "--img-path", "IMAGE_OR_FOLDER"))
    return 0
