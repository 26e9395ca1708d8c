"""`data check --apply`: lists of a data set without the pictures that a person ticked."""

import csv
import os
from pathlib import Path

from ppcls_lite.data.dataset import open_split
from ppcls_lite.data.listed import write_lists
from ppcls_lite.data.lists import read_text
from ppcls_lite.data.settings import CheckDataConfig
from ppcls_lite.errors import UserError, nearest, some
from ppcls_lite.program import command


def apply(config: CheckDataConfig) -> str:
    """Writes the lists; says how many pictures were left out and how many have another class.

    Pictures stay where they are. A folder without a split is split as every command splits it.

    Raises:
        UserError: the CSV names a picture or class that is not there, or the data are no files
            with one label each.
    """
    out = Path(config.out or "")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out} is there already", "name a new folder")
    decisions = read_decisions(config.apply or "")
    left, seen = 0, set[str]()
    sides: dict[str, tuple[list[str], list[int]]] = {}
    classes: list[str] = []
    for split in ("train", "val"):
        data = open_split(config.data_path, split)
        if data.labels.ndim == 2 or (len(data) and not os.path.isfile(data.path(0))):
            raise UserError(
                f"--apply is of image files with one label each, and {split} of"
                f" {config.data_path} is not",
                "apply it to the data before it was packed, or edit the lists",
            )
        if classes and data.classes != classes:
            raise UserError(
                "train and val have other classes", "give train/ and val/ the same class folders"
            )
        classes, paths, labels = data.classes, [], []
        for i in range(len(data)):
            path = os.path.abspath(data.path(i))
            label = decisions.get(path)
            if label is not None:
                seen.add(path)
            if label == "":
                left += 1
                continue
            paths.append(path)
            labels.append(_class_id(label, classes) if label else data.label(i))
        sides[split] = (paths, labels)
    if unknown := sorted({*decisions} - seen):
        raise UserError(
            f"{config.apply} names images that {config.data_path} does not have: {some(unknown)}",
            "give the --data-path of the report",
        )
    write_lists(out, str(out), classes, sides)
    again = command("data check", "--data-path", out)
    return f"{left} images left out, {len(seen) - left} with another class: {out}\n  next: {again}"


def read_decisions(file: str) -> dict[str, str]:
    """Reads the CSV: the label of each picture by its whole path; "" leaves it out.

    Raises:
        UserError: it is not there, has no column `file`, or two labels for one picture.
    """
    try:
        rows = list(csv.DictReader(read_text(file).splitlines()))
    except OSError as error:
        raise UserError(
            f"--apply {file}: {error.strerror}", "save the list on index.html, and give its path"
        ) from error
    except csv.Error as error:
        raise UserError(
            f"--apply {file}: {error}", "give the list that was saved on index.html"
        ) from None
    found: dict[str, str] = {}
    for number, row in enumerate(rows, 2):
        if not row.get("file"):
            raise UserError(
                f"{file}:{number}: no column `file`, or nothing in it; allowed: file,label",
                "save the list of index.html again, or delete lines of findings.csv",
            )
        path, label = os.path.abspath(row["file"]), row.get("label") or ""
        if found.setdefault(path, label) != label:
            raise UserError(f"{file}:{number}: {row['file']} has two labels", "leave one of them")
    if not found:
        raise UserError(f"--apply {file} has no lines", "tick images on index.html and save")
    return found


def _class_id(label: str, classes: list[str]) -> int:
    if label not in classes:
        raise UserError(
            f"no class {label!r}{nearest(label, classes)}; allowed: {some(classes)}",
            "mend the column `label`",
        )
    return classes.index(label)
