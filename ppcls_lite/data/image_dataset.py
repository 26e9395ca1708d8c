"""The pictures of a split: their files, what they show, and what the classes are called."""

import copy
import os
from collections.abc import Sequence

import numpy as np

from ppcls_lite.data.classes import ClassMatch, ClassSet, match_classes
from ppcls_lite.data.packed import Source
from ppcls_lite.data.pictures import passed_over
from ppcls_lite.errors import some


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
                f"{self.place}: {len(self.outside)} images lie beside the class folders and are"
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
        same.labels = self._labels_of(match)
        same.classes = [known.name(i) for i in range(known.count)]
        same.numbers = known.numbers
        return same

    def _labels_of(self, match: ClassMatch) -> np.ndarray:
        ids = np.asarray([*match.ids, -1])  # the last one is for pictures of no known class
        return ids[self.labels]
