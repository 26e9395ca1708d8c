"""The pictures of a split are found and opened."""

import os
from collections.abc import Sequence

from ppcls_lite.data.classes import ClassSet, match_classes
from ppcls_lite.data.folders import (
    FOLDERS,
    Split,
    check_root,
    find_split,
    look_for_split,
    other_split,
    pictures_root,
    split_classes,
)
from ppcls_lite.data.image_dataset import ImageDataset
from ppcls_lite.data.label_lists import Labels
from ppcls_lite.data.listed import classes_of_list
from ppcls_lite.data.lists import locate, read_list
from ppcls_lite.data.multi_label import open_labels
from ppcls_lite.data.packed import PackedFiles, Source
from ppcls_lite.data.pictures import (
    passed_over,
    pictures_beside,
    readable_extensions,
    scan_folder,
)
from ppcls_lite.data.shares import Shares, is_whole, kept_split, split_pictures
from ppcls_lite.errors import UserError
from ppcls_lite.files import readable

# What to do where val has a class that train lacks.
SAME_CLASSES = "give both splits the same class folders, or lists and one labels.txt"


class PackedDataset(ImageDataset):
    """A split that tools/pack_dataset.py wrote."""

    def __init__(self, files: PackedFiles) -> None:
        super().__init__([], files.entries["label"], files.description["classes"])
        self.files = files

    def path(self, index: int) -> str:
        """Returns what to call a picture."""
        return self.files.path(index)

    def name(self, index: int) -> bytes:
        """Returns the file that was packed and its folder's name."""
        return b"/".join(bytes(self.files.names[index]).split(b"/")[-2:])

    def source(self, index: int) -> Source:
        """Returns where the bytes of a picture are."""
        return self.files.source(index)


def open_split(
    data_path: str,
    split: str,
    list_file: str | None = None,
    other: str | None = None,
    shares: Shares | None = None,
    labels: Labels = "auto",
) -> ImageDataset:
    """Finds the pictures of one split; those of a `MultiLabelDataset` have several labels.

    Args:
        data_path: the data root.
        split: `train`, `val` or another folder's or list's name; see `folders`.
        list_file: read this list instead, whatever folders there are.
        other: the list of the other split, if it was named, too.
        shares: how to split one folder of class folders, which has no train/ and val/.
        labels: whether a list has one label a picture, or several; auto: by its lines.

    Raises:
        UserError: when there is no picture, or a list has bad lines.
    """
    check_root(data_path)
    data_path = pictures_root(data_path)
    found = None
    if (
        labels != "several"
        and not (list_file or other)
        and split in ("train", "val")
        and is_whole(data_path)
    ):
        return _open_share(data_path, split, shares or Shares())
    if list_file is not None:
        found = Split(split, list_file=_named_list(data_path, list_file))
    found = found or find_split(data_path, split)
    notes = [f"{split} is read from {found.name}"] if found.name != split else []
    several = open_labels(data_path, found, labels, notes)
    if several is not None:
        return several
    if found.folders:
        return _open_folders(found.folders, notes)
    if found.packed:
        return PackedDataset(PackedFiles(data_path, found.name))
    beside = look_for_split(data_path, other_split(split))
    if other is not None:
        beside = Split("", list_file=_named_list(data_path, other))
    data = _open_list(data_path, found, beside.list_file if beside else "", notes)
    if split != "train" and beside and beside.folders and data.numbers:
        # The ids are those of the folders to train on: then the classes have names.
        names = tuple(readable(name) for name in split_classes(beside.folders))
        match = match_classes(ClassSet("train", names, len(names)), data.class_set(split))
        if not match.unknown:
            data = data.mapped(match)
            data.notes += (match.how,)
    return data


def open_whole(data_path: str) -> ImageDataset | None:
    """Opens all pictures of one folder of class folders; None where the data root is no such."""
    return _open_folders([data_path], []) if is_whole(data_path) else None


def _open_share(data_path: str, split: str, shares: Shares) -> ImageDataset:
    """One side of a folder without a split: as the run keeps it, else as it is drawn."""
    if lists := kept_split(data_path, shares.run):
        file = str(lists / f"{split}_list.txt")
        notes = [f"{split} is that of {lists}"]
        data = _open_list(data_path, Split(split, list_file=file), "", notes)
    else:
        data = _open_folders([data_path], [])
        sides = split_pictures(
            [data.path(i) for i in range(len(data))], data.labels.tolist(), shares
        )
        chosen = sides.val if split == "val" else sides.train
        data = data.subset(chosen)
        if split == "val":
            data.notes += (
                f"no train/ and val/: {len(chosen)} images for val ({shares})",
                *sides.notes,
            )
            data.passed_over = data.outside = ()  # train says it
    data.share_of = data_path
    return data


def _named_list(data_path: str, list_file: str) -> str:
    return list_file if os.path.isfile(list_file) else os.path.join(data_path, list_file)


def _open_folders(folders: Sequence[str], notes: Sequence[str]) -> ImageDataset:
    classes = split_classes(folders)
    paths: list[str] = []
    labels: list[int] = []
    others: list[str] = []
    endings = readable_extensions()
    for label, name in enumerate(classes):
        for folder in folders:
            found, left = scan_folder(os.path.join(folder, name), endings)
            paths += found
            labels += [label] * len(found)
            others += left
    if not paths:
        where, left_out = " and ".join(folders), passed_over(others)
        message = f"{where}: {len(classes)} class folders, but no image in them"
        raise UserError(message + (f" ({left_out})" if left_out else ""), FOLDERS)
    classes = [readable(name) for name in classes]
    data = ImageDataset(paths, labels, classes, place=folders[0], notes=notes)
    data.passed_over = others
    data.outside = [path for folder in folders for path in pictures_beside(folder)]
    return data


def _open_list(data_path: str, found: Split, other: str, notes: Sequence[str]) -> ImageDataset:
    file = found.list_file
    listed = read_list(file, FOLDERS)
    paths, kept = locate(listed, file, found.roots(data_path))
    labels = [listed.labels[i] for i in kept]
    classes = classes_of_list(file, data_path, paths, labels, other)
    names = [readable(name) for name in classes.names]
    notes = [*notes, *classes.notes]
    return ImageDataset(paths, classes.labels, names, classes.numbers, data_path, notes)
