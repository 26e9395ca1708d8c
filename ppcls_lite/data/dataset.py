"""The pictures of a split: their files, what they show, and what the classes are called."""

import copy
import os
from collections.abc import Sequence

import numpy as np

from ppcls_lite.data.classes import ClassMatch, ClassSet, match_classes
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
from ppcls_lite.data.listed import classes_of_list
from ppcls_lite.data.lists import locate, read_list
from ppcls_lite.data.packed import PackedFiles, Source
from ppcls_lite.data.pictures import (
    IMAGE_EXTENSIONS,
    is_litter,
    passed_over,
    readable_extensions,
    scan_folder,
)
from ppcls_lite.data.shares import Shares, is_whole, kept_split, split_pictures
from ppcls_lite.errors import UserError, some
from ppcls_lite.files import readable

# What to do where val has a class that train lacks.
SAME_CLASSES = "give both splits the same class folders, or lists and one labels.txt"


class ImageDataset:
    """The pictures of one split, in a fixed order.

    Args:
        files: of the pictures.
        labels: class id of each picture, in range(len(classes)); -1 where it is not known.
        classes: name of each class; the position is the class id.
        numbers: what the list calls each class; empty where there is no list, or it has names.
        place: the folder of the class folders, or of the list.
        notes: sentences on how the data was read.

    Attributes:
        passed_over: files in the class folders that are not taken for pictures.
        outside: pictures beside the class folders, which are of no class.
        share_of: the folder without a split that these pictures are a share of; "" for others.
    """

    share_of: str = ""
    passed_over: Sequence[str] = ()
    outside: Sequence[str] = ()

    def __init__(
        self,
        files: Sequence[str],
        labels: Sequence[int],
        classes: list[str],
        numbers: Sequence[int] = (),
        place: str = "",
        notes: Sequence[str] = (),
    ) -> None:
        # One block of bytes: ImageNet's paths take half the memory they take as str objects.
        self._paths = np.array([os.fsencode(path) for path in files])  # [N]
        self.labels = np.asarray(labels, np.int64)  # [N]
        self.classes = classes
        self.numbers = tuple(numbers)
        self.place = place
        self.notes = tuple(notes)

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, index: int) -> str:
        """Returns what to call a picture: its file, or its place in one."""
        return os.fsdecode(self._paths[index])

    def source(self, index: int) -> Source:
        """Returns where the bytes of a picture are."""
        return self.path(index)

    def sources(self) -> list[Source]:
        """Returns where the bytes of all pictures are, in order."""
        return [self.source(i) for i in range(len(self))]

    def name(self, index: int) -> bytes:
        """Returns the file of a picture and its folder's name, wherever the set lies."""
        return b"/".join(self._paths[index].split(b"/")[-2:])

    def label(self, index: int) -> int:
        """Returns the class id of a picture."""
        return int(self.labels[index])

    @property
    def remarks(self) -> list[str]:
        """Sentences on how the data was read and what was left out, for the plan."""
        return [*self.notes, *self.left_out]

    @property
    def left_out(self) -> list[str]:
        """Sentences on the files that are not among the pictures."""
        lines = []
        if said := passed_over(self.passed_over):
            lines.append(f"{self.place}: {said}")
        if self.outside:
            lines.append(
                f"{self.place}: {len(self.outside)} pictures lie beside the class folders and are"
                f" of no class: {some(self.outside, 3)}"
            )
        return lines

    def class_set(self, who: str) -> ClassSet:
        """Returns the classes and how many pictures each has; `who` is what to call them."""
        pictures = np.bincount(self.labels[self.labels >= 0], minlength=len(self.classes))
        return ClassSet(
            who,
            tuple(self.classes),
            len(self.classes),
            self.numbers,
            tuple(pictures.tolist()),
            self.place,
        )

    def matched(self, known: ClassSet, who: str, hint: str) -> tuple["ImageDataset", ClassMatch]:
        """Returns the same pictures with the class ids of `known`, and how they were matched.

        Raises:
            UserError: `known` lacks a class that has pictures (with `hint`), or two readings fit.
        """
        match = match_classes(known, self.class_set(who)).complete(hint)
        return self.mapped(match), match

    def subset(self, positions: np.ndarray) -> "ImageDataset":
        """Returns some of the pictures, by position [N], with the same classes."""
        some_of = copy.copy(self)
        some_of._paths, some_of.labels = self._paths[positions], self.labels[positions]
        return some_of

    def mapped(self, match: ClassMatch) -> "ImageDataset":
        """Returns the same pictures with the classes that theirs were matched to."""
        known = match.known
        same = copy.copy(self)
        ids = np.asarray([*match.ids, -1])  # the last one is for pictures of no known class
        same.labels = ids[self.labels]
        same.classes = [known.name(i) for i in range(known.count)]
        same.numbers = known.numbers
        return same


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
) -> ImageDataset:
    """Finds the pictures of one split.

    Args:
        data_path: the data root.
        split: `train`, `val` or another folder's or list's name; see `folders`.
        list_file: read this list instead, whatever folders there are.
        other: the list of the other split, if it was named, too.
        shares: how to split one folder of class folders, which has no train/ and val/.

    Raises:
        UserError: when there is no picture, or a list has bad lines.
    """
    check_root(data_path)
    data_path = pictures_root(data_path)
    found = None
    if not (list_file or other) and split in ("train", "val") and is_whole(data_path):
        return _open_share(data_path, split, shares or Shares())
    if list_file is not None:
        found = Split(split, list_file=_named_list(data_path, list_file))
    found = found or find_split(data_path, split)
    notes = [f"{split} is read from {found.name}"] if found.name != split else []
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
                f"no train/ and val/: {len(chosen)} pictures for val ({shares})",
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
        message = f"{where}: {len(classes)} class folders, but no picture in them"
        raise UserError(message + (f" ({left_out})" if left_out else ""), FOLDERS)
    classes = [readable(name) for name in classes]
    data = ImageDataset(paths, labels, classes, place=folders[0], notes=notes)
    data.passed_over = others
    data.outside = [path for folder in folders for path in _pictures_beside(folder)]
    return data


def _pictures_beside(folder: str) -> list[str]:
    """The pictures that lie in a folder of class folders itself."""
    return sorted(
        os.path.join(folder, entry.name)
        for entry in os.scandir(folder)
        if entry.name.lower().endswith(IMAGE_EXTENSIONS)
        and not is_litter(entry.name)
        and entry.is_file()
    )


def _open_list(data_path: str, found: Split, other: str, notes: Sequence[str]) -> ImageDataset:
    file = found.list_file
    listed = read_list(file, FOLDERS)
    roots = [data_path, os.path.dirname(file), os.path.join(data_path, found.name)]
    paths, kept = locate(listed, file, roots)
    labels = [listed.labels[i] for i in kept]
    classes = classes_of_list(file, data_path, paths, labels, other)
    names = [readable(name) for name in classes.names]
    notes = [*notes, *classes.notes]
    return ImageDataset(paths, classes.labels, names, classes.numbers, data_path, notes)
