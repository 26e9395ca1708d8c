"""Top-k accuracy, cross entropy and confusion counts of evaluation, in numpy."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

BINS = 15  # of equal width, by the probability of the best class


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


def confidence_bins(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns pictures, hits and summed probability of the best class, by it, float64 [3, BINS].

    Args:
        logits: float [N, K].
        labels: int [N].
    """
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    confidence = np.nan_to_num(1 / np.exp(shifted).sum(axis=1))  # of the best class
    hits = logits.argmax(axis=1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return np.stack([np.bincount(bins, value, BINS) for value in (hits >= 0, hits, confidence)])


def calibration_error(bins: np.ndarray) -> float:
    """Returns the expected calibration error (Guo et al. 2017) of `confidence_bins`."""
    count, hits, confidence = bins
    return float(np.abs(hits - confidence).sum() / max(count.sum(), 1))


def centred_logits(logits: np.ndarray) -> np.ndarray:
    """Logits or logarithms of probabilities [N, K] -> float64 [N, K], mean 0 over the classes.

    Both give the same, so a file with a softmax inside has lost nothing of it.
    """
    return logits - logits.mean(axis=1, keepdims=True, dtype=np.float64)


@dataclass
class Accuracy:
    """Counts of an evaluation; `over_ranks` gives those of the whole set.

    Attributes:
        num_classes: K.
        pairs: how often each (true class, predicted class) occurred. Kept sparse: a matrix of
            ImageNet-21k's 21,841 classes would take 3.8 GB, the pairs no more than the pictures.
        bins: `confidence_bins` of all pictures.
    """

    num_classes: int
    count: int = 0
    top1_hits: int = 0
    top5_hits: int = 0
    loss_sum: float = 0.0
    pairs: Counter[tuple[int, int]] = field(default_factory=Counter)
    bins: np.ndarray = field(default_factory=lambda: np.zeros((3, BINS)), compare=False)

    meters: ClassVar = ("loss", "acc1", "acc5")  # of what `add` and `means` return

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
        self.bins = self.bins + confidence_bins(logits, labels)
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
        whole.bins = total(self.bins.ravel()).reshape(3, BINS)
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

    @property
    def means(self) -> tuple[float, float, float]:
        """What `add` returns, over all pictures so far."""
        return self.loss, self.top1, self.top5

    @property
    def running(self) -> dict[str, float]:
        """What log lines of training say, over all pictures so far."""
        return {"top1": self.top1, "top5": self.top5}

    def score(self, metric: str) -> float:
        """Returns top1, balanced_accuracy, macro_f1 or minus the loss: the more, the better."""
        if metric == "loss":
            return -self.loss
        return self.top1 if metric == "top1" else self.summary()[metric]

    def values(self) -> dict[str, float]:
        """Returns what log lines say of an evaluation, what counts most first."""
        return {"top1": self.top1, "top5": self.top5, "loss": self.loss}

    @property
    def totals(self) -> str:
        """The last line of an evaluation, Step6's."""
        return f" * Acc@1 {self.top1:.3f} Acc@5 {self.top5:.3f}"

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

    def pair_counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the pairs (true, predicted), int64 [P, 2], and how often each is, int64 [P]."""
        rows = np.array([(*pair, n) for pair, n in sorted(self.pairs.items())], np.int64)
        rows = rows.reshape(-1, 3)
        return rows[:, :2], rows[:, 2]

    def class_scores(self) -> np.ndarray:
        """Returns precision, recall and F1 of each class, float64 [3, K].

        As scikit-learn's `precision_recall_fscore_support`: 0 where nothing can be divided by.
        """
        return class_scores(*self.pair_counts(), self.num_classes)

    def summary(self) -> dict[str, float]:
        """Returns what is said of all classes together; see `summary`."""
        return summary(*self.pair_counts(), self.num_classes)

    def intervals(self, draws: int = 1000, seed: int = 0) -> dict[str, tuple[float, float]]:
        """Returns the 95 % intervals of top-1 and of `summary`'s numbers.

        Top-1's is Wilson's. The others are percentiles of `draws` bootstrap samples of the
        pictures: the same seed gives the same interval.
        """
        found = {"top1": wilson(self.top1_hits, self.count)}
        pairs, counts = self.pair_counts()
        rng, shares = np.random.default_rng(seed), counts / max(counts.sum(), 1)
        drawn = []
        for _ in range(draws if len(pairs) else 0):
            sample = rng.multinomial(counts.sum(), shares)
            drawn.append(summary(pairs[sample > 0], sample[sample > 0], self.num_classes))
        for name in drawn[0] if drawn else ():
            low, high = np.quantile([row[name] for row in drawn], [0.025, 0.975])
            found[name] = (float(low), float(high))
        return found

    def most_confused(self) -> list[tuple[int, int, int]]:
        """Returns (true class, predicted class, pictures) of the mistakes, most frequent first."""
        wrong = [(true, pred, n) for (true, pred), n in self.pairs.items() if true != pred]
        return sorted(wrong, key=lambda row: (-row[2], row[0], row[1]))


def class_scores(pairs: np.ndarray, counts: np.ndarray, classes: int) -> np.ndarray:
    """Pairs (true, predicted) int [P, 2], how often int [P] -> precision, recall, F1 [3, K]."""
    true, predicted = (np.bincount(pairs[:, i], counts, classes) for i in (0, 1))
    hits = np.bincount(pairs[:, 0], counts * (pairs[:, 0] == pairs[:, 1]), classes)
    over = (predicted, true, (true + predicted) / 2)
    return np.stack([hits / np.maximum(d, 0.5) for d in over])  # without pictures hits are 0


def summary(pairs: np.ndarray, counts: np.ndarray, classes: int) -> dict[str, float]:
    """Means over classes, as scikit-learn names and counts them.

    Args:
        pairs: (true class, predicted class), int [P, 2].
        counts: pictures of each pair, all above 0, int [P].
        classes: K.

    Returns:
        balanced_accuracy: mean recall of the classes with pictures.
        macro_precision, macro_recall, macro_f1: means over classes with pictures or answers.
        weighted_precision, weighted_recall, weighted_f1: means by the pictures of each class.
    """
    scores = class_scores(pairs, counts, classes)
    support = np.bincount(pairs[:, 0], counts, classes)
    seen = np.zeros(classes, bool)
    seen[pairs] = True
    found = {"balanced_accuracy": float(scores[1, support > 0].sum() / max((support > 0).sum(), 1))}
    for i, name in enumerate(("precision", "recall", "f1")):
        found[f"macro_{name}"] = float(scores[i, seen].sum() / max(seen.sum(), 1))
        found[f"weighted_{name}"] = float(scores[i] @ support / max(support.sum(), 1))
    return found


def wilson(hits: int, count: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Returns the interval of a share by Wilson (1927); z is 1.96 for 95 %."""
    if not count:
        return 0.0, 1.0
    share, extra = hits / count, z * z / count
    middle = (share + extra / 2) / (1 + extra)
    half = z / (1 + extra) * float(np.sqrt(share * (1 - share) / count + extra / (4 * count)))
    return middle - half, middle + half
