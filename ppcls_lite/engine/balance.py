"""Classes of unequal size in training: weights in the loss, or log priors added to the logits."""

import dataclasses

import numpy as np
import paddle
from paddle import Tensor

from ppcls_lite.data.balance_settings import BalanceSettings


@dataclasses.dataclass(frozen=True)
class Balance:
    """What is done about unequal classes, from the numbers of training pictures.

    Attributes:
        weights: of each class in the loss, float32 [K], 1 in the mean over the pictures; None.
        offsets: added to the logits in the loss alone, float32 [K]; None.
        positives: with several labels a picture: weight of each class where it is there, [K]; None.
    """

    weights: np.ndarray | None = None
    offsets: np.ndarray | None = None
    positives: Tensor | None = None

    def targets(self, shares: np.ndarray) -> np.ndarray:
        """Shares of the classes [N, K] -> the same, weighted; the loss divides by their sum.

        As torch's `CrossEntropyLoss(weight=...)`. Differs from it with label smoothing: what is
        spread has the weight of the picture's own class.
        """
        return shares if self.weights is None else shares * self.weights

    def logits(self, logits: Tensor) -> Tensor:
        """Logits [N, K] as the loss sees them."""
        if self.offsets is None:
            return logits
        return logits.astype("float32") + paddle.to_tensor(self.offsets)


def balance(settings: BalanceSettings, labels: np.ndarray, classes: int) -> Balance:
    """Returns what the settings ask for.

    Args:
        settings: `class_weights`, `logit_adjustment` and `sampler`.
        labels: class ids of the training pictures, [N], -1 does not count; or several labels a
            picture, 0 or 1, [N, K].
        classes: K.
    """
    if labels.ndim == 2:
        is_asked = settings.class_weights == "balanced"
        return Balance(positives=paddle.to_tensor(positive_weights(labels)) if is_asked else None)
    counts = np.bincount(labels[labels >= 0], minlength=classes)
    weights = balanced_weights(counts) if settings.class_weights == "balanced" else None
    if not settings.logit_adjustment:
        return Balance(weights)
    return Balance(weights, np.float32(settings.logit_adjustment * log_prior(counts)))


def balanced_weights(counts: np.ndarray) -> np.ndarray:
    """Pictures of each class [K] -> weights float32 [K]: N / (K n), scikit-learn's `balanced`.

    K are the classes with pictures; the others have weight 0.
    """
    present = counts > 0
    weights = counts.sum() / (present.sum() * np.maximum(counts, 1))
    return np.where(present, weights, 0).astype(np.float32)


def positive_weights(labels: np.ndarray) -> np.ndarray:
    """Labels 0 or 1 [N, K] -> pictures without a class for each one with it, float32 [K]."""
    there = labels.sum(axis=0, dtype=np.int64)
    return np.where(there, (len(labels) - there) / np.maximum(there, 1), 1).astype(np.float32)


def log_prior(counts: np.ndarray) -> np.ndarray:
    """Pictures of each class [K] -> log of its share, float64 [K]; for none half a picture."""
    counts = np.maximum(counts, 0.5)
    return np.log(counts / counts.sum())


def line(settings: BalanceSettings, found: Balance) -> list[str]:
    """Says what is done, as lines of the plan."""
    said = []
    if found.weights is not None:
        low, high = found.weights.min(), found.weights.max()
        said.append(f"--class-weights balanced: {low:.3g} to {high:.3g}")
    if found.positives is not None:
        low, high = float(found.positives.min()), float(found.positives.max())
        said.append(f"--class-weights balanced: {low:.3g} to {high:.3g} where a class is there")
    if settings.sampler == "balanced":
        said.append("--sampler balanced: as many images of each class in an epoch")
    if found.offsets is not None:
        tau = settings.logit_adjustment
        said.append(f"--logit-adjustment {tau:g}: {tau:g} log(share of the class) in the loss")
    return [f"balance   {'; '.join(said)}"] if said else []
