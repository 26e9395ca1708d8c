"""Which pictures a run trains on: a digest of each class's, to tell whether a resumed run has the
same ones, with the same labels, in the same order."""

import hashlib
import itertools
from collections.abc import Sequence

import numpy as np

from ppcls_lite.data.image_dataset import ImageDataset
from ppcls_lite.errors import some

DIGEST_BYTES = 6  # enough: nobody forges it, and it is kept for each of up to 21,841 classes


def fingerprint(data: ImageDataset) -> str:
    """Returns COUNT:DIGEST of the unlabelled pictures, of every class and, last, of the order.

    A picture is known by its file and the folder of that, so the data root may lie elsewhere; what
    is in the file is not looked at.
    """
    parts = []
    for group in _groups(data):
        names = (data.name(position) for position in group.tolist())
        parts.append(f"{len(group)}:{_digest(b''.join(name + b'/' for name in names))}")
    return " ".join([*parts, f"{len(data)}:{_digest(data.labels.tobytes())}"])


def _groups(data: ImageDataset) -> list[np.ndarray]:
    """Positions of the pictures without a label, then of those of each class."""
    if data.labels.ndim == 2:
        columns = [~data.labels.any(axis=1), *(data.labels.T > 0)]
        return [np.flatnonzero(column) for column in columns]
    # Stable, so that the pictures of a class stay in their order; -1 comes first.
    order = np.argsort(data.labels, kind="stable")
    bounds = np.searchsorted(data.labels[order], np.arange(-1, len(data.classes) + 1))
    return [order[begin:end] for begin, end in itertools.pairwise(bounds.tolist())]


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


def what_changed(before: str, now: str, classes: Sequence[str]) -> str:
    """Says in words how two fingerprints differ; "" when they do not, or one is not known."""
    if not before or before == now:
        return ""
    old, new = ([part.split(":") for part in text.split()] for text in (before, now))
    if len(old) != len(new):
        return f"{len(old) - 2} classes before, {len(new) - 2} now"
    names = ["images of no known class", *classes]
    rows = [
        f"{name}: {a[0]} -> {b[0]} images" if a[0] != b[0] else f"{name}: other images"
        for name, a, b in zip(names, old, new, strict=False)
        if a != b
    ]
    return some(rows) if rows else "the same images in another order"
