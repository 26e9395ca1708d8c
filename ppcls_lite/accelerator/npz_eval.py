"""The scores that vamp wrote, against labels: `eval_imagenet.py`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ppcls_lite.accelerator.labels import VAL_LABELS, folder_ids, known_folders, read_two_fields
from ppcls_lite.accelerator.profile import (
    OUTPUT,
    RESULT_NAME,
    RESULT_PATTERN,
    read_array,
)
from ppcls_lite.accelerator.results import TOPK, Scores
from ppcls_lite.errors import UserError

AGAIN = "run the model once more, into an empty folder"


def score_npz(folder: Path, pictures: Sequence[Path], labels: Sequence[int]) -> Scores:
    """Counts hits.

    Differs from the original: files are found by their number, and a stale or missing one is an
    error, not a shift of every pair after it.

    Args:
        folder: of `output_%06d.npz`, in the order of the list.
        pictures: the lines of the list.
        labels: class id of each.

    Raises:
        UserError: another number of files than of lines, or a file without scores.
    """
    found = {entry.name for entry in folder.glob(RESULT_PATTERN)}
    wanted = [RESULT_NAME.format(number) for number in range(len(pictures))]
    if found != set(wanted):
        missing, extra = sorted(set(wanted) - found), sorted(found - set(wanted))
        raise UserError(
            f"{folder} does not fit the list of {len(pictures)} lines: {len(missing)} files are"
            f" missing{_first(missing)}, {len(extra)} are not of this run{_first(extra)}",
            AGAIN,
        )
    top1 = top5 = 0
    for name, label in zip(wanted, labels, strict=True):
        scores = _scores(folder / name)
        best = np.argsort(-scores, kind="stable")[:TOPK]
        if label >= len(scores):
            raise UserError(
                f"{name} has {len(scores)} scores, and its image is of class id {label}",
                "give the labels of the data that this model was trained on",
            )
        top1 += bool(best[0] == label)
        top5 += bool(label in best)
    return Scores(len(pictures), top1, top5)


def _first(names: Sequence[str]) -> str:
    return f" (the first is {names[0]})" if names else ""


def _scores(path: Path) -> np.ndarray:
    array = read_array(path, OUTPUT, AGAIN)
    if array.ndim != 2 or not array.size or array.dtype.kind not in "fiu":
        shape = f"{array.dtype} {list(array.shape)}"
        raise UserError(f"{path}: {OUTPUT} is {shape}; allowed: numbers [1, K]", AGAIN)
    return array[0].astype(np.float32)


def picture_labels(pictures: Sequence[Path], label_file: Path, classes: str | None) -> list[int]:
    """Returns the class id of each picture of a list.

    Args:
        pictures: npz files, CLASS/NAME.npz.
        label_file: `FILE ID` lines; or, as the documents call that file `imagenet.txt` and most
            people have class names under this name, one name a line. Folders tell the class then,
            and where the list lacks a picture.
        classes: a `wnid.json` for those folders, see `labels.folder_ids`.

    Raises:
        UserError: a picture has no label.
    """
    if not label_file.is_file():
        raise UserError(
            f"no label file {label_file}", "give --label a bundle's labels/val_label.txt"
        )
    listed = listed_labels(pictures, label_file)
    if listed is not None:
        _check_folders(pictures, listed, label_file, classes)
        return listed
    return true_classes(pictures, classes)  # another data set than the list's, or a list of names


def true_classes(pictures: Sequence[Path], classes: str | None) -> list[int]:
    """Returns the class id of each picture: by its folder, or by a bundle's list of a flat val.

    Raises:
        UserError: neither knows all of them.
    """
    folders = [path.parent.name for path in pictures]
    try:
        ids = folder_ids(classes, sorted(set(folders)))
    except UserError:
        listed = listed_labels(pictures, VAL_LABELS)
        if listed is None:
            raise
        return listed
    return [ids[folder] for folder in folders]


def listed_labels(pictures: Sequence[Path], label_file: Path) -> list[int] | None:
    """Returns the class ids that `FILE ID` lines give; None where they lack a picture."""
    ids = read_two_fields(label_file) if label_file.is_file() else None
    # The name alone, or with its folder, as the list has it.
    stems = [path.name.partition(".")[0] for path in pictures]
    keys = [(stem, f"{p.parent.name}/{stem}") for p, stem in zip(pictures, stems, strict=True)]
    if ids and all(any(name in ids for name in names) for names in keys):
        return [next(ids[name] for name in names if name in ids) for names in keys]
    return None


def _check_folders(
    pictures: Sequence[Path], listed: Sequence[int], label_file: Path, classes: str | None
) -> None:
    """Raises UserError where a list of another data set happens to have a picture's name."""
    told = known_folders(classes)
    for path, label in zip(pictures, listed, strict=True):
        folder = path.parent.name
        if told.get(folder, label) != label:
            raise UserError(
                f"two readings of {path}: class {label} by the list {label_file}, class"
                f" {told[folder]} by its folder {folder}",
                "give the list of these images; or --label BUNDLE/labels/label.txt, with which the"
                " folders tell",
            )
