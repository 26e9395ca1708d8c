"""Class names, folders and ids, in the label files of the accelerator's documents."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ppcls_lite.data.classes import NONE, ClassMatch, ClassSet, match_names
from ppcls_lite.data.devkit import names_of_ids
from ppcls_lite.data.image_dataset import ImageDataset
from ppcls_lite.data.imagenet import imagenet_synsets, wnids_of
from ppcls_lite.data.lists import MAX_CLASSES
from ppcls_lite.errors import UserError, shortened
from ppcls_lite.files import readable
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.untrusted import read_json, read_lines, reading

# Of a bundle.
WNID_FILE = Path("labels/wnid.json")
IN_BUNDLE = "take the file of that name in a bundle's labels/"
VAL_LABELS = Path("labels/val_label.txt")


def read_two_fields(file: Path) -> dict[str, int] | None:
    """Reads `FILE ID` lines; None when the file has another form, such as one name a line.

    Returns:
        Class id by file name without its suffix, with the folders the list gives.

    Raises:
        UserError: they are the ids of ImageNet's devkit.
    """
    ids = {}
    for line in read_lines(file, "label list", IN_BUNDLE):
        name, _, number = line.strip().rpartition(" ")
        if not line.strip():
            continue
        if not name or not (number.isascii() and number.isdecimal()):
            return None
        if len(number) > 7:
            raise UserError(
                f"{file}: class id {shortened(number)}; allowed: below {MAX_CLASSES}",
                "mend this line: FILE ID",
            )
        ids[name.strip().partition(".")[0]] = int(number)
    if names_of_ids(str(file), str(file.parent), list(ids), list(ids.values())) is not None:
        raise UserError(
            f"{file} has the devkit's ids, which are in an order of their own",
            "list ids that count the sorted wnids from 0",
        )
    return ids


def read_names(file: Path) -> list[str]:
    """Reads one class name a line; line 1 is class 0.

    Raises:
        UserError: there is no such file.
    """
    return read_lines(file, "label file", IN_BUNDLE)


def folder_ids(classes: str | None, folders: Sequence[str]) -> dict[str, int]:
    """Returns the class id of every folder name.

    Args:
        classes: a `wnid.json` ({folder: id}); None takes the bundle's in the current folder, else
            ImageNet's when all folders are of it.
        folders: those that occur.

    Raises:
        UserError: nothing says which class they are.
    """
    file = Path(classes) if classes else WNID_FILE
    data = ClassSet("the images", tuple(map(readable, folders)), len(folders))
    ids: dict[str, int] = {}
    if file.is_file():
        ids = _read_ids(file)
        hint = "images lie in CLASS folders of the model's classes"
    elif classes is None and set(folders) <= imagenet_synsets().keys():
        ids = {wnid: number for number, wnid in enumerate(imagenet_synsets())}
    else:
        raise UserError(
            f"which class is folder {next(iter(folders), '')!r}? It is none of ImageNet's, and"
            f" there is no file {file}",
            "run this in the bundle's folder, or give --classes BUNDLE/labels/wnid.json",
        )
    if set(folders) <= ids.keys():
        return ids
    names = {number: name for name, number in reversed(ids.items())}
    known = ClassSet(str(file), tuple(names.get(i, "") for i in range(max(names) + 1)), len(names))
    match = match_names(known, data).complete(hint)
    return ids | dict(zip(folders, match.ids, strict=True))


def known_folders(classes: str | None) -> dict[str, int]:
    """Returns what a `wnid.json`, or the bundle's in the current folder, says; {} without one."""
    file = Path(classes) if classes else WNID_FILE
    return _read_ids(file) if file.is_file() else {}


def _read_ids(file: Path) -> dict[str, int]:
    what = "JSON object of folder names and ids"
    ids = read_json(file, what, IN_BUNDLE)
    with reading(file, what, IN_BUNDLE):
        for name, number in ids.items():
            if type(number) is not int or not 0 <= number < MAX_CLASSES:
                raise ValueError(f"{shortened(name, 80)}: {shortened(repr(number), 80)}")
    if not ids:
        raise UserError(f"{file} names no class", IN_BUNDLE)
    return ids


def label_names(info: ModelInfo) -> list[str]:
    """Returns what `label.txt` calls each class: ImageNet-1k's as the documents' file does."""
    lines = imagenet_synsets()
    if is_imagenet(info):
        return list(lines.values())
    return [info.class_name(i) for i in range(info.num_classes)]


def folder_names(info: ModelInfo, *data: ClassMatch) -> dict[str, int]:
    """Returns the id of every class folder: `wnid.json`.

    Args:
        info: the network.
        data: whose folders are among them, matched to the network.
    """
    known = info.class_set("")
    names = list(imagenet_synsets()) if is_imagenet(info) else map(known.name, range(known.count))
    ids = {name: number for number, name in enumerate(names)}
    for match in data:
        pairs = zip(match.data.names, match.ids, strict=True)
        ids |= {name: number for name, number in pairs if number != NONE}
    return ids


def is_imagenet(info: ModelInfo) -> bool:
    """Tells whether a network's classes are ImageNet-1k's in its order, in whatever spelling."""
    return wnids_of(info.classes) == [(wnid,) for wnid in imagenet_synsets()]


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


def val_folder(data_path: str | None) -> str | None:
    """Where `sample_cls` finds val; nothing where val is a list, or a share of one folder."""
    folder = Path(data_path or "", "val")
    return str(folder.absolute()) if data_path and folder.is_dir() else None


def write_labels(
    work: Path, info: ModelInfo, val: ImageDataset | None, matches: Sequence[ClassMatch]
) -> None:
    """Writes a bundle's lists of names and folders, and of the pictures of val, into `labels/`."""
    (work / "labels").mkdir()
    names = "".join(f"{name}\n" for name in label_names(info))
    (work / "labels/label.txt").write_text(names, encoding="utf-8")
    ids = json.dumps(folder_names(info, *matches), indent=0, ensure_ascii=False)
    (work / "labels/wnid.json").write_text(ids + "\n", encoding="utf-8")
    if val is not None:
        lines = val_label_lines({val.path(i): val.label(i) for i in range(len(val))})
        text = "".join(f"{line}\n" for line in lines)
        (work / "labels/val_label.txt").write_text(text, encoding="utf-8")
