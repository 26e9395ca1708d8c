"""Probabilities that mean what they say: a temperature fitted on validation pictures."""

import math
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
from paddle import nn

from ppcls_lite.data.loader import Loader
from ppcls_lite.engine.evaluate import (
    FEWEST,
    Forward,
    checked,
    dygraph_forward,
    exported_or,
    kernel_forward,
)
from ppcls_lite.engine.freezing import last_linear
from ppcls_lite.engine.log import RunLog
from ppcls_lite.environment import kernel_threads
from ppcls_lite.errors import UserError
from ppcls_lite.graph import StaticGraph
from ppcls_lite.kernels.accelerate import accelerate
from ppcls_lite.kernels.calls import Kernels
from ppcls_lite.metric import calibration_error, confidence_bins, cross_entropy
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.native import Unavailable

LOWEST, HIGHEST = 0.05, 20.0  # temperatures looked at
# Whose numbers a report holds, and in words.
WHEN = {
    "before": "before calibration",
    "after": "after calibration",
    "held_out": "each half of the images by the other's temperature",
}
OTHER_WEIGHTS = "give other weights: these are damaged, or their training diverged"
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


def answers(
    model: nn.Layer, info: ModelInfo, loader: Loader, kernels: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Runs pictures of known classes through a network: logits float32 [N, K], labels int64 [N].

    Args:
        model: images to logits.
        info: its preprocessing.
        loader: every picture once; closed afterwards.
        kernels: run it in those that train, where they can.

    Raises:
        UserError: the network gives no numbers.
    """
    forward, found = fast_forward(model, info, len(loader.dataset), kernels), []
    with closing(loader):
        for batch in loader.epoch(0):
            found.append((forward(info.preprocess.normalize(batch.images)), batch.labels))
    logits, labels = (np.concatenate(parts) for parts in zip(*found, strict=True))
    logits, labels = logits[labels >= 0], labels[labels >= 0]
    if not np.isfinite(logits).all():
        raise UserError("the model answers with numbers that are not finite", OTHER_WEIGHTS)
    return logits, labels


def fast_forward(model: nn.Layer, info: ModelInfo, pictures: int, kernels: bool) -> Forward:
    """Returns the fastest of the network's forward passes that agrees with its own."""
    forward, log = dygraph_forward(model), RunLog(None)
    if info.quant_skip is not None:
        return forward
    if kernels:
        try:
            fast = kernel_forward(accelerate(model, Kernels(kernel_threads())))
            return checked(fast, forward, log, "the kernels' answer")
        except Unavailable:
            pass
    if pictures < FEWEST:
        return forward
    return exported_or(forward, StaticGraph(model, info.preprocess.crop_size), log)


def halves(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns (fitted to, measured on) twice: every other picture, and the rest."""
    even = np.arange(count) % 2 == 0
    return [(even, ~even), (~even, even)]


def calibrate(
    model: nn.Layer, logits: np.ndarray, labels: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Returns the last layer's values divided by a fitted temperature, by name, and what that did.

    Args:
        model: images to logits.
        logits: its own of the validation pictures, float [N, K].
        labels: int [N].
    """
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
        f"temperature {report['temperature']:.4f}, fitted to {report['pictures']} images, in the"
        " last layer now"
    )
