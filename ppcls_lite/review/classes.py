"""Classes of a report: numbers with intervals, and which are confused with each other."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ppcls_lite.metric import Accuracy, wilson

LABELLED = 30  # classes of which one table is still read; of more, groups of them and a picture
GROUP, GROUPS = 12, 6  # classes of a group at most; groups shown
BLUE, RED = (40, 110, 215), (230, 95, 40)  # of the picture: right, and wrong
SIDE = 720  # about what the picture of a matrix measures, pixels


class ClassRow(NamedTuple):
    """One class: shares with Wilson's 95 % interval.

    Attributes:
        pictures: of the class.
        recall, precision: share, lowest, highest; None where there is no picture, or no answer.
        taken_for: the class that its pictures are most often taken for, and how often.
    """

    name: str
    pictures: int
    recall: tuple[float, float, float] | None
    precision: tuple[float, float, float] | None
    f1: float
    taken_for: tuple[str, int] | None


def class_rows(accuracy: Accuracy, names: Sequence[str]) -> list[ClassRow]:
    """Returns the classes with pictures or answers, those of least recall first."""
    counts = accuracy.class_counts()
    answers = Counter[int]()
    for (_, predicted), n in accuracy.pairs.items():
        answers[predicted] += n
    worst: dict[int, tuple[str, int]] = {}
    for true, predicted, n in accuracy.most_confused():
        worst.setdefault(true, (names[predicted], n))
    f1 = accuracy.class_scores()[2]
    rows = [
        ClassRow(names[k], int(count), _share(int(hits), int(count)), _share(int(hits), answers[k]),
                 float(f1[k]), worst.get(k))
        for k, (count, hits) in enumerate(counts.T)
        if count or answers[k]
    ]  # fmt: skip
    return sorted(rows, key=lambda row: row.recall[0] if row.recall else 2.0)


def _share(hits: int, count: int) -> tuple[float, float, float] | None:
    return (hits / count, *wilson(hits, count)) if count else None


def mean_answers(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns what the pictures of each class are answered on average, float64 [K, K].

    It knows of confusions that never make it to the first place; a class of no picture has zeros.

    Args:
        probabilities: [N, K].
        labels: int64 [N].
    """
    found = np.zeros((probabilities.shape[1],) * 2)
    np.add.at(found, labels, probabilities)
    return found / np.maximum(np.bincount(labels, minlength=len(found)), 1)[:, None]


def cluster(distances: np.ndarray) -> tuple[list[int], list[list[int]]]:
    """Average linkage (UPGMA): classes in an order in which near ones stand together, and groups.

    Args:
        distances: float [K, K], symmetric.

    Returns:
        The order; and the largest clusters of at most GROUP classes, in the order.
    """
    k = len(distances)
    between = distances.astype(np.float64).copy()
    np.fill_diagonal(between, np.inf)
    leaves = {i: [i] for i in range(k)}
    groups = [[i] for i in range(k)]
    for _ in range(k - 1):
        a, b = divmod(int(between.argmin()), k)
        left, right = leaves.pop(a), leaves.pop(b)
        share = len(left) / (len(left) + len(right))
        row = share * between[a] + (1 - share) * between[b]  # inf where something was merged
        between[a], between[:, a] = row, row
        between[a, a] = between[b] = between[:, b] = np.inf
        # The ends that touch are the nearest of the four.
        ways = [(x, y) for x in (left, left[::-1]) for y in (right, right[::-1])]
        leaves[a] = min((x + y for x, y in ways), key=lambda row: _seam(row, len(left), distances))
        if len(leaves[a]) <= GROUP:
            groups = [g for g in groups if g[0] not in left and g[0] not in right] + [leaves[a]]
    (order,) = leaves.values()
    place = {each: i for i, each in enumerate(order)}
    turned = [sorted(group, key=place.__getitem__) for group in groups]  # as in the order
    return order, sorted(turned, key=lambda group: place[group[0]])


def _seam(row: list[int], left: int, distances: np.ndarray) -> float:
    return float(distances[row[left - 1], row[left]])


def matrix_values(
    counts: np.ndarray, chosen: Sequence[int], names: Sequence[str]
) -> dict[str, Any]:
    """Returns a part of a confusion matrix for a table: names, and rows of (count, share).

    Args:
        counts: int64 [K, K], rows are the true classes.
        chosen: classes, in the order shown.
        names: of all classes.
    """
    totals = np.maximum(counts.sum(axis=1), 1)
    return {
        "names": [names[i] for i in chosen],
        "rows": [[(int(counts[i, j]), counts[i, j] / totals[i]) for j in chosen] for i in chosen],
    }


def confused_groups(counts: np.ndarray, groups: Sequence[Sequence[int]]) -> list[list[int]]:
    """Returns the groups with the most mistakes inside of them, of several classes each."""
    wrong = counts - np.diag(counts.diagonal())
    inside = {i: int(wrong[np.ix_(g, g)].sum()) for i, g in enumerate(groups) if len(g) > 1}
    best = sorted((i for i in inside if inside[i]), key=lambda i: -inside[i])[:GROUPS]
    return [[c for c in groups[i] if counts[c].any() or counts[:, c].any()] for i in best]


def matrix_picture(counts: np.ndarray, order: Sequence[int]) -> Image.Image:
    """Draws a confusion matrix of any size, transparent where nothing is: right blue, wrong red.

    One mistake of 50 pictures is seen as well as 25: the colour grows with the share's root. Where
    a class is less than two pixels, mistakes are drawn wider than they are.

    Args:
        counts: int64 [K, K], rows are the true classes.
        order: of the classes in the picture.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shares = np.sqrt(shares[np.ix_(order, order)])
    k = len(shares)
    alpha = np.where(shares > 0, 0.25 + 0.75 * shares, 0)
    own, wrong = np.diag(alpha.diagonal()), alpha - np.diag(alpha.diagonal())
    if k > SIDE // 2:
        wide = np.pad(wrong, 1)
        wrong = np.max([wide[i : i + k, j : j + k] for i in range(3) for j in range(3)], axis=0)
    is_own = own >= wrong
    pixels = np.where(is_own[..., None], BLUE, RED).astype(np.uint8)
    strength = (255 * np.maximum(own, wrong)).round().astype(np.uint8)
    image = Image.fromarray(np.dstack([pixels, strength]), "RGBA")
    scale = max(1, SIDE // k)
    return image.resize((scale * k, scale * k), Image.Resampling.NEAREST)
