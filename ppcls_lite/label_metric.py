"""Average precision, F1 and thresholds where a picture has several labels, in numpy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np

USUAL = 0.5  # the threshold of a class that no picture of the validation set shows


@dataclass
class LabelAccuracy:
    """Answers of an evaluation with several labels a picture; as `metric.Accuracy` otherwise.

    Attributes:
        num_classes: K.
        cuts: thresholds that go with the network, [K]; empty to choose them by these answers.
        probs: probability of each class, float64, in batches [N, K].
        labels: 1 where the class is on the picture, uint8, in batches [N, K].
    """

    num_classes: int
    cuts: tuple[float, ...] = ()
    loss_sum: float = 0.0
    probs: list[np.ndarray] = field(default_factory=list)
    labels: list[np.ndarray] = field(default_factory=list)
    hits: np.ndarray = field(default_factory=lambda: np.zeros(3, np.int64))
    count: int = 0

    meters: ClassVar = ("loss", "f1")

    def add(self, logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
        """Counts a batch and returns its own mean loss and micro F1, the latter at 0.5.

        Args:
            logits: float [N, K].
            labels: 0 or 1, [N, K].
        """
        probs = sigmoid(logits)
        loss = float(binary_cross_entropy(logits, labels).mean(axis=1).sum())
        answers = probs >= USUAL
        own = np.array([(answers * labels).sum(), answers.sum(), labels.sum(dtype=np.int64)])
        self.probs.append(probs)
        self.labels.append(np.asarray(labels, np.uint8))
        self.hits += own.astype(np.int64)
        self.count += len(labels)
        self.loss_sum += loss
        return loss / len(labels), _f1(own)

    def over_ranks(
        self, total: Callable[[np.ndarray], np.ndarray], rank: int, ranks: int
    ) -> "LabelAccuracy":
        """Puts the answers of all processes together; see `metric.Accuracy.over_ranks`."""
        lengths = np.zeros(ranks)
        lengths[rank] = self.count
        ends = np.cumsum(total(lengths)).astype(int)  # each process fills its own stretch of rows
        loss = float(total(np.array([self.loss_sum]))[0])
        hits = total(self.hits.astype(np.float64)).astype(np.int64)
        rows = np.zeros((ends[-1], 2 * self.num_classes))
        if self.count:
            rows[ends[rank] - self.count : ends[rank]] = np.hstack(self.answers)
        rows = total(rows.ravel()).reshape(rows.shape)
        probs, labels = rows[:, : self.num_classes], rows[:, self.num_classes :].astype(np.uint8)
        return LabelAccuracy(
            self.num_classes, self.cuts, loss, [probs], [labels], hits, int(ends[-1])
        )

    @property
    def answers(self) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities float64 [N, K] and labels uint8 [N, K] of all pictures."""
        if not self.probs:
            empty = np.zeros((0, self.num_classes))
            return empty, empty.astype(np.uint8)
        return np.concatenate(self.probs), np.concatenate(self.labels)

    @property
    def loss(self) -> float:
        """Mean binary cross entropy over pictures and classes."""
        return self.loss_sum / max(self.count, 1)

    @property
    def means(self) -> tuple[float, float]:
        """What `add` returns, over all pictures so far."""
        return self.loss, _f1(self.hits)

    @property
    def running(self) -> dict[str, float]:
        """What log lines of training say, over all pictures so far."""
        return {"f1": _f1(self.hits)}

    @cached_property
    def thresholds(self) -> tuple[float, ...]:
        """The thresholds that go with the network, or those that these answers choose, [K]."""
        if self.cuts:
            return self.cuts
        probs, labels = self.answers
        return tuple(best_threshold(probs[:, k], labels[:, k]) for k in range(self.num_classes))

    @cached_property
    def precisions(self) -> np.ndarray:
        """Average precision of each class, float64 [K]; NaN for a class that no picture shows."""
        probs, labels = self.answers
        return np.array(
            [average_precision(probs[:, k], labels[:, k]) for k in range(self.num_classes)]
        )

    def score(self, metric: str) -> float:
        """Returns minus the loss, macro_f1, or mAP in the place of top1: the more, the better."""
        if metric == "loss":
            return -self.loss
        return self.values()["macro_f1"] if metric == "macro_f1" else self.mean_precision

    @property
    def mean_precision(self) -> float:
        """mAP: the mean average precision of the classes that some picture shows."""
        known = ~np.isnan(self.precisions)
        return float(self.precisions[known].mean()) if known.any() else 0.0

    def class_hits(self) -> np.ndarray:
        """Returns right answers, answers and labels of each class, int64 [3, K]."""
        probs, labels = self.answers
        given = probs >= np.array(self.thresholds)
        return np.stack([(given & (labels > 0)).sum(0), given.sum(0), labels.sum(0, np.int64)])

    def class_scores(self) -> np.ndarray:
        """Returns precision, recall and F1 of each class at its threshold, float64 [3, K].

        As scikit-learn's `precision_recall_fscore_support`: 0 where nothing can be divided by.
        """
        right, given, true = self.class_hits()
        over = (given, true, (given + true) / 2)
        return np.stack([right / np.maximum(d, 0.5) for d in over])

    def values(self) -> dict[str, float]:
        """Returns what log lines say of an evaluation; the F1s are at the thresholds."""
        return {
            "mAP": self.mean_precision,
            "micro_f1": _f1(self.class_hits().sum(axis=1)),
            "macro_f1": float(self.class_scores()[2].mean()),
            "loss": self.loss,
        }

    def summary(self) -> dict[str, float]:
        """Returns more of what is said of all classes together."""
        precision, recall, _ = self.class_scores().mean(axis=1)
        return {"macro_precision": float(precision), "macro_recall": float(recall)}

    @property
    def totals(self) -> str:
        """The last line of an evaluation."""
        found = self.values()
        return (
            f" * mAP {found['mAP']:.3f} macro F1 {found['macro_f1']:.3f}"
            f" micro F1 {found['micro_f1']:.3f}"
        )


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Logits -> probabilities, float64, of the same shape."""
    return np.exp(-np.logaddexp(0.0, -logits.astype(np.float64)))


def binary_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns -log sigmoid of each logit, or of its negative where the label is 0, float64."""
    signed = np.where(labels > 0, -1.0, 1.0) * logits.astype(np.float64)
    return np.logaddexp(0.0, signed)


def average_precision(probs: np.ndarray, labels: np.ndarray) -> float:
    """Returns the sum of precision times gained recall, over falling scores; NaN without a 1.

    As scikit-learn's `average_precision_score`: equal scores are taken together.

    Args:
        probs: float [N].
        labels: 0 or 1, [N].
    """
    true = int(labels.sum(dtype=np.int64))
    if not true:
        return float("nan")
    right, given = _falling(probs, labels)[1:]
    gained = np.diff(right, prepend=0) / true
    return float((right / given * gained).sum())


def best_threshold(probs: np.ndarray, labels: np.ndarray) -> float:
    """Returns the threshold with the highest F1, of equal ones the nearest to 0.5.

    Looked at are 0.5 and the middles between scores that follow each other, to 6 digits: a score
    beside the threshold may differ a little from engine to engine.

    Args:
        probs: of one class, float [N].
        labels: 0 or 1, [N].
    """
    true = int(labels.sum(dtype=np.int64))
    if not true:
        return USUAL
    scores, right, given = _falling(probs, labels)
    middles = (scores + np.append(scores[1:], 0.0)) / 2
    cuts = np.unique([USUAL, *(float(f"{x:.6g}") for x in middles)])
    place = np.searchsorted(-scores, -cuts, side="right")  # scores at the cut or above
    right, given = (np.concatenate([[0], counts])[place] for counts in (right, given))
    f1 = right / ((given + true) / 2)
    best = cuts[f1 == f1.max()]
    return float(best[np.abs(best - USUAL).argmin()])


def _falling(probs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Different scores, falling; and for each the labels and the pictures from it on up."""
    scores, inverse = np.unique(-probs, return_inverse=True)
    right = np.bincount(inverse, labels, len(scores)).cumsum()
    return -scores, right, np.bincount(inverse, minlength=len(scores)).cumsum()


def _f1(hits: Sequence[int] | np.ndarray) -> float:
    """Right answers, answers and labels -> F1."""
    right, given, true = (float(x) for x in hits)
    return right / max((given + true) / 2, 0.5)
