"""Pictures of a report: the worst mistakes and the surest hits, why, and what lies near them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from ppcls_lite.data.decode import load_image
from ppcls_lite.data.image_dataset import ImageDataset
from ppcls_lite.data.packed import read_source
from ppcls_lite.deploy.features import Gallery
from ppcls_lite.page import thumbnail
from ppcls_lite.review.answers import Answers, Network

MISTAKES, HITS, NEAR = 12, 12, 3  # pictures shown: of each, and training pictures of a mistake
SMALL = 110  # pixels of a training picture's long side


def worst_mistakes(answers: Answers) -> list[int]:
    """Returns the rows whose wrong class is the most probable, that first."""
    sure = answers.probabilities.max(axis=1)
    wrong = np.flatnonzero(~answers.right)
    return [int(i) for i in wrong[np.argsort(-sure[wrong], kind="stable")][:MISTAKES]]


def surest_hits(answers: Answers) -> list[int]:
    """Returns the rows whose right class is the most probable: of many classes, not of one."""
    sure = answers.probabilities.max(axis=1)
    right = np.flatnonzero(answers.right)
    right = right[np.argsort(-sure[right], kind="stable")]
    seen: dict[int, int] = {}
    turn = []  # the how many'th of its class a picture is
    for label in answers.labels[right].tolist():
        seen[label] = seen.get(label, 0) + 1
        turn.append(seen[label])
    first = right[np.argsort(turn, kind="stable")][:HITS]
    return [int(i) for i in first[np.argsort(-sure[first], kind="stable")]]


def explained(network: Network, answers: Answers, rows: Sequence[int]) -> list[dict[str, Any]]:
    """Returns pictures as the network saw them, with what it answered and where it saw that."""
    if not rows:
        return []
    data = answers.data
    sources = [read_source(data.source(int(answers.indices[i]))) for i in rows]
    found = []
    name = network.info.class_name
    for i, why in zip(rows, network.predictor.explain(sources, topk=3), strict=True):
        label = int(answers.labels[i])
        found.append(
            {
                "path": network.shown_path(data, int(answers.indices[i])),
                "label": name(label),
                "probability": float(answers.probabilities[i, label]),
                "answers": [(p.name, p.prob) for p in why.answer],
                "seen": thumbnail(Image.fromarray(why.seen)),
                "heatmap": thumbnail(why.overlay()),
                "method": why.method,
            }
        )
    return found


def neighbours(
    network: Network, answers: Answers, row: int, trained: Answers | None
) -> list[dict[str, Any]]:
    """Returns the training pictures whose features have the largest cosine with a picture's."""
    if trained is None or trained.features is None or answers.features is None:
        return []
    places, cosines = Gallery(trained.features).nearest(answers.features[row], NEAR)
    return [
        small(network, trained.data, int(trained.indices[place])) | {"cosine": float(cosine)}
        for place, cosine in zip(places, cosines, strict=True)
    ]


def label_words(network: Network, label: Any) -> str:
    """Returns the class of an image, or its classes where labels are 0 or 1 of each, [K]."""
    ids = [label] if np.ndim(label) == 0 else np.flatnonzero(label)
    return ", ".join(network.info.class_name(int(k)) for k in ids) or "none"


def small(network: Network, data: ImageDataset, index: int, side: int = SMALL) -> dict[str, Any]:
    """Returns a whole picture, small, with its class."""
    return {
        "picture": thumbnail(load_image(read_source(data.source(index))), side),
        "label": label_words(network, data.labels[index]),
        "path": network.shown_path(data, index),
    }
