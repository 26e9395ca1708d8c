"""Class names, folders and ids, in the label files of the accelerator's documents."""

import functools
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from ppcls_lite.errors import UserError
from ppcls_lite.weights.description import imagenet_names

WNID_FILE = Path("labels/wnid.json")  # of a bundle


@functools.cache
def _synsets() -> tuple[tuple[str, str], ...]:
    text = resources.files("ppcls_lite.data").joinpath("imagenet_synsets.txt").read_text("utf-8")
    rows = [line.split(" ", 1) for line in text.splitlines()]
    return tuple((wnid, name) for wnid, name in rows)


def synset_names() -> dict[str, str]:
    """Name by folder of ImageNet-1k's classes (n01440764: tench, Tinca tinca), in id order."""
    return dict(_synsets())


def read_two_fields(file: Path) -> dict[str, int] | None:
    """Reads `FILE ID` lines; None when the file has another form, such as one name a line.

    Returns:
        Class id by file name without its suffix, with the folders the list gives.
    """
    ids = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        name, _, number = line.strip().rpartition(" ")
        if not line.strip():
            continue
        if not name or not number.isdecimal():
            return None
        ids[name.strip().partition(".")[0]] = int(number)
    return ids


def read_names(file: Path) -> list[str]:
    """Reads one class name a line; line 1 is class 0.

    Raises:
        UserError: there is no such file.
    """
    if not file.is_file():
        raise UserError(f"no label file {file}", "a bundle has it as labels/label.txt")
    return file.read_text(encoding="utf-8").splitlines()


def folder_ids(classes: str | None, folders: Sequence[str]) -> dict[str, int]:
    """Returns the class id of every folder name.

    Args:
        classes: a `wnid.json` ({folder: id}); None takes ImageNet's when all folders are of it,
            else the bundle's in the current folder.
        folders: those that occur.

    Raises:
        UserError: nothing says which class they are.
    """
    imagenet = {wnid: number for number, (wnid, _) in enumerate(_synsets())}
    if classes is None and set(folders) <= imagenet.keys():
        return imagenet
    file = Path(classes) if classes else WNID_FILE
    if not file.is_file():
        raise UserError(
            f"which class is folder {next(iter(folders), '')!r}? It is none of ImageNet's, and"
            f" there is no file {file}",
            "--classes labels/wnid.json of the bundle, or run this in the bundle's folder",
        )
    try:
        ids = json.loads(file.read_text(encoding="utf-8"))
        return {str(name): int(number) for name, number in ids.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{file} is no JSON object of folder names and ids ({error})") from None


def is_imagenet(num_classes: int, classes: Sequence[str]) -> bool:
    """Tells whether a network's classes are ImageNet-1k's, by name or by folder."""
    names = imagenet_names(num_classes)
    known = (list(names), list(synset_names()))
    return bool(names) and (not classes or list(classes) in known)


def val_label_lines(pictures: Mapping[str, int]) -> list[str]:
    """Returns `FILE ID` lines.

    Args:
        pictures: id by path, in which the last folder is the class.

    File names alone, as ImageNet's list has them; with their folder where a name occurs twice.
    """
    stems = [Path(path).stem for path in pictures]
    unique = len(set(stems)) == len(stems)
    return [
        f"{Path(path).name if unique else '/'.join(Path(path).parts[-2:])} {label}"
        for path, label in pictures.items()
    ]
