"""Top-k accuracy, cross entropy and confusion counts of evaluation, in numpy."""

from collections import Counter
from collections.abc import Callable
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
    """Counts of an evaluation; `over_ranks` gives those of the whole set.

    Attributes:
        num_classes: K.
        pairs: how often each (true class, predicted class) occurred. Kept sparse: a matrix of
            ImageNet-21k's 21,841 classes would take 3.8 GB, the pairs no more than the pictures.
    """

    num_classes: int
    count: int = 0
    top1_hits: int = 0
    top5_hits: int = 0
    loss_sum: float = 0.0
    pairs: Counter[tuple[int, int]] = field(default_factory=Counter)

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
        self.pairs.update(zip(labels.tolist(), logits.argmax(axis=1).tolist(), strict=True))
        return loss_sum / len(labels), top1_hits / len(labels), top5_hits / len(labels)

    def over_ranks(
        self, total: Callable[[np.ndarray], np.ndarray], rank: int, ranks: int
    ) -> "Accuracy":
        """Adds up the counts of all processes.

        Args:
            total: float64 [M] of each process -> their sum; every process calls it with its own.
            rank: number of this process, from 0.
            ranks: how many there are.
        """
        head = total(np.array([self.count, self.top1_hits, self.top5_hits, self.loss_sum]))
        lengths = np.zeros(ranks)
        lengths[rank] = len(self.pairs)
        ends = np.cumsum(total(lengths)).astype(int)  # each process fills its own stretch of rows
        if not ends[-1]:
            return Accuracy(self.num_classes)
        rows = np.zeros((ends[-1], 3))
        own = [(*pair, count) for pair, count in self.pairs.items()]
        rows[ends[rank] - len(own) : ends[rank]] = np.reshape(own, (-1, 3))
        count, top1, top5 = (int(x) for x in head[:3])
        whole = Accuracy(self.num_classes, count, top1, top5, float(head[3]))
        for true, predicted, n in total(rows.ravel()).reshape(-1, 3).astype(int).tolist():
            whole.pairs[true, predicted] += n
        return whole

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

    def confusion(self) -> np.ndarray:
        """Returns int64 [K, K], rows are the true classes, columns the predicted ones."""
        matrix = np.zeros((self.num_classes, self.num_classes), np.int64)
        for pair, count in self.pairs.items():
            matrix[pair] = count
        return matrix

    def class_counts(self) -> np.ndarray:
        """Returns the pictures of each class and how many of them were hit, int64 [2, K]."""
        counts = np.zeros((2, self.num_classes), np.int64)
        for (true, predicted), count in self.pairs.items():
            counts[0, true] += count
            counts[1, true] += count * (true == predicted)
        return counts

    def per_class(self) -> np.ndarray:
        """Returns the accuracy of each class, float64 [K]; NaN for a class without pictures."""
        counts, hits = self.class_counts().astype(np.float64)
        return np.divide(hits, counts, out=np.full(self.num_classes, np.nan), where=counts > 0)

    def most_confused(self) -> list[tuple[int, int, int]]:
        """Returns (true class, predicted class, pictures) of the mistakes, most frequent first."""
        wrong = [(true, pred, n) for (true, pred), n in self.pairs.items() if true != pred]
        return sorted(wrong, key=lambda row: (-row[2], row[0], row[1]))
