"""Probabilities that mean what they say: a temperature fitted on validation pictures."""

import math
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn

from ppcls_lite.data.loader import Loader
from ppcls_lite.engine.checkpoint import UNCALIBRATED, load_checkpoint, save_checkpoint
from ppcls_lite.engine.evaluate import FEWEST, dygraph_forward, exported_or
from ppcls_lite.engine.freezing import last_linear
from ppcls_lite.engine.log import RunLog
from ppcls_lite.engine.run import Run
from ppcls_lite.errors import UserError
from ppcls_lite.files import FileContent
from ppcls_lite.graph import StaticGraph
from ppcls_lite.metric import calibration_error, confidence_bins, cross_entropy
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.slim.network import network_of
from ppcls_lite.weights.description import read_description

LOWEST, HIGHEST = 0.05, 20.0  # temperatures looked at
# Whose numbers a report holds, and in words.
WHEN = {
    "before": "before calibration",
    "after": "after calibration",
    "held_out": "each half of the pictures by the other's temperature",
}
PRIOR = math.log(2)  # standard deviation of log T, before any picture is seen


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the T that makes the cross entropy of logits / T least, by golden section.

    Differs from Guo et al. 2017: log T has a normal prior of deviation PRIOR. Without a mistake
    among a few pictures their T is 0, and every answer certain.

    Args:
        logits: float [N, K].
        labels: int [N].
    """
    golden = (np.sqrt(5) - 1) / 2
    low, high = np.log(LOWEST), np.log(HIGHEST)

    def loss(log_t: float) -> float:
        prior = 0.5 * (log_t / PRIOR) ** 2
        return float(cross_entropy(logits / np.exp(log_t), labels).sum() + prior)

    while high - low > 1e-6:
        left, right = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, right) if loss(left) <= loss(right) else (left, high)
    return float(np.exp((low + high) / 2))


def answers(model: nn.Layer, info: ModelInfo, loader: Loader) -> tuple[np.ndarray, np.ndarray]:
    """Runs pictures of known classes through a network: logits float32 [N, K], labels int64 [N].

    Args:
        model: images to logits.
        info: its preprocessing.
        loader: every picture once; closed afterwards.

    Raises:
        UserError: the network gives no numbers.
    """
    forward, found = dygraph_forward(model), []
    if info.quant_skip is None and len(loader.dataset) >= FEWEST:
        graph = StaticGraph(model, info.preprocess.crop_size)
        forward = exported_or(forward, graph, RunLog(None))
    with closing(loader):
        for batch in loader.epoch(0):
            found.append((forward(info.preprocess.normalize(batch.images)), batch.labels))
    logits, labels = (np.concatenate(parts) for parts in zip(*found, strict=True))
    logits, labels = logits[labels >= 0], labels[labels >= 0]
    if not np.isfinite(logits).all():
        raise UserError("the network answers with numbers that are not finite", "other weights")
    return logits, labels


def halves(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns (fitted to, measured on) twice: every other picture, and the rest."""
    even = np.arange(count) % 2 == 0
    return [(even, ~even), (~even, even)]


def calibrate(
    model: nn.Layer, info: ModelInfo, val: Loader
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Returns the last layer's values divided by a fitted temperature, by name, and what that did.

    Args:
        model: images to logits.
        info: its preprocessing.
        val: every validation picture once; closed afterwards.

    Raises:
        UserError: the network gives no numbers.
    """
    logits, labels = answers(model, info, val)
    temperature = fit_temperature(logits, labels)
    report: dict[str, Any] = {"temperature": temperature, "pictures": len(labels)}
    held_out = logits.copy()
    for fitted, measured in halves(len(labels)):
        held_out[measured] /= fit_temperature(logits[fitted], labels[fitted])
    for when, seen in zip(WHEN, (logits, logits / temperature, held_out), strict=True):
        bins = confidence_bins(seen, labels)
        report[when] = {
            "nll": float(cross_entropy(seen, labels).mean()),
            "ece": calibration_error(bins),
            "bins": bins.tolist(),
        }
    last = last_linear(model)
    values = {n: t for n, t in model.state_dict().items() if t is last.weight or t is last.bias}
    return {name: (t / temperature).numpy() for name, t in values.items()}, report


def said(report: dict[str, Any]) -> Iterator[str]:
    """Yields the lines on a calibration."""
    for when, words in WHEN.items():
        yield f"{words}: NLL {report[when]['nll']:.4f}, ECE {report[when]['ece']:.4f}"
    yield (
        f"temperature {report['temperature']:.4f}, fitted to {report['pictures']} pictures, in the"
        " last layer now"
    )


def calibrate_best(run: Run, path: Path) -> Iterator[str]:
    """Calibrates the best checkpoint of a run where that is asked for, on one process.

    With several labels a picture the thresholds do that work: one temperature is of a softmax.
    """
    if run.config.calibrate and run.world.is_main and not run.info.multi_label and path.is_file():
        pictures, batch = run.evaluate.loader.dataset, run.config.batch_size
        val = Loader(pictures, run.info.preprocess, batch, training=False, on_error="skip")
        yield from calibrate_checkpoint(path, val)


def calibrate_checkpoint(path: Path, val: Loader) -> Iterator[str]:
    """Calibrates a checkpoint, once, and yields what that did; what resumes from it sees it as
    trained. Other names of the same bytes keep them.

    Args:
        path: of the `.pdparams` file.
        val: every validation picture once.
    """
    state = read_description(FileContent(path)) or {}
    if "calibration" in state:
        return
    found = load_checkpoint(path)
    model = network_of(found.info)
    model.set_state_dict(found.params)
    scaled, report = calibrate(model, found.info, val)
    own = {"progress", "sha256", *found.info.to_dict()}
    extra = {key: value for key, value in state.items() if key not in own}
    as_trained = {name + UNCALIBRATED: found.params[name] for name in scaled}
    save_checkpoint(
        path,
        {name: paddle.to_tensor(x) for name, x in (found.params | scaled).items()},
        found.optimizer | as_trained,
        found.info,
        found.progress,
        extra | {"calibration": report},
    )
    yield from said(report)
