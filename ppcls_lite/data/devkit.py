"""ILSVRC2012's own ids: its devkit numbers the classes from 1 in an order of its own.

`ILSVRC2012_validation_ground_truth.txt`, and lists made of it, hold these ids. They look like the
ids of everybody else, which count the sorted wnids, and call nearly every picture something else.
"""

import importlib
import importlib.util
import itertools
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ppcls_lite.data.imagenet import imagenet_labels, imagenet_synsets
from ppcls_lite.data.lists import read_text
from ppcls_lite.errors import UserError
from ppcls_lite.program import quoted
from ppcls_lite.untrusted import LARGEST_TEXT, read_bounded, reading

GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
MAP = "map_clsloc.txt"  # of later devkits: lines `n02119789 1 kit_fox`
META = "meta.mat"  # of ILSVRC2012_devkit_t12: MATLAB's table `synsets`
FOLDERS = ("", "ILSVRC2012_devkit_t12/data", "ILSVRC/devkit/data", "devkit/data", "data")
VAL_PICTURE = re.compile(r"ILSVRC2012_val_(\d{8})(?!\d)")
# What the first pictures of val show: places of their wnids among the sorted ones.
FIRST_OF_VAL = (65, 970, 230, 809, 516, 57, 334, 415, 674, 332)


def known_pictures(files: Iterable[str], ids: Iterable[int]) -> list[tuple[str, int, int]]:
    """Returns file, id and true class of each picture of FIRST_OF_VAL in a list."""
    found = []
    for file, number in zip(files, ids, strict=True):
        match = VAL_PICTURE.search(file)
        if match and 1 <= int(match[1]) <= len(FIRST_OF_VAL):
            found.append((file, number, FIRST_OF_VAL[int(match[1]) - 1]))
    return found


def names_of_ids(
    list_file: str, place: str, files: Sequence[str], ids: Sequence[int]
) -> tuple[list[str], int] | None:
    """Returns what the ids of a list are called where they are the devkit's; None where they are
    the sorted wnids', or nothing tells.

    Args:
        list_file: for the message.
        place: the data root, where the devkit's map may lie.
        files: of the pictures, [N].
        ids: as listed, [N].

    Returns:
        The wnids in the devkit's order, and the id of the first one: 1, or 0 where somebody has
        subtracted it.

    Raises:
        UserError: they are not the sorted wnids', and there is no map that they fit.
    """
    known = known_pictures(files, ids)
    # Ids of classes of one's own, as ImageNet-100 has them, are few, or dense.
    last = max(ids, default=0)
    own = last < 100 or (last < 998 and 2 * len(set(ids)) > last)
    if not known or own or any(_fit(known, range(1000), first) for first in (0, 1)):
        return None
    position = {wnid: i for i, wnid in enumerate(imagenet_synsets())}
    readers = ((MAP, _read_map), (META, _read_meta))
    for folder, (name, read) in itertools.product(FOLDERS, readers):
        file = os.path.join(place, folder, name)
        if os.path.isfile(file):
            wnids = _in_order(file, read(file))
            order = [position[wnid] for wnid in wnids]
            for first in (1, 0):
                if _fit(known, order, first):
                    return wnids, first
    raise _two_readings(list_file, place, *known[0])


def _fit(known: list[tuple[str, int, int]], order: Sequence[int], first: int) -> bool:
    """Tells whether an order puts most pictures into their true class; few are relabelled."""
    right = sum(
        0 <= number - first < len(order) and order[number - first] == true
        for _, number, true in known
    )
    return 2 * right > len(known)


def _read_map(file: str) -> dict[str, str]:
    rows = [line.split() for line in read_text(file).splitlines() if line.strip()]
    return {row[1]: row[0] for row in rows if len(row) > 1}


def _read_meta(file: str) -> dict[str, str]:
    if importlib.util.find_spec("scipy") is None:
        raise UserError(
            f"{file} is MATLAB's, which scipy reads, and scipy is not installed",
            f"pip install scipy  # or put {MAP} beside it, lines `n02119789 1 kit_fox`",
        )
    with reading(Path(file), "table of ImageNet's synsets", "copy it from the devkit again"):
        read_bounded(Path(file), LARGEST_TEXT)
        scipy_io = importlib.import_module("scipy.io")
        rows = scipy_io.loadmat(file, squeeze_me=True, variable_names=["synsets"])["synsets"]
        return {str(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in rows}


def _in_order(file: str, by_id: dict[str, str]) -> list[str]:
    """The wnids of the ids 1 to 1000; behind these meta.mat has groups of classes."""
    wnids = [by_id.get(str(i), "") for i in range(1, len(imagenet_synsets()) + 1)]
    if set(wnids) != set(imagenet_synsets()):
        raise UserError(
            f"{file} does not give each of the ids 1 to 1000 a wnid of ImageNet's; a line of {MAP}"
            " is `n02119789 1 kit_fox`",
            "copy it from the devkit again",
        )
    return wnids


def _two_readings(list_file: str, place: str, file: str, number: int, true: int) -> UserError:
    labels = imagenet_labels()
    sorted_name = labels[number] if number < len(labels) else "no class"
    return UserError(
        f"{list_file}: {file} has the id {number}, and two readings fit:\n  by the order of the"
        f" wnids: {number} is {sorted_name}, but this image of ImageNet's shows {labels[true]},"
        f" which is {true}\n  by ILSVRC2012_ID, the devkit's order, as {GROUND_TRUTH} has it: then"
        f" {META}, or {MAP}, has to say which wnid is which id",
        f"cp DEVKIT/data/{META} {quoted(place or '.')}  # or {MAP}, from ImageNet's devkit; or list"
        " ids that count the sorted wnids from 0",
    )


def ground_truth_beside(place: str) -> str:
    """Returns the devkit's list of ids in or below a data root; "" when there is none."""
    files = [os.path.join(place, folder, GROUND_TRUTH) for folder in FOLDERS]
    return next(filter(os.path.isfile, files), "")
