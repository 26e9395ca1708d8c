"""Pictures with several labels each: the data set, and how it is opened."""

import os
from collections.abc import Sequence

import numpy as np

from ppcls_lite.data.classes import NONE, ClassMatch, ClassSet
from ppcls_lite.data.folders import Split
from ppcls_lite.data.image_dataset import ImageDataset
from ppcls_lite.data.label_lists import FORMS, Labels, read_label_list
from ppcls_lite.data.listed import read_names
from ppcls_lite.data.lists import PictureList, locate
from ppcls_lite.errors import UserError


class MultiLabelDataset(ImageDataset):
    """Pictures of which each shows any number of the classes.

    Attributes:
        labels: 1 where the class is on the picture, uint8 [N, K].
    """

    def __init__(
        self,
        files: Sequence[str],
        labels: np.ndarray,
        classes: list[str],
        numbers: Sequence[int] = (),
        place: str = "",
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__(files, (), classes, numbers, place, notes)
        self.labels = labels

    def label(self, index: int) -> int:
        """Raises UserError: there is no such thing as the label of a picture."""
        raise UserError(
            f"{self.place} lists several labels an image, which this command does not know",
            "give class folders, or lists with one label an image",
        )

    def class_set(self, who: str) -> ClassSet:
        """Returns the classes and how many pictures show each; `who` is what to call them."""
        pictures = tuple(self.labels.sum(axis=0, dtype=np.int64).tolist())
        count = len(self.classes)
        return ClassSet(who, tuple(self.classes), count, self.numbers, pictures, self.place)

    def _labels_of(self, match: ClassMatch) -> np.ndarray:
        known, data = match.known, match.data
        if known.numbers and len(known.numbers) != data.count:
            raise UserError(
                f"{known.who} lists {known.count} classes an image, {data.who} {data.count}",
                "write as many 0 and 1 in both lists, or name the classes in a CSV",
            )
        labels = np.zeros((len(self), known.count), np.uint8)
        for column, class_id in enumerate(match.ids):
            if class_id != NONE:
                labels[:, class_id] |= self.labels[:, column]
        return labels


def open_labels(data_path: str, found: Split, how: Labels, notes: list[str]) -> ImageDataset | None:
    """Opens a list whose lines tell of each class whether it is on the picture; None for others.

    Where `auto` finds exactly one class on each picture, they have one label.

    Args:
        data_path: the data root.
        found: what lies there for the split.
        how: whether a list has one label a picture, or several.
        notes: sentences on how the data was found.

    Raises:
        UserError: several labels are asked for and there is no list, or its lines are bad.
    """
    if how == "several" and not found.list_file:
        raise UserError(
            f"{data_path} has no list for {found.name}, and class folders give one label an image",
            f"write {found.name}_list.txt or {found.name}_list.csv; allowed are {FORMS}",
        )
    listed = read_label_list(found.list_file, how) if found.list_file else None
    if listed is None:
        return None
    file, labels, names = found.list_file, listed.labels, list(listed.names)
    given = PictureList(listed.paths, [0] * len(listed.paths), frozenset())
    paths, _ = locate(given, file, found.roots(data_path))
    known, _ = read_names(os.path.dirname(file)) or read_names(data_path) or ([], None)
    if names and set(names) <= set(known):
        wider = np.zeros((len(labels), len(known)), np.uint8)
        wider[:, [known.index(name) for name in names]] = labels
        labels, names = wider, known
    numbers: tuple[int, ...] = ()
    if not names and len(known) != labels.shape[1]:
        numbers = tuple(range(labels.shape[1]))
    names = names or [str(number) for number in numbers] or known
    if how == "auto" and listed.is_one_each:
        said = "each image shows exactly one of them: --labels several would train each by itself"
        notes = [*notes, f"{file} has 0 or 1 for each of {len(names)} classes, and {said}"]
        return ImageDataset(paths, labels.argmax(axis=1), names, numbers, data_path, notes)
    notes = [*notes, f"{file} has several labels an image, {labels.sum(axis=1).mean():.2f} of"
             f" {len(names)} in the mean"]  # fmt: skip
    return MultiLabelDataset(paths, labels, names, numbers, data_path, notes)
