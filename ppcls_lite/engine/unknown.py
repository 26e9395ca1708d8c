"""Limits below which a picture shows none of a network's classes."""

from dataclasses import replace
from typing import Any

import numpy as np

from ppcls_lite.engine.calibration import halves
from ppcls_lite.errors import UserError
from ppcls_lite.metric import centred_logits
from ppcls_lite.model_info import ModelInfo

KEEP = 0.95  # share of the validation pictures that stay known
OF_A_CLASS = 100  # training pictures looked at for a class's mean and deviation


def with_limits(
    info: ModelInfo,
    of_train: tuple[np.ndarray, np.ndarray],
    logits: np.ndarray,
    keep: float = KEEP,
) -> tuple[ModelInfo, dict[str, Any]]:
    """Returns what travels with a network, with `known_limits`, and what they do.

    Args:
        info: of the network.
        of_train: its logits, float [N, K], and labels, int [N], of `some_of_each` of what it was
            trained on, for means and deviations of the classes.
        logits: float [M, K] of the validation pictures that the threshold is fitted to.
        keep: share of the validation pictures that stay known.

    Raises:
        UserError: the network has only one class.
    """
    if info.num_classes < 2:
        raise UserError("a model of one class knows no other", "leave --unknown out")
    limits = fit_limits(*of_train, logits, keep)
    known = np.zeros(len(logits), bool)
    for fitted, measured in halves(len(logits)):
        own = fit_limits(*of_train, logits[fitted], keep) if fitted.any() else limits
        known[measured] = (centred_logits(logits[measured]) >= own).any(axis=1)
    report = {
        "keep": keep,
        "kept": float((centred_logits(logits) >= limits).any(axis=1).mean()),
        "held_out": float(known.mean()),
        "pictures": len(logits),
        "training_pictures": len(of_train[1]),
    }
    return replace(info, known_limits=tuple(limits.tolist())), report


def said(report: dict[str, Any]) -> str:
    """Returns the line on the limits."""
    return (
        f"unknown: {report['kept']:.4f} of {report['pictures']} images stay known,"
        f" {report['held_out']:.4f} of each half by the other's limits; from"
        f" {report['training_pictures']} training images"
    )


def fit_limits(
    train_logits: np.ndarray, train_labels: np.ndarray, logits: np.ndarray, keep: float
) -> np.ndarray:
    """Returns `ModelInfo.known_limits`, float64 [K]: standardised max logits (Jung et al. 2021).

    A class's limit lies so many standard deviations of its own training pictures below their mean,
    the same number for all classes, that the share `keep` of the validation pictures reaches one.
    Differs from Jung et al.: centred logits, which probabilities give too, of pictures of the class
    rather than answers, and the largest standardised one counts; so the limits follow a
    temperature and a log prior, and the verdict stays.

    Args:
        train_logits: float [N, K], where the classes' means and deviations come from.
        train_labels: int [N].
        logits: float [M, K] of validation pictures, where the number comes from.
        keep: 0 to 1.
    """
    mean, deviation = class_statistics(train_logits, train_labels)
    scores = np.sort(((centred_logits(logits) - mean) / deviation).max(axis=1))
    dropped = int((1 - keep) * len(scores) + 1e-9)  # 0.05 * 100 is a little more than 5
    # Between two pictures: engines differ in the last bits.
    threshold = scores[dropped - 1 : dropped + 1].mean() if dropped else scores[0] - 1e-3
    return mean + threshold * deviation


def class_statistics(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and standard deviation of a class's centred logit in its pictures, [K] each.

    A class of no picture has the mean of all, one of fewer than two their deviation.

    Args:
        logits: float [N, K].
        labels: int [N].
    """
    classes = logits.shape[1]
    own = centred_logits(logits)[np.arange(len(labels)), labels]  # [N]
    count = np.bincount(labels, minlength=classes)
    mean = np.bincount(labels, own, classes) / np.maximum(count, 1)
    rest = own - mean[labels]
    variance = np.bincount(labels, rest**2, classes) / np.maximum(count, 1)
    return (
        np.where(count > 0, mean, own.mean()),
        np.sqrt(np.where(count > 1, variance, (rest**2).mean())) + 1e-6,
    )


def some_of_each(labels: np.ndarray) -> np.ndarray:
    """Returns positions of up to OF_A_CLASS pictures of each class, spread over its own, sorted."""
    chosen = []
    for k in np.unique(labels[labels >= 0]):
        own = np.flatnonzero(labels == k)
        step = np.linspace(0, len(own) - 1, min(len(own), OF_A_CLASS)).round().astype(int)
        chosen.append(own[step])
    return np.sort(np.concatenate(chosen))
