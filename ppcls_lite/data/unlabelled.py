"""Training pictures of which nobody knows what they show."""

import os

from ppcls_lite.data.folders import check_root
from ppcls_lite.data.image_dataset import ImageDataset
from ppcls_lite.data.packed import Source
from ppcls_lite.data.preprocess import find_images


class WithUnlabelled(ImageDataset):
    """A data set and, after it, every picture of a folder, with the label -1.

    Raises:
        UserError: the folder is not there or holds no picture.
    """

    def __init__(self, labelled: ImageDataset, folder: str) -> None:
        check_root(folder)
        paths = [os.fspath(path) for path in find_images(folder)]
        super().__init__(paths, [*labelled.labels, *[-1] * len(paths)], labelled.classes)
        self._labelled = labelled

    def path(self, index: int) -> str:
        """Returns the file of a picture."""
        before = len(self._labelled)
        return self._labelled.path(index) if index < before else super().path(index - before)

    def name(self, index: int) -> bytes:
        """Returns the file of a picture and its folder's name."""
        before = len(self._labelled)
        return self._labelled.name(index) if index < before else super().name(index - before)

    def source(self, index: int) -> Source:
        """Returns where the bytes of a picture are."""
        before = len(self._labelled)
        return self._labelled.source(index) if index < before else super().path(index - before)
