"""Top-k accuracy, cross entropy and confusion counts of evaluation, in numpy."""

from dataclasses import dataclass, field

import numpy as np


def label_rank(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns how many classes score before the right one, int64 [N]; 0 is a top-1 hit.

    Args:
        logits: float [N, K].
        labels: int [N].

    Equal scores rank in the order of the class ids; a label whose score is not a number ranks last.
    """
    own = np.take_along_axis(logits, labels[:, None], axis=1)  # [N, 1]
    earlier = np.arange(logits.shape[1])[None, :] < labels[:, None]  # [N, K]
    rank = np.sum((logits > own) | ((logits == own) & earlier), axis=1)
    return np.where(np.isnan(own[:, 0]), logits.shape[1], rank)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns -log softmax(logits)[label], float64 [N]."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1))
    return log_sum - shifted[np.arange(len(labels)), labels]


@dataclass
class Accuracy:
    """Counts of an evaluation; adding the `totals` of several ranks gives those of the whole set.

    Attributes:
        num_classes: K.
        confusion: int64 [K, K], rows are the true classes, columns the predicted ones.
    """

    num_classes: int
    count: int = 0
    top1_hits: int = 0
    top5_hits: int = 0
    loss_sum: float = 0.0
    confusion: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.confusion = np.zeros((self.num_classes, self.num_classes), np.int64)

    def add(self, logits: np.ndarray, labels: np.ndarray) -> tuple[float, float, float]:
        """Counts a batch and returns its own mean loss, top-1 and top-5.

        Args:
            logits: float [N, K].
            labels: int [N].
        """
        rank = label_rank(logits, labels)
        top1_hits, top5_hits = int(np.sum(rank < 1)), int(np.sum(rank < 5))
        loss_sum = float(cross_entropy(logits, labels).sum())
        self.count += len(labels)
        self.top1_hits += top1_hits
        self.top5_hits += top5_hits
        self.loss_sum += loss_sum
        np.add.at(self.confusion, (labels, logits.argmax(axis=1)), 1)
        return loss_sum / len(labels), top1_hits / len(labels), top5_hits / len(labels)

    def totals(self) -> np.ndarray:
        """Returns all counts as one float64 vector, for a sum over ranks."""
        head = [self.count, self.top1_hits, self.top5_hits, self.loss_sum]
        return np.concatenate([head, self.confusion.ravel()]).astype(np.float64)

    @classmethod
    def from_totals(cls, totals: np.ndarray, num_classes: int) -> "Accuracy":
        """Reads what `totals` wrote."""
        count, top1, top5 = (int(x) for x in totals[:3])
        accuracy = cls(num_classes, count, top1, top5, float(totals[3]))
        accuracy.confusion = totals[4:].astype(np.int64).reshape(num_classes, num_classes)
        return accuracy

    @property
    def top1(self) -> float:
        """Share of pictures whose best class is the right one."""
        return self.top1_hits / max(self.count, 1)

    @property
    def top5(self) -> float:
        """Share of pictures with the right class among the best five (all, when K <= 5)."""
        return self.top5_hits / max(self.count, 1)

    @property
    def loss(self) -> float:
        """Mean cross entropy."""
        return self.loss_sum / max(self.count, 1)

    def per_class(self) -> np.ndarray:
        """Returns the accuracy of each class, float64 [K]; NaN for a class without pictures."""
        counts = self.confusion.sum(axis=1).astype(np.float64)
        hits = self.confusion.diagonal().astype(np.float64)
        return np.divide(hits, counts, out=np.full(self.num_classes, np.nan), where=counts > 0)
