"""`predict embed`: writes what the network's last layer reads of pictures."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ppcls_lite.data.dataset import open_split, open_whole
from ppcls_lite.data.decode import REMEDY, ImageError, load_image
from ppcls_lite.data.folders import check_root, look_for_split, pictures_root
from ppcls_lite.data.image_dataset import ImageDataset
from ppcls_lite.data.packed import Source, read_source
from ppcls_lite.data.preprocess import find_images
from ppcls_lite.deploy.classify import open_predictor
from ppcls_lite.deploy.features import Features
from ppcls_lite.deploy.predictor import Predictor
from ppcls_lite.deploy.projection import plot_features
from ppcls_lite.deploy.settings import EmbedConfig


class Row(NamedTuple):
    """One picture to embed; its class is None where nobody knows it."""

    path: str
    source: Source
    split: str = ""
    label: str | None = None


def run(config: EmbedConfig) -> int:
    """Writes the features of all pictures; returns 1 when one could not be read, else 0."""
    config.require("pretrained", "data_path")
    predictor = open_predictor(config)
    rows = list(rows_of(config.data_path))
    features, failed = embed(predictor, rows)
    for cause in failed:
        print(f"embed: {cause}", file=sys.stderr)
    features.write(Path(config.out))
    count, wide = features.features.shape
    print(f"{count} images, {wide} features each: {config.out}")
    if config.plot is not None and count > 1:
        print(f"drawn by {plot_features(features, Path(config.plot))}: {config.plot}")
    if failed:
        print(
            f"embed: {len(failed)} of {len(rows)} images failed\n  next: {REMEDY}", file=sys.stderr
        )
    return 1 if failed else 0


def rows_of(data_path: str) -> Iterator[Row]:
    """Yields the pictures of a data root, or of a folder without splits and classes.

    Raises:
        UserError: there is none.
    """
    check_root(data_path)
    root = pictures_root(data_path)
    if whole := open_whole(root):
        yield from _rows("", whole)
        return
    found = [split for split in ("train", "val") if look_for_split(root, split)]
    for split in found:
        yield from _rows(split, open_split(data_path, split))
    if not found:
        for path in find_images(data_path):
            yield Row(str(path), str(path))


def _rows(split: str, data: ImageDataset) -> Iterator[Row]:
    for i in range(len(data)):
        label = data.label(i)
        name = data.classes[label] if 0 <= label < len(data.classes) else None
        yield Row(data.path(i), data.source(i), split, name)


def embed(predictor: Predictor, rows: Sequence[Row]) -> tuple[Features, list[str]]:
    """Returns the features of all pictures that can be read, and why others cannot."""
    kept: list[Row] = []
    failed: list[str] = []
    parts: list[np.ndarray] = []
    for start in range(0, len(rows), predictor.batch_size):
        images = []
        for row in rows[start : start + predictor.batch_size]:
            try:
                images.append(load_image(read_source(row.source)))
                kept.append(row)
            except ImageError as error:
                failed.append(f"{row.path}: {error.cause}")
        if images:
            parts.append(predictor.embed(images))
    classes = sorted({row.label for row in kept if row.label is not None})
    ids = {name: number for number, name in enumerate(classes)} | {None: -1}
    found = Features(
        features=np.concatenate(parts) if parts else np.zeros((0, 0), np.float32),
        paths=np.array([row.path for row in kept], np.str_),
        labels=np.array([ids[row.label] for row in kept], np.int64),
        splits=np.array([row.split for row in kept], np.str_),
        classes=np.array(classes, np.str_),
        network=np.array(predictor.weights_sha256),
    )
    return found, failed
