"""One network on one page: what the template shows, computed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.engine.unknown import class_statistics, some_of_each
from ppcls_lite.errors import UserError
from ppcls_lite.metric import calibration_error, centred_logits, wilson
from ppcls_lite.page import drawing
from ppcls_lite.program import command
from ppcls_lite.report import MOST_CLASSES, read_metrics
from ppcls_lite.review import charts
from ppcls_lite.review.answers import Answers, Network
from ppcls_lite.review.classes import (
    LABELLED,
    class_rows,
    cluster,
    confused_groups,
    matrix_picture,
    matrix_values,
    mean_answers,
)
from ppcls_lite.review.shown import explained, neighbours, surest_hits, worst_mistakes

MOST_PAIRS, MOST_WEAK = 12, 20  # confused pairs, and classes of least recall, listed
# Of a training, what a reader looks for first; other settings follow folded.
FIRST_SETTINGS = ("pretrained", "epochs", "batch_size", "opt", "lr", "seed")


@dataclass(frozen=True)
class Look:
    """A network's answers to validation and training pictures, and to those of no class.

    Attributes:
        others: logits float32 [M, K]; None where none were given.
    """

    network: Network
    val: Answers
    trained: Answers | None
    others: np.ndarray | None = None


def page_values(look: Look, exported: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns what report.html shows."""
    network, val = look.network, look.val
    names = [network.info.class_name(k) for k in range(network.info.num_classes)]
    rows = class_rows(val.accuracy, names)
    return {
        "title": f"Report: {network.name}",
        "model": network.info.name,
        "classes": len(names),
        "facts": facts(look),
        "settings": settings_of(network),
        "top1": val.accuracy.top1,
        "interval": wilson(val.accuracy.top1_hits, val.accuracy.count),
        "count": val.accuracy.count,
        "network_hits": val.accuracy.top1_hits,
        "scores": scores(val),
        "broken": val.broken,
        "curves": curves_of(network),
        "rows": rows,
        "weak": rows[:MOST_WEAK],
        "matrix_of": confusion(val, names),
        "pairs": pairs(val, names),
        "reliability": charts.reliability(bins_of(network, val)),
        "ece": calibration_error(val.accuracy.bins),
        "unknown": unknown(look),
        "features": projection(val, names),
        "mistakes": mistakes(look),
        "hits": explained(network, val, surest_hits(val)),
        "exports": exported,
        "next": next_commands(network, exported),
    }


def facts(look: Look) -> dict[str, Any]:
    """Returns what was trained on what, by what to call it."""
    network, info = look.network, look.network.info
    size = info.preprocess
    found: dict[str, Any] = {
        "Model": info.name,
        "Weights": network.weights.path,
        "Classes": info.num_classes,
        "Data": network.settings.data_path,
        "Validation images": len(look.val.labels),
        "Input": f"{size.crop_size} x {size.crop_size} pixels, short side {size.resize_size},"
        f" {size.interpolation}, {size.fit}",
    }
    if look.trained is not None:
        found["Training images"] = len(look.trained.labels)
    progress = network.description.get("progress", {})
    if progress.get("step"):
        found["Trained"] = f"{progress['epoch']} epochs, {progress['step']:,} steps"
    return found


def settings_of(network: Network) -> dict[str, dict[str, Any]]:
    """Returns the settings of the training that are not the defaults: the first ones, the rest."""
    stored, defaults = network.description.get("config", {}), TrainConfig()
    first = {k: stored[k] for k in FIRST_SETTINGS if stored.get(k) is not None}
    rest = {
        key: value
        for key, value in stored.items()
        if key not in first and hasattr(defaults, key) and _plain(getattr(defaults, key)) != value
    }
    return {"first": first, "rest": rest} if stored else {}


def _plain(value: Any) -> Any:
    """A value as JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value


def scores(val: Answers) -> list[tuple[str, float, float, float]]:
    """Returns what is said of all classes together: name, value, 95 % interval."""
    values = {"top1": val.accuracy.top1, **val.accuracy.summary()}
    return [
        (name.replace("_", " ").replace("top1", "top-1"), values[name], *bounds)
        for name, bounds in val.accuracy.intervals().items()
    ]


def events_of(network: Network) -> charts.Events | None:
    """Returns the records of the network's training; None where there are none."""
    path = network.weights.path
    for file in (path.parent / "metrics.jsonl", path.with_suffix(".metrics.jsonl")):
        if file.is_file() and not network.is_export:
            try:
                return read_metrics(file)
            except UserError:
                return None
    return None


def curves_of(network: Network) -> list[tuple[str, Any]]:
    """Returns the curves of the training; none without records."""
    events = events_of(network)
    info = network.info
    if not events:
        return []
    return charts.curves({network.name: events}, info.num_classes, info.multi_label)


def confusion(val: Answers, names: Sequence[str]) -> dict[str, Any]:
    """Returns the confusion matrix, in an order in which what is confused stands together."""
    if len(names) > MOST_CLASSES:
        return {}
    counts = val.accuracy.confusion()
    mean = mean_answers(val.probabilities, val.labels)
    order, groups = cluster(1 - (mean + mean.T) / 2)
    seen = [k for k in order if counts[k].any() or counts[:, k].any()]
    if len(seen) <= LABELLED:
        return {"tables": [matrix_values(counts, seen, names)], "picture": None}
    return {
        "picture": drawing(matrix_picture(counts, seen)),
        "classes": len(seen),
        "tables": [matrix_values(counts, g, names) for g in confused_groups(counts, groups)],
    }


def pairs(val: Answers, names: Sequence[str]) -> list[tuple[str, str, int, int]]:
    """Returns (true, predicted, pictures, of so many) of what is confused most often."""
    totals = val.accuracy.class_counts()[0]
    found = val.accuracy.most_confused()[:MOST_PAIRS]
    return [(names[t], names[p], n, int(totals[t])) for t, p, n in found]


def bins_of(network: Network, val: Answers) -> dict[str, np.ndarray]:
    """Returns the reliability as it is, and before a calibration of these pictures."""
    found = {"as it is": val.accuracy.bins}
    report = network.description.get("calibration")
    if report and report["pictures"] == val.accuracy.count:
        found["before calibration"] = np.array(report["before"]["bins"])
    return found


def unknown(look: Look) -> dict[str, Any]:
    """Returns how many pictures stay known at each limit of "none of these"; {} without training
    pictures, from which the classes' means and deviations come."""
    if look.trained is None or look.network.info.num_classes < 2:
        return {}
    some = some_of_each(look.trained.labels)
    mean, deviation = class_statistics(look.trained.logits[some], look.trained.labels[some])
    val, limits = look.val, look.network.info.known_limits

    def score(logits: np.ndarray) -> np.ndarray:
        found: np.ndarray = ((centred_logits(logits) - mean) / deviation).max(axis=1)
        return found

    known = score(val.logits)
    sets = {"predicted rightly": known[val.right], "predicted wrongly": known[~val.right]}
    if look.others is not None:
        sets["images of no class"] = score(look.others)
    sets = {name: values for name, values in sets.items() if len(values)}
    limit = float(np.median((np.array(limits) - mean) / deviation)) if limits else None
    at = limit if limit is not None else float(np.quantile(known, 0.05))
    return {
        "chart": charts.thresholds(sets, limit),
        "limit": limit,
        "shares": [(name, float((v >= at).mean()), len(v)) for name, v in sets.items()],
    }


def projection(val: Answers, names: Sequence[str]) -> dict[str, Any]:
    """Returns the pictures where their features lie; {} where there are none."""
    if val.features is None or len(val.labels) < 3:
        return {}
    return charts.projection(val.features, val.labels, names)


def mistakes(look: Look) -> list[dict[str, Any]]:
    """Returns the worst mistakes, each with the training pictures nearest to it."""
    rows = worst_mistakes(look.val)
    found = explained(look.network, look.val, rows)
    return [
        each | {"near": neighbours(look.network, look.val, row, look.trained)}
        for row, each in zip(rows, found, strict=True)
    ]


def next_commands(network: Network, exported: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Returns how to go on: what for, and a command that runs as printed."""
    weights, data = network.weights.flags, ("--data-path", network.settings.data_path)
    folder = Path(network.weights.path).parent
    beside = folder if (folder / "metrics.jsonl").is_file() else Path("output")
    found = [
        (
            "Look at the data: near copies, wrong labels, odd images",
            command("data check", *data, "--report", "findings_report"),
        ),
        ("The numbers again, and as files", command("validate", *weights, *data,
                                                    "--confusion-matrix")),
    ]  # fmt: skip
    if network.info.multi_label:
        del found[0]  # `data check` takes no lists of several labels
    if network.is_export:
        return found
    if not exported:
        export = command("export", *weights, "--save-inference-dir", "inference")
        found.append(("Export it, for any engine", export))
    int8 = (*weights, *data, "--out", beside / "int8")
    trusted = ("--calibrate", "--unknown", *data, "--out", beside / "trusted.pdparams")
    if not any(row["int8"] for row in exported):
        quantize = command("quantize", "--target", "onnxruntime", *int8)
        found.append(("Make it int8, and see what that costs", quantize))
    if not network.info.known_limits and not network.info.multi_label:
        trust = command("weights convert", network.weights.path, *trusted)
        found.append(("Let it say “none of these”", trust))
    return found
