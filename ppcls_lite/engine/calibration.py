"""Probabilities that mean what they say: a temperature fitted on validation pictures."""

import numpy as np

from ppcls_lite.metric import cross_entropy

LOWEST, HIGHEST = 0.05, 20.0  # temperatures looked at
BINS = 15


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the T that makes the cross entropy of logits / T least (Guo et al. 2017).

    Golden section over log T, to 1e-6: the loss is convex in 1 / T, so it has one minimum. With
    hardly a mistake there is no minimum and an end of the range is returned.

    Args:
        logits: float [N, K].
        labels: int [N].
    """
    golden = (np.sqrt(5) - 1) / 2
    low, high = np.log(LOWEST), np.log(HIGHEST)

    def loss(log_t: float) -> float:
        return float(cross_entropy(logits / np.exp(log_t), labels).mean())

    while high - low > 1e-6:
        left, right = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, right) if loss(left) <= loss(right) else (left, high)
    return float(np.exp((low + high) / 2))


def calibration_error(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the expected calibration error of the best class in BINS equal bins (Guo et al.).

    Args:
        logits: float [N, K].
        labels: int [N].
    """
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    confidence = 1 / np.exp(shifted).sum(axis=1)  # of the best class
    hits = logits.argmax(axis=1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, hits - confidence, BINS)
    return float(np.abs(gaps).sum() / len(labels))
