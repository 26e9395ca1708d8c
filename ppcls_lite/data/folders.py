"""Where a split lies below a data root, and what to say when it lies nowhere.

The first of these that is there, for `val` under each of its names:

    NAME/CLASS/*                     class folders; NAME.X1/, NAME.X2/ ... are parts of one
    NAME_list.txt, NAME_label.txt,   lists, see `lists`; LOC_val_solution.csv is Kaggle's, and may
    NAME.txt, .csv ...               lie up to three folders above the pictures
    NAME.packed.json                 what tools/pack_dataset.py wrote

One rule for both splits: where one of them has a list only, and both have one, both are read from
their lists.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ppcls_lite.data.archives import TARS_OF_IMAGENET, archive_parts, unpack_command
from ppcls_lite.data.devkit import ground_truth_beside
from ppcls_lite.data.lists import join_command
from ppcls_lite.data.packed import description_file
from ppcls_lite.data.pictures import IMAGE_EXTENSIONS, is_litter
from ppcls_lite.errors import UserError, nearest, some
from ppcls_lite.program import quoted

FOLDERS = (
    "lay it out as DATA/CLASS/*.jpg, or DATA/train/CLASS/*.jpg and DATA/val/CLASS/*.jpg, or "
    "DATA/train_list.txt and DATA/val_list.txt with lines 'path label'"
)
# What people call the pictures that are not trained on; the first that is there counts.
VAL_NAMES = ("val", "valid", "validation", "test")
SPLITS = ("train", *VAL_NAMES)
LISTS = ("{}_list.txt", "{}_label.txt", "{}_labels.txt", "{}.txt", "{}_list.csv", "{}.csv")
KAGGLE_LIST = "LOC_val_solution.csv"
KAGGLE_FOLDER = "ILSVRC/Data/CLS-LOC"
WNID_AT_END = re.compile(r"_n\d{8}\.[^.]*$")  # Hugging Face's archives of ImageNet
BOXES_OF_TINY = "val_annotations.txt"  # of Tiny-ImageNet: FILE WNID and a box, for val/images/


@dataclass(frozen=True)
class Split:
    """Where a split was found.

    Attributes:
        name: of it there.
        folders: with class folders in them; empty when there is a list.
        list_file: the list; "" when there are class folders.
        packed: it is what tools/pack_dataset.py wrote.
    """

    name: str
    folders: tuple[str, ...] = ()
    list_file: str = ""
    packed: bool = False

    def roots(self, data_path: str) -> list[str]:
        """Returns the folders that the paths of the list may start from."""
        return [data_path, os.path.dirname(self.list_file), os.path.join(data_path, self.name)]


def check_root(data_path: str) -> None:
    """Checks that the data root is a folder.

    Raises:
        UserError: names what it is instead, or the nearest folder.
    """
    if os.path.isdir(data_path):
        return
    parent, name = os.path.split(os.path.normpath(data_path))
    parent = parent or "."
    if os.path.exists(data_path):
        hint = unpack_command(os.path.normpath(data_path), SPLITS) or FOLDERS
        raise UserError(f"data path {data_path} is a file, not a folder", hint)
    folders = [e.name for e in os.scandir(parent) if e.is_dir()] if os.path.isdir(parent) else []
    raise UserError(f"data path {data_path}: no such folder{nearest(name, folders)}", FOLDERS)


def pictures_root(data_path: str) -> str:
    """Returns the folder with the splits: the data root, or what Kaggle's ImageNet has in it."""
    below = os.path.join(data_path, KAGGLE_FOLDER)
    return below if os.path.isdir(below) else data_path


def class_folders(folder: str) -> list[str]:
    """Names of the class folders, sorted, as numbers when all are; the position is the class id.

    Empty folders count: the ids must be those of the full class list (ImageNet's order).
    """
    if not os.path.isdir(folder):
        return []
    # Differs from torchvision: a hidden folder (.ipynb_checkpoints) or litter is no class, and 10
    # comes after 9.
    names = [e.name for e in os.scandir(folder) if e.is_dir() and not is_litter(e.name)]
    numeric = all(name.isdecimal() and len(name) <= 20 for name in names)
    return sorted(names, key=lambda name: (int(name) if numeric else 0, name))


def find_split(data_path: str, split: str) -> Split:
    """Finds a split.

    Args:
        data_path: the data root.
        split: train, val or another name of a folder or list; val has several.

    Raises:
        UserError: says what is there instead.
    """
    check_root(data_path)
    found = look_for_split(data_path, split)
    if found is None:
        raise no_split(data_path, split)
    if found.folders and split_classes(found.folders) == ["images"]:
        _check_tiny(found.folders[0])
    return found


def _check_tiny(folder: str) -> None:
    """Raises UserError where Tiny-ImageNet's val lies as it was downloaded, without classes."""
    if not os.path.isfile(os.path.join(folder, BOXES_OF_TINY)):
        return
    move = 'while read -r f w _; do mkdir -p "$w" && mv "images/$f" "$w/"; done'
    raise UserError(
        f"{folder} holds no class folder, only images/; {BOXES_OF_TINY} says what they show",
        f"(cd {quoted(folder)} && {move} < {BOXES_OF_TINY} && rmdir images)",
    )


def look_for_split(data_path: str, split: str) -> Split | None:
    """Finds a split, or nothing."""
    for name in _names_of(split):
        folders, list_file = _parts(data_path, name), find_list(data_path, name)
        if folders and not (list_file and _has_list_only(data_path, other_split(split))):
            return Split(name, folders)
        if list_file:
            return Split(name, list_file=list_file)
        if description_file(data_path, name).is_file():
            return Split(name, packed=True)
    return None


def other_split(split: str) -> str:
    """Returns what a split is compared with."""
    return "val" if split == "train" else "train"


def _names_of(split: str) -> tuple[str, ...]:
    return VAL_NAMES if split == "val" else (split,)


def _has_list_only(data_path: str, split: str) -> bool:
    names = _names_of(split)
    has_folders = any(_parts(data_path, name) for name in names)
    return not has_folders and any(find_list(data_path, name) for name in names)


def find_list(data_path: str, name: str) -> str:
    """Returns the list file of a split; "" where there is none."""
    files = [os.path.join(data_path, form.format(name)) for form in LISTS]
    if name == "val":
        up = [data_path, *(os.path.join(data_path, *[".."] * i) for i in (1, 2, 3))]
        files += [os.path.join(folder, KAGGLE_LIST) for folder in up]
    return next(filter(os.path.isfile, files), "")


def _parts(data_path: str, name: str) -> tuple[str, ...]:
    """The folders with class folders that make up a split: NAME/, or NAME.X1/, NAME.X2/ ..."""
    part = re.compile(re.escape(name) + r"(\.X\d*)?")  # Kaggle's ImageNet-100 comes in parts
    entries = sorted(entry.name for entry in os.scandir(data_path) if part.fullmatch(entry.name))
    folders = (os.path.join(data_path, entry) for entry in entries)
    return tuple(folder for folder in folders if class_folders(folder))


def split_classes(folders: Sequence[str]) -> list[str]:
    """Names of the classes of a split's folders; the position is the class id."""
    if len(folders) == 1:
        return class_folders(folders[0])
    return sorted({name for folder in folders for name in class_folders(folder)})


def no_split(data_path: str, split: str) -> UserError:
    """Says what lies in the data root instead of the split."""
    entries = sorted(os.listdir(data_path))
    message = f"{data_path} has no {split}/ with class folders and no {split}_list.txt"
    message += f"; found: {some(entries) or 'nothing, the folder is empty'}"
    if below := _root_below(data_path, split):
        return UserError(message, f"--data-path {quoted(below)}")
    names = _names_of(split)
    for name in entries:
        stem, _ = archive_parts(name)
        meant = TARS_OF_IMAGENET.get(stem, stem)
        if stem and (meant in names or meant not in SPLITS):
            return UserError(message, unpack_command(os.path.join(data_path, name), SPLITS))
    for name in names:
        if name in entries:
            return _no_classes(message, os.path.join(data_path, name))
    if called := _called_otherwise(data_path, entries, names):
        target = quoted(os.path.join(data_path, split))
        return UserError(message, f"mv {quoted(called)} {target}")
    if split == "val" and _parts(data_path, "train"):
        one = quoted(os.path.join(data_path, "train"))
        return UserError(message, f"--data-path {one}  # keeps a fifth of it for validation")
    if _are_empty(folders := _folders_of(data_path)):
        empty = some([os.path.basename(folder) for folder in folders])
        return UserError(f"{message}; no image is in {empty}", FOLDERS)
    similar = [n for n in entries if n.lower().startswith(split) or split.startswith(n.lower())]
    guess = f"; did you mean {similar[0]}?" if similar else nearest(split, entries)
    return UserError(message + guess, FOLDERS)


def _root_below(data_path: str, split: str) -> str:
    """The folder with a split that lies in the data root, or in folders that hold one each."""
    while folders := _folders_of(data_path):
        for folder in folders:
            if os.path.isdir(os.path.join(pictures_root(folder), split)):
                return folder
        if len(folders) > 1:
            break
        data_path = folders[0]
    return ""


def _folders_of(folder: str) -> list[str]:
    return sorted(
        entry.path
        for entry in os.scandir(folder)
        if entry.is_dir(follow_symlinks=False) and not is_litter(entry.name)
    )


def _are_empty(folders: Sequence[str]) -> bool:
    """Tells whether there are folders, and neither an image nor a folder is in any of them."""
    inside = [entry for folder in folders for entry in os.scandir(folder)]
    return bool(folders) and not any(
        entry.is_dir() or entry.name.lower().endswith(IMAGE_EXTENSIONS) for entry in inside
    )


def _called_otherwise(data_path: str, entries: Sequence[str], names: Sequence[str]) -> str:
    """Class folders that are a split by a word of their name: Train, testing, seg_train/seg_train;
    "" where there are none."""
    for name in names:
        for entry in entries:
            folder, inner = os.path.join(data_path, entry), os.path.join(data_path, entry, entry)
            words = re.split(r"[\W_]+", entry.lower())
            if any(word.startswith(name) for word in words) and class_folders(folder):
                return inner if class_folders(folder) == [entry] else folder
    return ""


def _no_classes(message: str, folder: str) -> UserError:
    """Says what a split without class folders holds."""
    name = os.path.basename(folder)
    if not os.path.isdir(folder):
        return UserError(f"{message}; {name} is a file", FOLDERS)
    message += f"; {name}/ holds no folder"
    pictures = [e.name for e in os.scandir(folder) if e.name.lower().endswith(IMAGE_EXTENSIONS)]
    if not pictures:
        return UserError(message, FOLDERS)
    place = os.path.dirname(folder)
    if all(WNID_AT_END.search(picture) for picture in pictures):
        target = quoted(os.path.join(place, f"{name}_label.txt"))
        take = r"sed -E 's/.*_(n[0-9]{8})\.[^.]*$/& \1/'"
        return UserError(
            f"{message}, but images, whose names end in their wnids",
            f"ls {quoted(folder)} | {take} > {target}",
        )
    if truth := ground_truth_beside(place):
        target = os.path.join(place, f"{name}_list.txt")
        return UserError(
            f"{message}, but images; {truth} has ids without their names",
            join_command(folder, truth, target),
        )
    beside = quoted(os.path.join(place, f"{name}_label.txt"))
    return UserError(
        f"{message}, but images, and nothing says what they show",
        f"write {beside} with lines 'FILE ID', as {min(pictures)} 0, or put {KAGGLE_LIST} there",
    )
