"""Which pictures int8 is calibrated and measured with, and how they are read."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ppcls_lite.data.decode import load_image
from ppcls_lite.data.image_dataset import ImageDataset
from ppcls_lite.data.preprocess import Preprocess


def choose_pictures(labels: Sequence[int] | np.ndarray, count: int) -> list[int]:
    """Returns positions of pictures, class by class in turn, until there are `count`.

    Args:
        labels: class id of each picture, [N]; or several labels a picture, 0 or 1, [N, K], of which
            equal rows count as a class.
        count: how many are wanted; fewer when there are fewer.
    """
    if np.ndim(labels) == 2:
        labels = np.unique(labels, axis=0, return_inverse=True)[1].ravel()
    order = np.random.default_rng(0).permutation(len(labels))
    turns: dict[int, int] = {}
    rank = []
    for index in order:
        turns[int(labels[index])] = turns.get(int(labels[index]), -1) + 1
        rank.append((turns[int(labels[index])], int(labels[index]), int(index)))
    return [index for _, _, index in sorted(rank)[:count]]


class Pictures(Sequence[np.ndarray]):
    """Pictures that are decoded anew each time, however many there are: float32 [1, 3, H, W].

    Args:
        paths: of the files.
        read: path -> float32 [1, 3, H, W].
    """

    def __init__(self, paths: Sequence[Path], read: Callable[[Path], np.ndarray]) -> None:
        self._paths = paths
        self._read = read

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: Any) -> Any:
        return self._read(self._paths[index])


def pictures_of(data: ImageDataset, chosen: Sequence[int], preprocess: Preprocess) -> Pictures:
    """Pictures of a data set, as evaluation reads them."""
    paths = [Path(data.path(index)) for index in chosen]
    return Pictures(paths, lambda path: preprocess([load_image(path)]))
