"""Pictures and tables of results: training curves, confusion matrix, per-class accuracy."""

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ppcls_lite.errors import UserError
from ppcls_lite.files import whole
from ppcls_lite.label_metric import LabelAccuracy
from ppcls_lite.metric import BINS, Accuracy, calibration_error
from ppcls_lite.model_info import ModelInfo

# More classes than this make unreadable labels and numbers; the picture then shows colours only.
MOST_LABELS = 30
MOST_SAID, MOST_PAIRS = 20, 5  # classes, those of least recall first; confused pairs
SHARES = ("top1", "top5", "f1", "mAP", "macro_f1")  # of curves, in the records that have them
MOST_CLASSES = 1000  # more make a matrix that nobody can look at, and gigabytes


def write_confusion_matrix(
    folder: Path, accuracy: Accuracy | LabelAccuracy, info: ModelInfo
) -> list[Path]:
    """Writes what is taken for what, the accuracy of each class, and reliability.png; says where.

    With several labels a picture nothing is taken for anything: per_class.csv alone.

    Up to MOST_CLASSES classes: confusion_matrix.csv and .png, rows are the true classes, columns
    the predicted ones, the PNG is coloured by shares of the row. Above: confused_pairs.csv and
    .png, the mistakes, most frequent first. In both cases per_class.csv.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(accuracy, LabelAccuracy):
        return [_write_labels(folder / "per_class.csv", accuracy, info)]
    names = [info.class_name(k) for k in range(info.num_classes)]
    per_class = folder / "per_class.csv"
    # `accuracy` is recall under its former name, NaN without pictures: older readers look for it.
    head = ["class", "pictures", "accuracy", "precision", "recall", "f1"]
    rows = zip(names, accuracy.class_counts()[0], accuracy.per_class(), strict=True)
    scores = accuracy.class_scores().T
    write_csv(
        per_class,
        [
            head,
            *(
                [name, count, f"{recall:.4f}", *(f"{x:.4f}" for x in three)]
                for (name, count, recall), three in zip(rows, scores, strict=True)
            ),
        ],
    )
    title = f"{info.name}: top-1 {accuracy.top1:.3f}"
    if len(names) > MOST_CLASSES:
        mistakes = [(names[t], names[p], n) for t, p, n in accuracy.most_confused()]
        table, picture = folder / "confused_pairs.csv", folder / "confused_pairs.png"
        write_csv(table, [["true", "predicted", "pictures"], *mistakes])
        draw_confused_pairs(mistakes[:MOST_LABELS], title, picture)
    else:
        counts = accuracy.confusion()
        table, picture = folder / "confusion_matrix.csv", folder / "confusion_matrix.png"
        write_csv(table, [["true \\ predicted", *names], *zip_rows(names, counts.tolist())])
        draw_confusion_matrix(counts, names, title, picture)
    reliability = folder / "reliability.png"
    draw_reliability({"all images": accuracy.bins}, title, reliability)
    return [table, per_class, picture, reliability]


def _write_labels(path: Path, accuracy: LabelAccuracy, info: ModelInfo) -> Path:
    head = ["class", "pictures", "threshold", "precision", "recall", "f1", "average_precision"]
    columns = (accuracy.thresholds, *accuracy.class_scores(), accuracy.precisions)
    rows = zip(*columns, strict=True)
    true = accuracy.class_hits()[2]
    write_csv(
        path,
        [head, *([info.class_name(k), true[k], *(f"{x:.6g}" for x in row)]
                 for k, row in enumerate(rows))],
    )  # fmt: skip
    return path


def label_lines(accuracy: LabelAccuracy, info: ModelInfo) -> list[str]:
    """Says an evaluation with several labels a picture in numbers: all classes, then weak ones."""
    found = {name: value for name, value in accuracy.values().items() if name != "loss"}
    lines = [f"{name.replace('_', ' ')} {value:.4f}" for name, value in found.items()]
    scores, true = accuracy.class_scores(), accuracy.class_hits()[2]
    weakest = [int(k) for k in np.argsort(accuracy.precisions, kind="stable") if true[k]]
    return lines + [
        f"class {info.class_name(k)}: AP {accuracy.precisions[k]:.4f}, from"
        f" {accuracy.thresholds[k]:.4g} on: precision {scores[0, k]:.4f}, recall"
        f" {scores[1, k]:.4f}, F1 {scores[2, k]:.4f}, {true[k]} images"
        for k in weakest[:MOST_SAID]
    ]


def metric_lines(accuracy: Accuracy | LabelAccuracy, info: ModelInfo) -> list[str]:
    """Says an evaluation in numbers: averages over classes with 95 % intervals, weak classes."""
    if isinstance(accuracy, LabelAccuracy):
        return label_lines(accuracy, info)
    values = {"top1": accuracy.top1, **accuracy.summary()}
    lines = [
        f"{name.replace('_', ' ')} {values[name]:.4f} (95 %: {low:.4f} to {high:.4f})"
        for name, (low, high) in accuracy.intervals().items()
    ]
    lines.append(f"ECE {calibration_error(accuracy.bins):.4f} ({BINS} bins)")
    counts, scores = accuracy.class_counts()[0], accuracy.class_scores()
    weakest = [k for k in np.argsort(scores[1], kind="stable") if counts[k]][:MOST_SAID]
    lines += [
        f"class {info.class_name(k)}: precision {scores[0, k]:.4f}, recall {scores[1, k]:.4f},"
        f" F1 {scores[2, k]:.4f}, {counts[k]} images"
        for k in map(int, weakest)
    ]
    lines += [
        f"{info.class_name(true)} taken for {info.class_name(predicted)}: {n} of {counts[true]}"
        for true, predicted, n in accuracy.most_confused()[:MOST_PAIRS]
    ]
    return lines


def draw_confusion_matrix(counts: np.ndarray, names: list[str], title: str, path: Path) -> None:
    """Draws int64 [K, K] as a PNG, with numbers and names up to MOST_LABELS classes."""
    from matplotlib.figure import Figure

    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    labelled = len(names) <= MOST_LABELS
    side = max(5.0, 0.55 * len(names)) if labelled else 10.0
    figure = Figure(figsize=(side + 1.5, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    axes.set(xlabel="predicted", ylabel="true", title=title)
    if labelled:
        ticks = [name if _can_draw(name) else str(k) for k, name in enumerate(names)]
        axes.set_xticks(range(len(names)), ticks, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), ticks)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                dark = shares[row, column] > 0.5
                axes.text(column, row, count, ha="center", va="center", color="w" if dark else "k")
    with whole(path) as part:
        figure.savefig(part, dpi=110)


def draw_reliability(bins: dict[str, np.ndarray], title: str, path: Path) -> None:
    """Draws by how much answers are surer than they are right, and how many are how sure.

    Args:
        bins: `metric.confidence_bins` [3, B] by what they are called.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 7), layout="constrained")
    axes, counts = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    axes.plot([0, 1], [0, 1], color="gray", linestyle="--", label="as sure as right")
    for name, (count, hits, confidence) in bins.items():
        seen = count > 0
        label = f"{name}: ECE {calibration_error(np.stack([count, hits, confidence])):.3f}"
        axes.plot(confidence[seen] / count[seen], hits[seen] / count[seen], "o-", label=label)
        counts.step(np.linspace(0, 1, len(count) + 1), [*count, count[-1]], where="post")
    axes.set(ylabel="share that is right", title=title, ylim=(0, 1.02))
    counts.set(xlabel="probability of the best class", ylabel="images", xlim=(0, 1))
    axes.legend()
    for part in (axes, counts):
        part.grid(alpha=0.3)
    with whole(path) as part:
        figure.savefig(part, dpi=110)


def draw_confused_pairs(rows: list[tuple[str, str, int]], title: str, path: Path) -> None:
    """Draws how often a class was taken for another: (true, predicted, pictures) as bars."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 1.5 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    words = [" taken for ".join(n if _can_draw(n) else "?" for n in row[:2]) for row in rows]
    bars = axes.barh(range(len(rows)), [count for _, _, count in rows])
    axes.bar_label(bars, padding=2)
    axes.set_yticks(range(len(rows)), words)
    axes.set(xlabel="images", title=title)
    axes.invert_yaxis()  # the most frequent on top
    with whole(path) as part:
        figure.savefig(part, dpi=110)


def _can_draw(text: str) -> bool:
    """Tells whether matplotlib's font has all letters of a text; it draws boxes for others."""
    from matplotlib import font_manager

    known = font_manager.get_font(font_manager.findfont(font_manager.FontProperties()))
    return all(known.get_char_index(ord(letter)) for letter in text)


def zip_rows(names: list[str], rows: list[list[int]]) -> Iterable[list[Any]]:
    """Yields each row with its name in front."""
    return ([name, *row] for name, row in zip(names, rows, strict=True))


def write_csv(path: Path, rows: Iterable[Iterable[Any]]) -> None:
    """Writes rows as CSV."""
    with whole(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def read_metrics(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Reads metrics.jsonl as records by event, one for each step, in the order of the steps.

    A run that was killed and resumed has done some steps twice; the later record counts.

    Raises:
        UserError: no such file, a line that is no record, or no records at all.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"no {path}", "give --run the --output-dir of a training") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is damaged: {error}", "copy this file from the run again, or train again"
        ) from None
    events: dict[str, dict[int, dict[str, Any]]] = {"train": {}, "eval": {}}
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            events[record["event"]][record["step"]] = record
        except (ValueError, LookupError, TypeError):
            if number == len(lines):
                break  # a killed run leaves half a line
            raise UserError(
                f"{path}:{number}: not a record of a run: {line[:60]!r}", "remove this line"
            ) from None
    if not events["train"]:
        raise UserError(
            f"{path} holds no training steps yet",
            "train until a line [Epoch ...] was printed, then run this again",
        )
    return {name: [by_step[s] for s in sorted(by_step)] for name, by_step in events.items()}


def plot_curves(events: dict[str, list[dict[str, Any]]], title: str, path: Path) -> None:
    """Draws loss, accuracy and learning rate over the optimizer steps into one PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 9), layout="constrained")
    loss, accuracy, rate = figure.subplots(3, sharex=True)
    for axes, key in ((loss, "loss"), *((accuracy, key) for key in SHARES), (rate, "lr")):
        for event, style in (("train", {"alpha": 0.6}), ("eval", {"marker": "o"})):
            records = [r for r in events[event] if key in r]
            if records and not (key == "top5" and event == "train"):
                steps = [r["step"] for r in records]
                axes.plot(steps, [r[key] for r in records], label=f"{event} {key}", **style)
    loss.set(ylabel="loss", title=title)
    accuracy.set(ylabel="accuracy", ylim=(0, 1.02))
    rate.set(ylabel="learning rate", xlabel="optimizer step")
    for axes in (loss, accuracy):
        axes.legend()
    for axes in (loss, accuracy, rate):
        axes.grid(alpha=0.3)
    with whole(path) as part:
        figure.savefig(part, dpi=110)


def plot_engines(rows: list[dict[str, Any]], path: Path) -> None:
    """Draws the latency of each engine and how often it gives dygraph's class into one PNG."""
    from matplotlib.figure import Figure

    names = [
        f"{r['engine']} {r['precision']} {Path(r['file']).suffix[1:]},"
        f" {r['size']} px, batch {r['batch_size']}, {r['threads']} thr."
        for r in rows
    ]
    figure = Figure(figsize=(10, 1.5 + 0.3 * len(rows)), layout="constrained")
    latency, agreement = figure.subplots(1, 2, sharey=True)
    bars = latency.barh(names, [r["latency_ms"]["median"] for r in rows])
    latency.bar_label(bars, fmt="%.3g", padding=2)
    latency.set(xlabel="latency of a batch, median, ms")
    latency.margins(x=0.15)  # room for the numbers
    agreement.barh(names, [100 * r.get("agreement", 0) for r in rows], color="tab:green")
    agreement.set(xlabel="same class as dygraph, %", xlim=(0, 101))
    latency.invert_yaxis()  # the first row on top
    with whole(path) as part:
        figure.savefig(part, dpi=110)
