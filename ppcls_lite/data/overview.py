"""What a data set is like as a whole: classes, those that look alike, sizes and shapes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ppcls_lite.data.suspects import Look
from ppcls_lite.metric import wilson
from ppcls_lite.page import SERIES, chart

if TYPE_CHECKING:
    from markupsafe import Markup

# Share of wrong answers between two classes that is surely reached (Wilson's lower bound) where
# they are said to be hardly told apart; a coin has 0.5.
ALIKE = 0.15
FEWEST = 5  # pictures of each of two classes that are compared
UNEVEN = 10  # times as many pictures as the rarest class
MOST_ALIKE = 30  # pairs listed


class Alike(NamedTuple):
    """Two classes that features hardly tell apart.

    Attributes:
        first, second: class ids.
        wrong: pictures of both that look more like the other one.
        pictures: of both.
        share: of the wrong ones.
    """

    first: int
    second: int
    wrong: int
    pictures: int
    share: float


def alike_classes(probabilities: np.ndarray, y: np.ndarray) -> list[Alike]:
    """Returns pairs of classes of whose pictures many are more probably of the other one.

    Args:
        probabilities: out of fold, [N, K].
        y: int64 [N].
    """
    classes = probabilities.shape[1]
    count = np.bincount(y, minlength=classes)
    wrong = np.zeros((classes, classes), np.int64)
    for k in np.flatnonzero(count):
        own = probabilities[y == k]
        wrong[k] = (own > own[:, k : k + 1]).sum(axis=0)
    found = []
    for a, b in zip(*np.nonzero(np.triu(wrong + wrong.T, 1)), strict=True):
        both, pictures = int(wrong[a, b] + wrong[b, a]), int(count[a] + count[b])
        if min(count[a], count[b]) >= FEWEST and wilson(both, pictures)[0] >= ALIKE:
            found.append(Alike(int(a), int(b), both, pictures, both / pictures))
    return sorted(found, key=lambda pair: -pair.share)[:MOST_ALIKE]


class ClassCount(NamedTuple):
    """Pictures of a class: of each split, and by how many the commonest class has more of all."""

    name: str
    pictures: dict[str, int]
    times: float


def class_counts(splits: Sequence[str], labels: Sequence[str]) -> list[ClassCount]:
    """Returns the classes, those of most pictures first.

    Args:
        splits: of each picture, [N].
        labels: the name of its class, [N].
    """
    names = list(dict.fromkeys(splits))
    found: dict[str, dict[str, int]] = {}
    for split, label in zip(splits, labels, strict=True):
        found.setdefault(label, dict.fromkeys(names, 0))[split] += 1
    rows = sorted(found.items(), key=lambda row: (-sum(row[1].values()), row[0]))
    most = sum(rows[0][1].values()) if rows else 0
    return [ClassCount(name, counts, most / sum(counts.values())) for name, counts in rows]


def distributions(looks: Sequence[Look | None]) -> "list[tuple[str, Markup]]":
    """Draws how large the pictures are, and of which shapes: what the chart is of, and it."""
    sizes = np.array([(x.width, x.height) for x in looks if x is not None], float).reshape(-1, 2)
    if not len(sizes):
        return []
    return [
        ("Short side", histogram(sizes.min(axis=1), "Short side", "pixels")),
        (
            "Width over height; 1 is a square",
            histogram(sizes[:, 0] / sizes[:, 1], "Width over height", "times"),
        ),
    ]


def histogram(values: np.ndarray, label: str, unit: str) -> "Markup":
    """Draws how many pictures have which value, by ratios.

    Args:
        values: above 0, [N].
        label, unit: what they are.
    """
    from matplotlib.ticker import LogLocator, MaxNLocator

    low, high = float(values.min()), float(values.max())
    middle = float(np.median(values))
    words = f"{label}: {low:.4g} to {high:.4g} {unit}, median {middle:.4g}."
    if high < 1.05 * low:
        low, high = 0.8 * low, 1.25 * high
    with chart(words, height=2.2) as drawn:
        axes = drawn.figure.subplots()
        axes.hist(values, bins=np.geomspace(low, high, 31).tolist(), color=SERIES[0])
        axes.set_xscale("log")
        locator = (
            LogLocator(subs=(1, 2, 5)) if high > 10 * low else MaxNLocator(6, steps=[1, 2, 5, 10])
        )
        ticks = [x for x in locator.tick_values(low, high) if low <= x <= high]
        axes.set_xticks(ticks, [f"{x:g}" for x in ticks])
        axes.minorticks_off()
        axes.set(xlabel=f"{label.lower()}, {unit}", ylabel="images")
    return drawn.svg
