"""A split of one folder of class folders: which pictures are kept for validation.

Stratified, drawn from a seed of its own, so that the same folder gives the same split in every
command and every run; pictures that are the same, or nearly, are on one side. A run keeps the split
that it used as lists in its folder, and whoever evaluates its weights reads them there.
"""

import functools
import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ppcls_lite.data.folders import SPLITS, class_folders, look_for_split
from ppcls_lite.data.listed import write_lists
from ppcls_lite.data.pictures import IMAGE_EXTENSIONS, is_litter
from ppcls_lite.errors import UserError, some

FOLDER = "split"  # of a run: train_list.txt, val_list.txt, labels.txt
SIDE = 16  # of the small picture that is compared, pixels
BITS = 64  # of the hash: is a pixel of 8 x 9 brighter than the next one
FAR = 6  # bits in which two nearly equal pictures may differ
LEVELS = 8.0  # mean difference of their colours, of 255
# Not Valio or trainers, which begin like one.
SPLIT_NAME = re.compile(
    rf"(?:{'|'.join(SPLITS)})(?:ing|s|set|data|images?|imgs?|split|part|[\W\d_])*", re.IGNORECASE
)
CROWD = 2000  # pictures of one band of the hash that are not compared one by one any more


@dataclass(frozen=True)
class Shares:
    """How a folder without a split is split.

    Attributes:
        val_share: of each class, for validation.
        folds: above 0: so many parts instead, of which `fold` is for validation.
        fold: from 0.
        seed: of the draw.
        run: a run's folder, or a file or folder in one, whose split is taken if it has one.
    """

    val_share: float = 0.2
    folds: int = 0
    fold: int = 0
    seed: int = 0
    run: str = ""

    def __str__(self) -> str:
        if self.folds:
            return f"fold {self.fold} of {self.folds}, seed {self.seed}"
        return f"{self.val_share:.0%} of each class, seed {self.seed}"


def is_whole(data_path: str) -> bool:
    """Tells whether a data root is one folder of class folders: no split, pictures right in them.

    Folders that are named as splits are, or nearly, are no classes: there something is missing.
    A train of images among two other classes is one that runs on rails.
    """
    if look_for_split(data_path, "train") or look_for_split(data_path, "val"):
        return False
    names = class_folders(data_path)
    below = {name: os.path.join(data_path, name) for name in names}
    if any(os.path.isdir(os.path.join(folder, "train")) for folder in below.values()):
        return False
    full = {name for name in names if _has_pictures(below[name])}
    others = full - {"train"} if len(full) > 2 and "train" in full else set(names)
    if any(SPLIT_NAME.fullmatch(name) for name in others):
        return False
    return bool(full)


def _has_pictures(folder: str) -> bool:
    with os.scandir(folder) as entries:
        return any(
            e.name.lower().endswith(IMAGE_EXTENSIONS) and not is_litter(e.name) for e in entries
        )


def kept_split(data_path: str, run: str) -> Path | None:
    """Returns the folder with the lists of a run's split of this data, if there are such.

    Args:
        data_path: the data root.
        run: a run's folder, or what lies in it.
    """
    if not run:
        return None
    for place in (Path(run), *Path(run).parents[:2]):
        lists = place / FOLDER
        if all((lists / f"{side}_list.txt").is_file() for side in ("train", "val")):
            lines = (lists / "val_list.txt").read_bytes().splitlines()[:100]
            paths = (os.fsdecode(line.rpartition(b" ")[0]) for line in lines)
            if any(os.path.isfile(os.path.join(data_path, path)) for path in paths):
                return lists
    return None


def write_split(
    run: Path, data_path: str, classes: Sequence[str], sides: dict[str, tuple[list[str], list[int]]]
) -> None:
    """Keeps a split in a run's folder, as lists that --train-list and --val-list read, too.

    Args:
        run: its folder.
        data_path: what the paths in the lists start from.
        classes: names, [K].
        sides: of train and val the paths [N] and class ids [N].

    Raises:
        UserError: a file's name has a line break.
    """
    write_lists(run / FOLDER, data_path, classes, sides)


class Sides(NamedTuple):
    """Positions of the pictures of both sides, rising, and what is worth a line."""

    train: np.ndarray
    val: np.ndarray
    notes: tuple[str, ...]


def split_pictures(paths: Sequence[str], labels: Sequence[int], shares: Shares) -> Sides:
    """Splits pictures.

    Args:
        paths: [N].
        labels: class ids, [N].
        shares: how.

    Raises:
        UserError: all pictures are the same, or nothing is left for a side.
    """
    groups = equal_groups(tuple(paths))
    count = int(groups.max()) + 1
    if count == 1 and len(paths) > 1:
        raise UserError(
            f"all {len(paths)} images are the same, or nearly: {paths[0]}, {paths[1]} ...",
            "give images that differ; near copies are kept on one side of the split",
        )
    held = _folded(groups, labels, shares) if shares.folds else _shared(groups, labels, shares)
    train, val = np.flatnonzero(~held), np.flatnonzero(held)
    if not len(val) or not len(train):
        half = _shared(groups, labels, replace(shares, val_share=0.5))
        raise UserError(
            f"{len(paths)} images in {len(set(labels))} classes, {shares}: "
            + ("nothing is left to train on" if len(val) else "no image is left for validation"),
            "--val-share 0.5"
            if half.any()
            else "add another image of each class: one is learned from, one is for validation",
        )
    notes = []
    alike = len(paths) - count
    if alike:
        pairs = _examples(groups, paths)
        notes.append(
            f"{alike} images are others once more, or nearly, and stay on their side: {pairs}"
        )
    several = Counter(g for g, _ in {*zip(groups.tolist(), labels, strict=True)})
    if mixed := [group for group, n in several.items() if n > 1]:
        rows = [" = ".join(paths[i] for i in np.flatnonzero(groups == g)[:2]) for g in mixed]
        notes.append(f"the same image in several classes: {some(rows, 3)}")
    return Sides(train, val, tuple(notes))


def _examples(groups: np.ndarray, paths: Sequence[str]) -> str:
    sizes = np.bincount(groups)
    rows = []
    for group in np.flatnonzero(sizes > 1)[:2]:
        first, second = np.flatnonzero(groups == group)[:2]
        rows.append(f"{paths[first]} = {paths[second]}")
    return ", ".join(rows)


def _drawn(groups: np.ndarray, labels: Sequence[int], seed: int) -> dict[int, list[np.ndarray]]:
    """The groups of each class, in drawn order; one of several classes belongs to its first's."""
    members: dict[int, list[int]] = defaultdict(list)
    for i, group in enumerate(groups.tolist()):
        members[group].append(i)
    of_class: dict[int, list[np.ndarray]] = defaultdict(list)
    for rows in members.values():
        of_class[labels[rows[0]]].append(np.array(rows))
    for label in sorted(of_class):
        order = np.random.default_rng((seed, label)).permutation(len(of_class[label]))
        of_class[label] = [of_class[label][i] for i in order]
    return of_class


def _shared(groups: np.ndarray, labels: Sequence[int], shares: Shares) -> np.ndarray:
    held = np.zeros(len(groups), bool)
    for of_class in _drawn(groups, labels, shares.seed).values():
        total = sum(map(len, of_class))
        wanted = min(max(round(shares.val_share * total), 1), total - 1)
        for rows in of_class:
            if held[rows[0]] == 0 and 0 < len(rows) <= wanted:
                held[rows] = True
                wanted -= len(rows)
    return held


def _folded(groups: np.ndarray, labels: Sequence[int], shares: Shares) -> np.ndarray:
    held = np.zeros(len(groups), bool)
    whole = [0] * shares.folds
    for of_class in _drawn(groups, labels, shares.seed).values():
        sizes = [0] * shares.folds
        for rows in of_class:
            # Where the class has least; of equal ones where there is least at all.
            fold = min(range(shares.folds), key=lambda i: (sizes[i], whole[i], i))
            sizes[fold] += len(rows)
            whole[fold] += len(rows)
            if fold == shares.fold:
                held[rows] = True
    return held


@functools.lru_cache(maxsize=4)
def equal_groups(paths: tuple[str, ...]) -> np.ndarray:
    """Gives pictures that are the same, or nearly, the same number from 0 on, int64 [N].

    The same are those with the same bytes. Nearly the same: the difference hash (brighter than the
    neighbour on the right, on 9 x 8 pixels: Krawetz 2013) differs in FAR bits at most, and the
    colours of 16 x 16 pixels by LEVELS on the mean. A picture that cannot be read is alone:
    training names it.
    """
    looks = [_look(path) for path in paths]
    parent = list(range(len(paths)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[bytes, int] = {}
    for i, look in enumerate(looks):
        parent[root(i)] = root(first.setdefault(look.digest, i)) if look.digest else root(i)
    seen = np.array([i for i, look in enumerate(looks) if look.levels is not None], int)
    if len(seen):
        levels = np.stack([looks[i].levels for i in seen])  # uint8 [M, 768]
        hashes = np.stack([looks[i].bits for i in seen])  # bool [M, 64]
        for a, b in _near(hashes, levels):
            parent[root(int(seen[b]))] = root(int(seen[a]))
    _, numbers = np.unique([root(i) for i in range(len(paths))], return_inverse=True)
    return np.asarray(numbers, np.int64)


class Look(NamedTuple):
    """What is compared of a picture; empty where it cannot be read."""

    digest: bytes = b""
    bits: np.ndarray | None = None
    levels: np.ndarray | None = None


def _look(path: str) -> Look:
    try:
        with open(path, "rb") as file:
            digest = hashlib.blake2b(file.read()).digest()
            file.seek(0)
            with Image.open(file) as image:
                image.draft("RGB", (4 * SIDE, 4 * SIDE))  # a JPEG is decoded smaller
                whole = image.convert("RGB")
    except Exception:  # of any class, as in decode.load_image; training says what is wrong
        return Look()
    grey = np.asarray(whole.resize((9, 8), Image.Resampling.BOX).convert("L"))
    levels = np.asarray(whole.resize((SIDE, SIDE), Image.Resampling.BOX))
    return Look(digest, (grey[:, 1:] > grey[:, :-1]).ravel(), levels.ravel())


def _near(hashes: np.ndarray, levels: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of nearly equal pictures: bool [N, 64] and uint8 [N, 768] -> positions.

    Hashes that differ in FAR bits agree in one of FAR + 1 bands, so only those are compared.
    """
    pairs = []
    for band in np.array_split(np.arange(BITS), FAR + 1):
        keys = np.packbits(hashes[:, band], axis=1)
        _, group = np.unique(keys, axis=0, return_inverse=True)
        order = np.argsort(group.ravel(), kind="stable")
        ends = np.flatnonzero(np.diff(group.ravel()[order])) + 1
        for rows in np.split(order, ends):
            for start in range(0, len(rows) - 1):
                others = rows[start + 1 : start + 1 + CROWD]
                far = np.count_nonzero(hashes[others] != hashes[rows[start]], axis=1)
                others = others[far <= FAR]
                apart = np.abs(levels[others].astype(np.int16) - levels[rows[start]]).mean(axis=1)
                pairs += [(int(rows[start]), int(other)) for other in others[apart <= LEVELS]]
    return pairs
