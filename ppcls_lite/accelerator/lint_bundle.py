"""Checks a whole bundle: its build YAMLs, parameter files, labels and calibration pictures."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from ppcls_lite.accelerator.finding import Finding
from ppcls_lite.accelerator.lint import lint_yaml
from ppcls_lite.accelerator.vdsp import read_vdsp
from ppcls_lite.data.lists import MAX_CLASSES
from ppcls_lite.errors import UserError, shortened, some
from ppcls_lite.untrusted import field, read_json, read_lines, reading

AGAIN = "export the bundle again, with tools/export_accelerator.py"
SIZES = ("resize_size", "crop_size")  # of bundle.json's preprocess


def lint_bundle(folder: Path) -> list[Finding]:
    """Checks a bundle: its YAMLs, parameter files, labels and calibration pictures.

    Raises:
        UserError: the folder is no bundle.
    """
    description = folder / "bundle.json"
    if not description.is_file():
        raise UserError(
            f"{folder} has no bundle.json",
            "give a build YAML, or the folder that tools/export_accelerator.py wrote",
        )
    what = "description of a bundle"
    bundle = read_json(description, what, AGAIN)
    with reading(description, what, AGAIN):
        spec = {name: field(bundle, int, "preprocess", name) for name in SIZES}
        classes = field(bundle, int, "num_classes")
        if not 1 <= classes <= MAX_CLASSES:
            raise ValueError(f"num_classes is {shortened(classes)}; allowed: 1 to {MAX_CLASSES}")
    findings = []
    for path in sorted((folder / "build").glob("*.yaml")):
        findings += lint_yaml(path, folder)
    findings += _check_vdsp(folder, spec)
    findings += _check_labels(folder, classes)
    return findings


def _check_vdsp(folder: Path, spec: Mapping[str, int]) -> Iterator[Finding]:
    for path in sorted((folder / "vdsp_params").rglob("*.json")):
        try:
            params = read_vdsp(path)
        except UserError as error:
            yield Finding("error", path, 0, error.message)
            continue
        if (params.resize, params.crop) != (spec["resize_size"], spec["crop_size"]):
            message = (
                f"resize {params.resize}, crop {params.crop}; the model was evaluated with"
                f" {spec['resize_size']} and {spec['crop_size']}"
            )
            yield Finding("error", path, _line_of(path, "short_edge", "ResizeWidth"), message)
        if params.squash:
            message = (
                "ResizeWidth and ResizeHeight squash an image that is no square, the model was"
                " evaluated with the short side resized: this form knows no other resize"
            )
            yield Finding("note", path, _line_of(path, "ResizeWidth"), message)


def _line_of(path: Path, *words: str) -> int:
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((n for n, line in enumerate(lines, 1) if any(w in line for w in words)), 0)


def _check_labels(folder: Path, classes: int) -> Iterator[Finding]:
    names_file = folder / "labels/label.txt"
    names = read_lines(names_file, "label file", AGAIN) if names_file.is_file() else []
    if len(names) != classes:
        message = f"{len(names)} names, the model has {classes} classes"
        yield Finding("error", names_file, 0, message)
    for number, name in enumerate(names, 1):
        if "/" in name or ":" in name:
            given = repr(shortened(name, 80))
            message = f"{given}: the original evaluator splits lines at / and : and loses it"
            yield Finding("warning", names_file, number, message)
    list_file = folder / "calibration_list.txt"
    if list_file.is_file():
        what = "list of calibration images"
        lines = read_lines(list_file, what, AGAIN)
        with reading(list_file, what, AGAIN):
            present = {int(line.rpartition(" ")[2]) for line in lines if line.strip()}
        missing = [names[i] if i < len(names) else str(i) for i in {*range(classes)} - present]
        if missing:
            message = f"{len(missing)} classes have no calibration image: {some(missing)}"
            yield Finding("warning", list_file, 0, message)
        for number, line in enumerate(lines, 1):
            with reading(list_file, what, AGAIN):
                is_there = (folder / line.rpartition(" ")[0]).is_file()
            if not is_there:
                yield Finding("error", list_file, number, "the image is not there")
