"""From what a user names to weights: found once, read once, and at first need."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ppcls_lite.config import DEFAULT_MODEL
from ppcls_lite.data.imagenet import imagenet_names
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.environment import load_paddle
from ppcls_lite.files import FileContent, cache_folder
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.weights.description import described_info, read_description
from ppcls_lite.weights.formats import WeightsFile, open_weights
from ppcls_lite.weights.published import fetch
from ppcls_lite.weights.tags import WeightTag, resolve_pretrained, tag_of_file, tags_of


class Weights:
    """Weights that `find_weights` found.

    Nothing is read before it is asked for, so `path` may as well be an export folder or a file in
    one, of which only `path` has a meaning.

    Attributes:
        path: where they are.
        absent: they are published ones that a download would have to fetch.
    """

    def __init__(
        self, content: FileContent, model: str | None, num_classes: int | None, absent: bool = False
    ) -> None:
        self._content = content
        self._model = model
        self._num_classes = num_classes
        self.path = content.path
        self.absent = absent

    @property
    def tag(self) -> WeightTag | None:
        """The published weights that they are, told by the file's name."""
        return tag_of_file(self.path)

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags that name them on a command line, with their network where they do not say."""
        named = ("--pretrained", str(self.path))
        if self._model is None or self.tag is not None or self.description is not None:
            return named
        return (*named, "--model", self._model)

    @property
    def sha256(self) -> str:
        """SHA-256 of the file, 64 hexadecimal digits."""
        return self._content.digest()

    @cached_property
    def file(self) -> WeightsFile:
        """What is in the file.

        Raises:
            UserError: as `open_weights`.
        """
        return open_weights(self._content)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The named arrays of the file."""
        return self.file.arrays

    @cached_property
    def description(self) -> dict[str, Any] | None:
        """The content of the JSON beside them; None where there is none.

        Raises:
            UserError: as `read_description`.
        """
        return read_description(self._content)

    @cached_property
    def info(self) -> ModelInfo:
        """The network they are of, and how to feed it.

        The JSON beside them is believed. Without one, the network is the one asked for, or that of
        the published file of this name, or the only one that computes what a TFLite file says, or
        DEFAULT_MODEL, and the classes are counted in the file.

        Raises:
            UserError: the JSON is damaged, or the weights are to be counted and are of another
                network.
        """
        if self.description is not None:
            return described_info(self.path, self.description)
        tag = self.tag
        network = None if self.absent else self.file.network
        name = self._model or (tag.model if tag else None)
        overrides: dict[str, Any] = {}
        if network is not None:
            name, overrides = self._fitting(name)
        name = name or DEFAULT_MODEL
        # They are fed as they were when published, or as the network's published weights are.
        tag = tag or next(iter(tags_of(name)), None)
        preprocess = tag.preprocess if tag else Preprocess()
        if network is not None:
            preprocess = network.preprocess(preprocess)
        classes = self._count_classes(name)
        # 1000 classes are taken for ImageNet's.
        names = imagenet_names(classes)
        return ModelInfo(name, classes, overrides, classes=names, preprocess=preprocess)

    def _fitting(self, name: str | None) -> tuple[str | None, dict[str, Any]]:
        """The network that a TFLite file is of, and its overrides."""
        load_paddle()
        from ppcls_lite.weights.mapping import network_of_file  # imports paddle

        return network_of_file(self.file, name, label=str(self.path))

    def _count_classes(self, name: str) -> int:
        if self.absent:
            return 1000  # published ones are ImageNet's
        if self._num_classes is not None:
            return self._num_classes
        load_paddle()
        # Not at the top of the file: it imports paddle, which a described file does without.
        from ppcls_lite.weights.mapping import count_classes

        return count_classes(self.arrays, name, label=str(self.path))


def find_weights(
    text: str | Path | Weights,
    model: str | None = None,
    num_classes: int | None = None,
    *,
    download: bool = True,
) -> Weights:
    """The weights that `--pretrained TEXT` names; published ones are fetched at first use.

    Args:
        text: a path or a tag, see `tags.resolve_pretrained`; what was found already stays.
        model: network that a tag has to be of, and that weights are of which do not say it; None
            where the weights decide.
        num_classes: K of weights that do not say it; None counts them in the file.
        download: False leaves published weights where they are; see `Weights.absent`.

    Raises:
        UserError: the text names nothing, or weights of another model, or they cannot be had.
    """
    if isinstance(text, Weights):
        return text
    found = resolve_pretrained(str(text), model)
    if isinstance(found, WeightTag):
        if found.here or download:
            return Weights(fetch(found), model, num_classes)
        found = cache_folder() / found.file_name
    absent = not download and not found.is_file() and tag_of_file(found) is not None
    return Weights(FileContent(found), model, num_classes, absent)
