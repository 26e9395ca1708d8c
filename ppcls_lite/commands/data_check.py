"""Scans a data root before it is trained on: counts, broken pictures, pictures in both splits."""

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ppcls_lite.commands.data_apply import apply
from ppcls_lite.commands.data_report import write_findings
from ppcls_lite.data.classes import NONE, match_classes, warnings
from ppcls_lite.data.dataset import open_split, open_whole
from ppcls_lite.data.decode import REMEDY, ImageError, load_image
from ppcls_lite.data.each import each
from ppcls_lite.data.folders import check_root
from ppcls_lite.data.image_dataset import ImageDataset
from ppcls_lite.data.packed import Source, read_source
from ppcls_lite.data.settings import CheckDataConfig
from ppcls_lite.data.shares import Shares, split_pictures
from ppcls_lite.errors import UserError, some
from ppcls_lite.program import command


class Inspection(NamedTuple):
    """What is known about one file."""

    width: int = 0
    height: int = 0
    digest: str = ""  # of the file's bytes
    cause: str = ""  # why it cannot be read; empty when it can


def run(config: CheckDataConfig) -> int:
    """Prints the report; returns 1 when there are problems.

    A training stops at a problem, or learns something wrong from it; with a warning it can live. OK
    is said when there is neither. With --apply lists are written instead.
    """
    if config.apply is not None:
        print(apply(config))
        return 0
    report = check(config.data_path, config.workers)
    if config.json:
        print(json.dumps(report))
    else:
        print("\n".join(_lines(report)))
    if config.report is not None:
        # Standard error: with --json the standard output is one object.
        print(f"check_data: {write_findings(config)}", file=sys.stderr)
    return 1 if report["problems"] else 0


def check(data_path: str, workers: int) -> dict[str, Any]:
    """The report as plain values: per split the counts; all `problems` and `warnings` in words, and
    what to do `next`.

    Raises:
        UserError: there is no such folder.
    """
    check_root(data_path)
    report: dict[str, Any] = {"data_path": data_path, "splits": {}}
    report |= {"problems": [], "warnings": [], "next": []}
    problems: list[str] = report["problems"]
    datasets: dict[str, ImageDataset] = {}
    files: dict[str, dict[str, str]] = {}  # split -> digest -> path
    whole = open_whole(data_path)
    for split in () if whole else ("train", "val"):
        try:
            datasets[split] = open_split(data_path, split)
        except UserError as error:
            _note(report, error)
    if whole:
        datasets["all"] = whole
        try:
            paths = [whole.path(i) for i in range(len(whole))]
            notes = split_pictures(paths, whole.labels.tolist(), Shares()).notes
            report["warnings"] += [f"all: {note}" for note in notes]
        except UserError as error:
            _note(report, error)
    if len(datasets) == 2:
        try:
            datasets["val"], found = _matched(datasets["train"], datasets["val"])
            problems += found
        except UserError as error:
            _note(report, error)
    for split, dataset in datasets.items():
        inspections = list(each(inspect, dataset.sources(), workers))
        summary = report["splits"][split] = _summary(dataset, inspections)
        summary["other_files"] = sorted(dataset.passed_over)
        summary["notes"] = list(dataset.notes)
        problems += [f"broken image {b['file']}: {b['cause']}" for b in summary["broken"]]
        report["next"] += [REMEDY] * bool(summary["broken"])
        report["warnings"] += [*_few(split, dataset), *(f"{split}: {x}" for x in dataset.left_out)]
        files[split], twice, contradictions = _copies(split, dataset, inspections)
        report["warnings"] += twice
        problems += contradictions
    if len(datasets) == 2:
        for digest, path in files["val"].items():
            if digest in files["train"]:
                problems.append(f"val image {path} is also in train: {files['train'][digest]}")
    if (problems or report["warnings"]) and not report["next"]:
        page = command("data check", "--data-path", data_path, "--report", "findings")
        report["next"].append(f"{page}  # a page that shows the images and saves what you decide")
    report["next"] = list(dict.fromkeys(report["next"]))
    return report


def _note(report: dict[str, Any], error: UserError) -> None:
    report["problems"].append(error.message)
    report["next"].append(error.hint)


def _matched(train: ImageDataset, val: ImageDataset) -> tuple[ImageDataset, list[str]]:
    """Returns val with the class ids of train, and what is wrong with them.

    Raises:
        UserError: val has images of a class that train does not have.
    """
    known = train.class_set("train")
    match = match_classes(known, val.class_set("val"))
    problems = [
        f"only in val, and without images: {name}"
        for name, class_id in zip(val.classes, match.ids, strict=True)
        if class_id == NONE and name not in match.unknown
    ]
    val = val.mapped(match.complete("give train/ and val/ the same class folders"))
    counts = val.class_set("val").pictures
    alone = [n for i, n in enumerate(known.names) if counts[i] and not known.pictures[i]]
    if alone:
        problems.append(f"val has images of classes of which train has none: {some(alone)}")
    return val, problems


def _few(split: str, dataset: ImageDataset) -> list[str]:
    """Names classes of a split that have too few pictures to learn from, or to measure with."""
    classes = dataset.class_set(split)
    # A single picture is little to learn from, but enough to be measured with.
    lines = warnings(classes, (0,) if split == "val" else (0, 1))
    if len(dataset.classes) == 1:
        lines.append(f"{split} has a single class, {dataset.classes[0]}: every prediction is right")
    return lines


def _copies(
    split: str, dataset: ImageDataset, inspections: Sequence[Inspection]
) -> tuple[dict[str, str], list[str], list[str]]:
    """Returns the first path of each content; what is there twice; and what is in two classes."""
    first: dict[str, int] = {}
    twice, contradictions = [], []
    for i, x in enumerate(inspections):
        other = first.setdefault(x.digest, i) if x.digest else i
        if other == i:
            continue
        if dataset.label(i) == dataset.label(other):
            twice.append(f"{dataset.path(i)} is {dataset.path(other)} once more")
        else:
            contradictions.append(
                f"{split}: the same image is in two classes: {dataset.path(other)} and"
                f" {dataset.path(i)}"
            )
    paths = {digest: dataset.path(i) for digest, i in first.items()}
    more = [f"{split}: {len(twice)} images are there twice: {some(twice, 3)}"] if twice else []
    return paths, more, contradictions


def inspect(source: Source) -> Inspection:
    """Reads and decodes one file completely."""
    try:
        data = read_source(source)
        image = load_image(data)
    except ImageError as error:
        return Inspection(cause=error.cause)
    return Inspection(*image.size, hashlib.blake2b(data, digest_size=16).hexdigest())


def _summary(dataset: ImageDataset, inspections: list[Inspection]) -> dict[str, Any]:
    counts = np.bincount(dataset.labels, minlength=len(dataset.classes)).tolist()
    broken = [
        {"file": dataset.path(i), "cause": x.cause} for i, x in enumerate(inspections) if x.cause
    ]
    by_area = sorted((x.width * x.height, i) for i, x in enumerate(inspections) if not x.cause)
    sizes = {}
    for name, position in (("smallest", 0), ("largest", -1)):
        if by_area:
            index = by_area[position][1]
            size = inspections[index]
            sizes[name] = {
                "file": dataset.path(index),
                "width": size.width,
                "height": size.height,
            }
    return {
        "pictures": len(dataset),
        "classes": [
            {"id": i, "name": name, "pictures": counts[i]} for i, name in enumerate(dataset.classes)
        ],
        "broken": broken,
        **sizes,
    }


def _lines(report: dict[str, Any]) -> Iterator[str]:
    splits = report["splits"]
    # Names alone would not do: ImageNet has two classes called crane.
    counts = {
        split: {f"{c['id']} {c['name']}": c["pictures"] for c in summary["classes"]}
        for split, summary in splits.items()
    }
    names = dict.fromkeys(name for split in counts.values() for name in split)
    width = max([len("class"), *(len(name) for name in names)])
    if splits:
        yield f"{'class':{width}}" + "".join(f"{split:>9}" for split in splits)
    for name in names:
        yield f"{name:{width}}" + "".join(f"{c.get(name, '-'):>9}" for c in counts.values())
    if splits:
        yield f"{'total':{width}}" + "".join(f"{s['pictures']:>9}" for s in splits.values())
    for split, summary in splits.items():
        for name in ("smallest", "largest"):
            if name in summary:
                size = summary[name]
                yield f"{split}: {name} {size['width']} x {size['height']} {size['file']}"
        yield from (f"{split}: {note}" for note in summary["notes"])
    for kind in ("problems", "warnings"):
        if found := report[kind]:
            yield f"{len(found)} {kind if len(found) > 1 else kind[:-1]}:"
            yield from (f"  {line}" for line in found)
    yield from (f"  next: {act}" for act in report["next"])
    if not report["problems"] and not report["warnings"]:
        yield "OK"
