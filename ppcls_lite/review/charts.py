"""The charts of a report, as SVG that is put into the page."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ppcls_lite.deploy.projection import COLOURED, draw_features
from ppcls_lite.metric import calibration_error
from ppcls_lite.page import FAINT, SERIES, WIDTH, chart

Events = Mapping[str, Sequence[Mapping[str, Any]]]  # of `report.read_metrics`
MOST_POINTS = 200  # of a line; more are noise
MOST_DOTS = 2000  # pictures of a projection; each has some 100 bytes
WORDS = {
    "loss": "loss", "top1": "top-1", "top5": "top-5", "lr": "learning rate", "f1": "F1",
    "mAP": "mAP", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1",
}  # fmt: skip


def curves(
    runs: Mapping[str, Events], classes: int, several: bool = False
) -> list[tuple[str, Markup]]:
    """Draws loss, accuracy and learning rate over the epochs of one run, or of several.

    Of one run training is drawn, too. Top-5 is drawn where more than five classes make it more than
    a line at 1; a rate that never changes lies flat above 0.

    Args:
        runs: the records by the name of the run.
        classes: K.
        several: the networks give several labels an image.

    Returns:
        What each chart is of, and the chart.
    """
    shares = ["top1", *(["top5"] if classes > 5 and len(runs) == 1 else [])]
    wanted = ["loss", *(["mAP", "macro_f1"] if several else shares), "lr"]
    charts = []
    for key in wanted:
        events = ("train",) if key == "lr" else ("eval",) if key == "top5" else ("train", "eval")
        events = ("eval",) if len(runs) > 1 and key != "lr" else events
        lines = {
            (name, event): points
            for name, records in runs.items()
            for event in events
            if len((points := _points(records, event, key))[0])
        }
        if lines:
            title = f"{WORDS[key]} by epoch"
            title = title if key == "mAP" else title[0].upper() + title[1:]
            charts.append((title, _curve(lines, key, title, len(runs) > 1)))
    return charts


def _points(records: Events, event: str, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Epochs, as far as they went, and values; means of each epoch where points are many."""
    steps = _steps_per_epoch(records)
    rows = [r for r in records[event] if key in r and np.isfinite(r[key])]
    x, y = np.array([r["step"] / steps for r in rows]), np.array([r[key] for r in rows])
    if len(x) <= MOST_POINTS or key == "lr":
        return x, y
    of = np.ceil(x).astype(int)  # the epoch of each
    count = np.bincount(of)
    seen = count > 0
    return tuple(np.bincount(of, values)[seen] / count[seen] for values in (x, y))  # type: ignore[return-value]


def _steps_per_epoch(records: Events) -> float:
    """Steps per epoch: from an evaluation, which ends one, else from the last step."""
    ends = [r["step"] / (r["epoch"] + 1) for r in records["eval"] if r["step"]]
    begun = [r["step"] / (r["epoch"] + 1) for r in records["train"] if r["step"]]
    return float(ends[-1] if ends else begun[-1] if begun else 1)


def _curve(
    lines: Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray]],
    key: str,
    title: str,
    several: bool,
) -> Markup:
    """One chart; in words it says where each line ends."""
    words = {"train": "training", "eval": "validation"}
    names = {line: line[0] if several else words[line[1]] for line in lines}
    ends = "; ".join(f"{names[line]} ends at {y[-1]:.4g}" for line, (_, y) in lines.items())
    with chart(f"{title}. {ends}.") as drawn:
        axes = drawn.figure.subplots()
        for i, (line, (x, y)) in enumerate(lines.items()):
            # Validation has the first colour, training the second, whichever are there.
            second = line[1] == "train" and key != "lr"
            colour = SERIES[i % len(SERIES)] if several else SERIES[second]
            few = "o" if len(x) < 40 and line[1] == "eval" else None
            axes.plot(x, y, color=colour, label=names[line], marker=few, markersize=4)
        _sensible(axes, key, np.concatenate([y for _, y in lines.values()]))
        axes.set(xlabel="epochs")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        if len(lines) > 1:
            axes.legend(loc="best")
    return drawn.svg


def _sensible(axes: Axes, key: str, values: np.ndarray) -> None:
    """Limits by what is drawn: shares end at 1, what cannot be below 0 begins there."""
    least, most = float(values.min()), float(values.max())
    if key in ("top1", "top5", "mAP", "macro_f1"):
        low = max(0.0, least - 0.05 - 0.1 * (1 - least))
        axes.set_ylim(low, 1 + 0.02 * (1 - low))
    elif key == "loss" and least > 0 and most > 20 * least:
        axes.set_yscale("log")
    else:
        axes.set_ylim(min(0.0, least), 1.1 * most or 1.0)


def reliability(
    bins: Mapping[str, np.ndarray], of: str = "the first class", counted: str = "images"
) -> Markup:
    """Draws how often answers of each probability are right, and how many there are.

    Args:
        bins: `metric.confidence_bins` [3, B] by what they are called.
        of: whose probability it is.
        counted: what there is one of for each probability.
    """
    errors = {name: calibration_error(found) for name, found in bins.items()}
    said = "; ".join(f"{name}: expected calibration error {e:.3f}" for name, e in errors.items())
    with chart(f"Reliability: share that is right by probability. {said}.", height=4.2) as drawn:
        axes, counts = drawn.figure.subplots(2, sharex=True, height_ratios=(3, 1))
        axes.plot([0, 1], [0, 1], color=FAINT, linestyle="--")
        for name, (count, hits, confidence) in bins.items():
            seen = count > 0
            label = f"{name} (ECE {errors[name]:.3f})"
            share = hits[seen] / count[seen]
            axes.plot(confidence[seen] / count[seen], share, "o-", label=label, markersize=4)
            counts.stairs(count, np.linspace(0, 1, len(count) + 1))
        axes.set(ylabel="share that is right", ylim=(0, 1.02))
        counts.set(xlabel=f"probability of {of}", ylabel=counted, xlim=(0, 1))
        axes.legend(loc="best")
    return drawn.svg


def thresholds(scores: Mapping[str, np.ndarray], limit: float | None) -> Markup:
    """Draws which share of each set stays known at each limit of "none of these".

    Args:
        scores: standardised max logits by what the pictures are; the larger the more known.
        limit: the one that the network has; None where it has none.
    """
    every = np.concatenate(list(scores.values()))
    places = np.linspace(np.quantile(every, 0.002) - 0.1, np.quantile(every, 0.995), 200)
    shares = {name: (s[None] >= places[:, None]).mean(axis=1) for name, s in scores.items()}
    where = f" The model's limit is {limit:.2f}." if limit is not None else ""
    with chart(f"Share of images that stay known, by the limit.{where}", height=4.2) as drawn:
        axes = drawn.figure.subplots()
        for name, share in shares.items():
            axes.plot(places, share, label=name)
        if limit is not None:
            axes.axvline(limit, color=FAINT, linestyle="--", label="this model's limit")
        axes.set(
            xlabel="limit, standard deviations from a class's mean",
            ylabel="share that stays known", ylim=(0, 1.02),
        )  # fmt: skip
        axes.legend(loc="lower left")
    return drawn.svg


def projection(features: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Draws pictures where their features lie, coloured by class.

    Args:
        features: float32 [N, D].
        labels: int64 [N].
        names: of the classes, [K].

    Returns:
        The chart, how many pictures it shows, and of how many classes others are grey.
    """
    some = np.linspace(0, len(labels) - 1, min(len(labels), MOST_DOTS)).round().astype(int)
    label = "Images at the first two principal components of their features, by class."
    with chart(label, width=2 * WIDTH, height=4.6) as drawn:
        draw_features(drawn.figure, features[some], labels[some], names)
    grey = max(0, len(np.unique(labels[some])) - COLOURED)
    return {"chart": drawn.svg, "pictures": len(some), "grey": grey}
