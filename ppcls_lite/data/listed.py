"""The classes of a list file: what its ids count from, and what they are called."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ppcls_lite.data.devkit import names_of_ids
from ppcls_lite.data.lists import read_list, read_text
from ppcls_lite.errors import UserError, some
from ppcls_lite.files import write_atomically


@dataclass(frozen=True)
class ListedClasses:
    """The classes of a list.

    Attributes:
        labels: class id of every picture, [N].
        names: of the classes, [K].
        numbers: what the list calls each class, [K]; empty where names were given for them.
        notes: what is worth a line in the plan.
    """

    labels: list[int]
    names: list[str]
    numbers: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


def classes_of_list(
    file: str, data_path: str, paths: Sequence[str], labels: Sequence[int | str], other: str
) -> ListedClasses:
    """Finds the classes of a list.

    A list of ids takes its names from labels.txt beside it or in the data root, else from the
    folders that the pictures lie in where each class has one of its own, else the ids are the
    names. They count from 1, not 0, where labels.txt says so or has as many names as the largest
    id, or where the ids 1 to K are there, all of them, and 0 in neither list.

    Args:
        file: the list, for messages.
        data_path: the data root.
        paths: of the pictures, [N].
        labels: ids, or names, [N].
        other: the list of the other split, which must count alike; "" without one.

    Raises:
        UserError: labels.txt has another form or too few names, or the ids are the devkit's.
    """
    ids = [label for label in labels if isinstance(label, int)]
    given = read_names(os.path.dirname(file)) or read_names(data_path)
    if given is None and ids:
        given = names_of_ids(file, data_path, paths, ids)  # the devkit's, in an order of its own
    if not ids:
        names = sorted({str(label) for label in labels})
        if given and set(names) <= set(given[0]):
            names = given[0]
        position = {name: i for i, name in enumerate(names)}
        return ListedClasses([position[str(label)] for label in labels], names)
    names, first = given if given else ([], None)
    # The other list counts alike, and may have more classes; only where it can matter it is read.
    used = set(ids)
    if other and first is None and min(used) > 0:
        used |= read_list(other, "").numbers
    if first is None:
        last = len(names) or len(used)
        first = int(min(used) > 0 and max(used) == last)
    count = max(used) + 1 - first
    if names and (count > len(names) or min(used) < first):
        raise UserError(
            f"{os.path.join(data_path, 'labels.txt')} names {len(names)} classes, but the list has"
            f" label {max(used) if count > len(names) else min(used)}",
            "write one line per class, in the order of the ids",
        )
    numbers = () if names else tuple(range(first, first + count))
    names = names or _folder_names(paths, ids, numbers) or [str(number) for number in numbers]
    notes = (f"the ids of {file} count from 1: {first} is class 0, {names[0]}",) if first else ()
    return ListedClasses([label - first for label in ids], names, numbers, notes)


def read_names(data_path: str) -> tuple[list[str], int | None] | None:
    """Reads labels.txt of a data root: lines `name` or `id name`; None when there is none.

    Returns:
        The names, and the id of the first line where the lines have ids from 0 or 1 on.

    Raises:
        UserError: it is not UTF-8 or UTF-16, or empty.
    """
    file = os.path.join(data_path, "labels.txt")
    if not os.path.isfile(file):
        return None
    text = read_text(file)
    for number, line in enumerate(text.splitlines(), 1):
        if any(0xDC80 <= ord(letter) <= 0xDCFF for letter in line):
            raise UserError(f"{file}:{number}: the file is not UTF-8", "save this file as UTF-8")
    names = [line.strip() for line in text.splitlines() if line.strip()]
    if not names:
        raise UserError(f"{file} is empty", "write one line per class, in the order of the ids")
    split = [name.split(maxsplit=1) for name in names]
    for first in (0, 1):
        if all(len(words) == 2 and words[0] == str(i) for i, words in enumerate(split, first)):
            return [words[1] for words in split], first
    return names, None


def _folder_names(paths: Sequence[str], ids: Sequence[int], numbers: Sequence[int]) -> list[str]:
    """The folder of each class; none unless each has one of its own, side by side."""
    folders: dict[int, str] = {}
    for path, label in zip(paths, ids, strict=True):
        folder = os.path.dirname(path)
        if folders.setdefault(label, folder) != folder:
            return []
    names = {label: os.path.basename(folder) for label, folder in folders.items()}
    beside = len({os.path.dirname(folder) for folder in folders.values()}) == 1
    if len(names) < 2 or len(set(names.values())) < len(names) or not beside:
        return []
    return [names.get(number, str(number)) for number in numbers]


def write_lists(
    folder: Path, start: str, classes: Sequence[str], sides: dict[str, tuple[list[str], list[int]]]
) -> None:
    """Writes lists of both sides, and labels.txt.

    Args:
        folder: where; it is made.
        start: what the paths in the lists start from.
        classes: names, [K].
        sides: of train and val the paths [N] and class ids [N].

    Raises:
        UserError: a file's name has a line break.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for side, (paths, labels) in sides.items():
        relative = [os.path.relpath(path, start) for path in paths]
        if broken := [path for path in relative if "\n" in path or "\r" in path]:
            raise UserError(
                f"a list cannot hold names with line breaks: {some([repr(x) for x in broken])}",
                "rename these files",
            )
        rows = [f"{path} {label}\n" for path, label in zip(relative, labels, strict=True)]
        write_atomically(folder / f"{side}_list.txt", os.fsencode("".join(rows)))
    names = "".join(f"{i} {name}\n" for i, name in enumerate(classes))
    write_atomically(folder / "labels.txt", names.encode())
