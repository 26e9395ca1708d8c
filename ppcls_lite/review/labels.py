"""One network that gives several labels an image on one page: what labels.html shows, computed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from ppcls_lite.data.packed import read_source
from ppcls_lite.label_metric import LabelAccuracy
from ppcls_lite.metric import BINS, calibration_error, wilson
from ppcls_lite.page import SERIES, chart, thumbnail
from ppcls_lite.review import charts
from ppcls_lite.review.page import MOST_WEAK, Look, curves_of, facts, next_commands, settings_of
from ppcls_lite.review.shown import MISTAKES, label_words, neighbours


def label_values(look: Look, exported: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns what labels.html shows."""
    network, val = look.network, look.val
    accuracy = LabelAccuracy(network.info.num_classes, network.info.cuts)
    accuracy.add(val.logits, val.labels)
    probs, labels = accuracy.answers
    whole = int(((probs >= np.array(accuracy.thresholds)) == labels).all(axis=1).sum())
    rows = label_rows(accuracy, [network.info.class_name(k) for k in range(accuracy.num_classes)])
    bins = label_bins(probs, labels)
    return {
        "title": f"Report: {network.name}",
        "model": network.info.name,
        "facts": facts(look),
        "settings": settings_of(network),
        "count": accuracy.count,
        "mean": accuracy.mean_precision,
        "macro_f1": accuracy.values()["macro_f1"],
        "micro_f1": accuracy.values()["micro_f1"],
        "whole": whole / accuracy.count,
        "interval": wilson(whole, accuracy.count),
        "broken": val.broken,
        "curves": curves_of(network),
        "rows": rows,
        "weak": rows[:MOST_WEAK],
        "reliability": charts.reliability({"as it is": bins}, "a class", "labels"),
        "ece": calibration_error(bins),
        "precision_recall": precision_recall(accuracy, rows),
        "mistakes": mistakes(look, accuracy),
        "exports": exported,
        "next": next_commands(network, exported),
    }


def label_rows(accuracy: LabelAccuracy, names: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the classes, that of the least average precision first, those of no image last.

    Returns:
        name, class_id, pictures, average (precision; None without a picture), threshold, f1; recall
        and precision with 95 % intervals, None where they are of nothing.
    """
    averages, f1 = accuracy.precisions, accuracy.class_scores()[2]
    rows = []
    for k, (right, given, true) in enumerate(accuracy.class_hits().T.tolist()):
        rows.append(
            {
                "name": names[k],
                "class_id": k,
                "pictures": true,
                "average": float(averages[k]) if true else None,
                "threshold": accuracy.thresholds[k],
                "recall": (right / true, *wilson(right, true)) if true else None,
                "precision": (right / given, *wilson(right, given)) if given else None,
                "f1": float(f1[k]),
            }
        )
    return sorted(rows, key=lambda row: (row["average"] is None, row["average"] or 0.0))


def label_bins(probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """As `metric.confidence_bins`, of every class of every image: float64 [3, BINS].

    Args:
        probs: float [N, K].
        labels: 0 or 1, [N, K].
    """
    flat, hits = probs.ravel(), labels.ravel()
    bins = np.minimum((flat * BINS).astype(int), BINS - 1)
    return np.stack([np.bincount(bins, value, BINS) for value in (hits >= 0, hits, flat)])


def precision_recall(accuracy: LabelAccuracy, rows: Sequence[dict[str, Any]]) -> Markup | None:
    """Draws precision over recall of the classes of least average precision; None without any."""
    shown = [row for row in rows if row["pictures"]][: len(SERIES)]
    if not shown:
        return None
    probs, labels = accuracy.answers
    said = "; ".join(f"{row['name']} {row['average']:.3f}" for row in shown)
    with chart(f"Precision by recall. Average precision: {said}.", height=4.2) as drawn:
        axes = drawn.figure.subplots()
        for row in shown:
            order = np.argsort(-probs[:, row["class_id"]], kind="stable")
            right = labels[order, row["class_id"]].cumsum(dtype=np.int64)
            recall, precision = right / row["pictures"], right / np.arange(1, len(right) + 1)
            axes.plot(recall, precision, drawstyle="steps-pre", label=row["name"])
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.05))
        axes.legend(loc="lower left")
    return drawn.svg


def worst_labels(accuracy: LabelAccuracy) -> list[tuple[int, int]]:
    """Returns (image, class) of wrong labels, one an image, the furthest from its threshold first.

    Distances are of logits, in which 0.999 is further from 0.9 than 0.8 is.
    """
    probs, labels = accuracy.answers
    cuts = np.broadcast_to(accuracy.thresholds, probs.shape)
    far = np.abs(_logit(probs) - _logit(cuts)) * ((probs >= cuts) != labels)
    classes = far.argmax(axis=1)
    most = far.max(axis=1)
    order = [i for i in np.argsort(-most, kind="stable") if most[i] > 0][:MISTAKES]
    return [(int(i), int(classes[i])) for i in order]


def _logit(probs: np.ndarray) -> np.ndarray:
    kept = np.clip(probs, 1e-12, 1 - 1e-12)
    return np.log(kept / (1 - kept))


def mistakes(look: Look, accuracy: LabelAccuracy) -> list[dict[str, Any]]:
    """Returns the worst wrong labels: each with its heatmap and the nearest training pictures."""
    network, val = look.network, look.val
    probs, labels = accuracy.answers
    found = []
    for i, k in worst_labels(accuracy):
        source = read_source(val.data.source(int(val.indices[i])))
        (why,) = network.predictor.explain(source, class_id=k)
        found.append(
            {
                "path": network.shown_path(val.data, int(val.indices[i])),
                "name": network.info.class_name(k),
                "found": not labels[i, k],
                "probability": float(probs[i, k]),
                "threshold": accuracy.thresholds[k],
                "label": label_words(network, labels[i]),
                "seen": thumbnail(Image.fromarray(why.seen)),
                "heatmap": thumbnail(why.overlay()),
                "method": why.method,
                "near": neighbours(network, val, i, look.trained),
            }
        )
    return found
