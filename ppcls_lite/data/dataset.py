"""Where the pictures of a data set are and what they show: class folders, a list, packed files."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ppcls_lite.data.packed import PackedFiles, Source, description_file
from ppcls_lite.data.preprocess import image_files
from ppcls_lite.errors import UserError, nearest, some

FOLDERS = (
    "lay it out as DATA/train/CLASS/*.jpg and DATA/val/CLASS/*.jpg, or DATA/train_list.txt and "
    "DATA/val_list.txt with lines 'path label'"
)
UNPACK = {
    ".tar": "tar -C {folder} -xf {archive}",
    ".tar.gz": "tar -C {folder} -xf {archive}",
    ".tgz": "tar -C {folder} -xf {archive}",
    ".zip": "unzip -d {folder} {archive}",
}
MAX_CLASSES = 1_000_000  # a larger "label" is a column of something else


class ImageDataset:
    """The pictures of one split, in a fixed order.

    Args:
        files: of the pictures.
        labels: class id of each picture, in range(len(classes)); -1 where it is not known.
        classes: name of each class; the position is the class id.
    """

    def __init__(self, files: Sequence[str], labels: Sequence[int], classes: list[str]) -> None:
        # One block of bytes: ImageNet's paths take half the memory they take as str objects.
        self._paths = np.array([os.fsencode(path) for path in files])  # [N]
        self.labels = np.asarray(labels, np.int64)  # [N]
        self.classes = classes

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, index: int) -> str:
        """Returns what to call a picture: its file, or its place in one."""
        return os.fsdecode(self._paths[index])

    def source(self, index: int) -> Source:
        """Returns where the bytes of a picture are."""
        return self.path(index)

    def label(self, index: int) -> int:
        """Returns the class id of a picture."""
        return int(self.labels[index])


class PackedDataset(ImageDataset):
    """A split that tools/pack_dataset.py wrote."""

    def __init__(self, files: PackedFiles) -> None:
        super().__init__([], files.entries["label"], files.description["classes"])
        self.files = files

    def path(self, index: int) -> str:
        """Returns what to call a picture."""
        return self.files.path(index)

    def source(self, index: int) -> Source:
        """Returns where the bytes of a picture are."""
        return self.files.source(index)


def open_split(data_path: str, split: str, list_file: str | None = None) -> ImageDataset:
    """Finds the pictures of one split.

    Args:
        data_path: the data root.
        split: `train` or `val`: the class folders in DATA/<split>, else DATA/<split>_list.txt,
            else what tools/pack_dataset.py wrote.
        list_file: read this list instead, whatever folders there are.

    Raises:
        UserError: when there is no picture, or a list has bad lines.
    """
    check_root(data_path)
    if list_file is not None:
        return _open_list(data_path, list_file)
    folder = os.path.join(data_path, split)
    default_list = os.path.join(data_path, f"{split}_list.txt")
    if class_folders(folder):
        return _open_folders(folder)
    if os.path.isfile(default_list):
        return _open_list(data_path, default_list)
    if description_file(data_path, split).is_file():
        return PackedDataset(PackedFiles(data_path, split))
    raise _no_split(data_path, split)


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
        hint = _unpack_command(parent, name) or FOLDERS
        raise UserError(f"data path {data_path} is a file, not a folder", hint)
    folders = [e.name for e in os.scandir(parent) if e.is_dir()] if os.path.isdir(parent) else []
    raise UserError(f"data path {data_path}: no such folder{nearest(name, folders)}", FOLDERS)


def _unpack_command(folder: str, name: str) -> str:
    """The command that unpacks the archive `folder`/`name` there; '' when it is no archive."""
    for extension, command in UNPACK.items():
        if name.lower().endswith(extension):
            archive = shlex.quote(os.path.join(folder, name))
            return command.format(folder=shlex.quote(folder), archive=archive)
    return ""


def class_folders(folder: str) -> list[str]:
    """Names of the class folders, sorted; the position is the class id.

    Empty folders count: the ids must be those of the full class list (ImageNet's order).
    """
    if not os.path.isdir(folder):
        return []
    # Differs from torchvision: a hidden folder (.ipynb_checkpoints) is no class.
    return sorted(e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith("."))


def check_same_classes(train: Sequence[str], val: Sequence[str]) -> None:
    """Checks that every class id of `val` means the same class in `train`.

    `val` may lack the last classes; a list file without labels.txt names no classes at all
    (they are called 0, 1, 2, ...), then only the number can be compared.

    Raises:
        UserError: names the classes that differ.
    """
    ids = [str(i) for i in range(max(len(train), len(val)))]
    if list(train) == ids[: len(train)] or list(val) == ids[: len(val)]:
        if len(val) <= len(train):
            return
        raise UserError(
            f"val has class ids up to {len(val) - 1}, but train has {len(train)} classes",
            "write both splits with the same ids, and their names into labels.txt",
        )
    if list(val) == list(train[: len(val)]):
        return
    differences = [
        f"only in {split}: {some(names)}"
        for split, names in (
            ("train", sorted(set(train) - set(val))),
            ("val", sorted(set(val) - set(train))),
        )
        if names
    ]
    raise UserError(
        f"train has {len(train)} classes, val has {len(val)}, and their ids do not agree: "
        + ("; ".join(differences) or "the same names are in another order"),
        "give both splits the same class folders (empty ones count)",
    )


def _open_folders(folder: str) -> ImageDataset:
    classes = class_folders(folder)
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = image_files(os.path.join(folder, name))
        paths += found
        labels += [label] * len(found)
    if not paths:
        raise UserError(f"{folder}: {len(classes)} class folders, but no picture in them", FOLDERS)
    return ImageDataset(paths, labels, classes)


def _open_list(data_path: str, list_file: str) -> ImageDataset:
    if not os.path.isfile(list_file):
        list_file = os.path.join(data_path, list_file)
    names, labels = _read_list(list_file)
    roots = [data_path, os.path.dirname(list_file)]
    # A few missing pictures are broken pictures; when the first hundred are missing, the list
    # was written for another folder.
    for root in roots:
        if any(os.path.exists(os.path.join(root, name)) for name in names[:100]):
            break
    else:
        raise UserError(
            f"{list_file}: its pictures are not there, for example {names[0]}",
            "paths may be relative to " + " or to ".join(dict.fromkeys(roots)),
        )
    paths = [os.path.join(root, name) for name in names]
    return ImageDataset(paths, labels, _class_names(data_path, max(labels) + 1))


def _read_list(list_file: str) -> tuple[list[str], list[int]]:
    names: list[str] = []
    labels: list[int] = []
    bad: list[str] = []
    try:
        with open(list_file, encoding="utf-8-sig", errors="surrogateescape") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip() or line.startswith("#"):
                    continue
                # The label is the last word, so that the path may hold spaces.
                name, _, label = line.strip().replace("\t", " ").rpartition(" ")
                if name and label.isdecimal() and int(label) < MAX_CLASSES:
                    names.append(name.strip())
                    labels.append(int(label))
                else:
                    bad.append(f"{list_file}:{number}: {line.strip()!r}")
    except OSError as error:
        raise UserError(f"list file {list_file}: {error.strerror}", FOLDERS) from error
    if bad:
        raise UserError(
            f"not 'path label' with a label of 0 or more: {some(bad)}", "mend or remove these lines"
        )
    if not names:
        raise UserError(f"{list_file}: the list is empty", FOLDERS)
    return names, labels


def _class_names(data_path: str, count: int) -> list[str]:
    """Names from labels.txt (lines 'name' or 'id name'), else the ids themselves."""
    file = os.path.join(data_path, "labels.txt")
    if not os.path.isfile(file):
        return [str(i) for i in range(count)]
    data = Path(file).read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{file}:{number}: the file is not UTF-8", "save it as UTF-8") from None
    names = [line.strip() for line in text.splitlines() if line.strip()]
    if len(names) < count:
        raise UserError(
            f"{file} names {len(names)} classes, but the list has label {count - 1}",
            "write one line per class, in the order of the ids",
        )
    split = [name.split(maxsplit=1) for name in names]
    if all(len(words) == 2 and words[0] == str(i) for i, words in enumerate(split)):
        return [words[1] for words in split]
    return names


def _no_split(data_path: str, split: str) -> UserError:
    """Says what lies in the data root instead of the split."""
    entries = sorted(os.listdir(data_path))
    message = f"{data_path} has no {split}/ with class folders and no {split}_list.txt"
    message += f"; found: {some(entries) or 'nothing, the folder is empty'}"
    for name in entries:
        if os.path.isdir(os.path.join(data_path, name, split)):
            return UserError(message, f"--data-path {shlex.quote(os.path.join(data_path, name))}")
    for name in entries:
        if command := _unpack_command(data_path, name):
            return UserError(message, command)
    if split in entries:
        return UserError(f"{message}; {split}/ holds no folder", FOLDERS)
    similar = [n for n in entries if n.lower().startswith(split) or split.startswith(n.lower())]
    guess = f"; did you mean {similar[0]}?" if similar else nearest(split, entries)
    return UserError(message + guess, FOLDERS)
