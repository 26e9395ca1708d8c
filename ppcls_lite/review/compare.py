"""Several networks side by side on the same pictures."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from ppcls_lite.errors import UserError
from ppcls_lite.metric import calibration_error, wilson
from ppcls_lite.review import charts
from ppcls_lite.review.answers import Answers, Network
from ppcls_lite.review.mcnemar import mcnemar
from ppcls_lite.review.page import events_of
from ppcls_lite.review.shown import small

MOST_SHOWN = 12  # pictures of each kind of difference
MOST_CLASSES = 30  # of the table of recalls: those that differ most


def compared_values(networks: Sequence[Network], answers: Sequence[Answers]) -> dict[str, Any]:
    """Returns what compare.html shows.

    Args:
        networks: two or more; names tell them apart.
        answers: of each, to pictures that may lie in another order or lack some.

    Raises:
        UserError: they have no picture in common.
    """
    names, rows = _names(networks), common(answers)
    right = np.stack([a.right[r] for a, r in zip(answers, rows, strict=True)])  # [R, N]
    events = {n: e for n, net in zip(names, networks, strict=True) if (e := events_of(net))}
    classes = max(network.info.num_classes for network in networks)
    tests = [(names[i], names[j], mcnemar(right[i], right[j]))
             for i, j in combinations(range(len(names)), 2)]  # fmt: skip
    return {
        "title": "Comparison",
        "names": names,
        "count": right.shape[1],
        "left_out": max(len(a.labels) for a in answers) - right.shape[1],
        "runs": [
            _summary(*each) for each in zip(names, networks, answers, rows, right, strict=True)
        ],
        "settings": differing_settings(names, networks),
        "tests": tests,
        "level": 0.05 / max(len(tests), 1),
        "curves": charts.curves(events, classes) if events else [],
        "recalls": recalls(networks, answers, rows, right),
        "both_wrong": int((~right).all(axis=0).sum()),
        "differences": differences(names, networks, answers, rows, right),
    }  # fmt: skip


def _names(networks: Sequence[Network]) -> list[str]:
    """What to call each; two of one name are counted."""
    names = [network.name for network in networks]
    return [f"{n} ({i + 1})" if names.count(n) > 1 else n for i, n in enumerate(names)]


def common(answers: Sequence[Answers]) -> list[np.ndarray]:
    """Returns the rows of each, in one order, of the pictures that all could read.

    Raises:
        UserError: there is none.
    """
    places = [
        {a.data.path(int(index)): row for row, index in enumerate(a.indices)} for a in answers
    ]
    shared = [path for path in places[0] if all(path in each for each in places[1:])]
    if not shared:
        raise UserError(
            "the models were not looked at with the same images", "name them with --data-path"
        )
    return [np.array([each[path] for path in shared]) for each in places]


def _summary(
    name: str, network: Network, answers: Answers, rows: np.ndarray, right: np.ndarray
) -> dict[str, Any]:
    hits = int(right.sum())
    return {
        "name": name,
        "model": network.info.name,
        "size": network.info.preprocess.crop_size,
        "top1": hits / len(rows),
        "interval": wilson(hits, len(rows)),
        "balanced": answers.accuracy.summary()["balanced_accuracy"],
        "loss": answers.accuracy.loss,
        "ece": calibration_error(answers.accuracy.bins),
        "mb": sum(_sizes(network)) / 1e6,
    }


def _sizes(network: Network) -> list[int]:
    path = network.weights.path
    return [path.stat().st_size] if path.is_file() else []


def differing_settings(
    names: Sequence[str], networks: Sequence[Network]
) -> list[tuple[str, list[Any]]]:
    """Returns the settings in which the trainings differ: name, and the value of each."""
    stored = [network.description.get("config", {}) for network in networks]
    keys = dict.fromkeys(key for each in stored for key in each if key != "output_dir")
    rows = [(key, [each.get(key, "not set") for each in stored]) for key in keys]
    return [(key, values) for key, values in rows if any(v != values[0] for v in values)]


def recalls(
    networks: Sequence[Network],
    answers: Sequence[Answers],
    rows: Sequence[np.ndarray],
    right: np.ndarray,
) -> list[tuple[str, int, list[float]]]:
    """Returns the classes whose recall differs most: name, pictures, recall of each network."""
    labels = answers[0].labels[rows[0]]
    found = []
    for label in np.unique(labels):
        own = labels == label
        shares = right[:, own].mean(axis=1).tolist()
        found.append((networks[0].info.class_name(int(label)), int(own.sum()), shares))
    return sorted(found, key=lambda row: min(row[2]) - max(row[2]))[:MOST_CLASSES]


def differences(
    names: Sequence[str],
    networks: Sequence[Network],
    answers: Sequence[Answers],
    rows: Sequence[np.ndarray],
    right: np.ndarray,
) -> list[dict[str, Any]]:
    """Returns pictures that the first network and another answer differently, one rightly.

    Of each pair and direction those whose two answers are the surest together.
    """
    found = []
    for other in range(1, len(names)):
        for good, bad in ((0, other), (other, 0)):
            places = np.flatnonzero(right[good] & ~right[bad])
            sure = sum(answers[i].probabilities[rows[i][places]].max(axis=1) for i in (good, bad))
            shown = places[np.argsort(-sure, kind="stable")][:MOST_SHOWN]
            found.append(
                {
                    "good": names[good],
                    "bad": names[bad],
                    "count": len(places),
                    "pictures": [_differs(names, networks, answers, rows, int(p)) for p in shown],
                }
            )
    return found


def _differs(
    names: Sequence[str],
    networks: Sequence[Network],
    answers: Sequence[Answers],
    rows: Sequence[np.ndarray],
    place: int,
) -> dict[str, Any]:
    row = int(rows[0][place])
    shown = small(networks[0], answers[0].data, int(answers[0].indices[row]), 160)
    said = []
    for name, network, a, r in zip(names, networks, answers, rows, strict=True):
        row = int(r[place])
        first = int(a.predicted[row])
        sure = float(a.probabilities[row, first])
        said.append((name, network.info.class_name(first), sure, bool(a.right[row])))
    return shown | {"answers": said}
