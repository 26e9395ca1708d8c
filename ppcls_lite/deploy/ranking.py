"""What a Predictor answers for a picture, and how it is made of a network's outputs."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ppcls_lite.label_metric import sigmoid
from ppcls_lite.model_info import ModelInfo

SMALLEST = np.finfo(np.float32).tiny
HIGHEST = np.nextafter(np.float32(1), np.float32(0))


@dataclass(frozen=True)
class Prediction:
    """One class of one picture.

    Attributes:
        prob: probability after softmax, 0 to 1; of several labels a picture after a sigmoid.
        name: of the class; its number as text when names are unknown.
    """

    class_id: int
    prob: float
    name: str


class Ranking(list[Prediction]):
    """The most probable classes of one picture, best first.

    Attributes:
        unknown: the picture shows none of the network's classes; None where the network has no
            limits for that (`ModelInfo.known_limits`).
        labels: of a network with several labels a picture: the classes that reach their threshold
            (`ModelInfo.cuts`), all of them, best first; None for others.
    """

    def __init__(
        self,
        predictions: Iterable[Prediction],
        unknown: bool | None = None,
        labels: list[Prediction] | None = None,
    ) -> None:
        super().__init__(predictions)
        self.unknown, self.labels = unknown, labels

    def to_dict(self) -> dict[str, Any]:
        """Returns `topk`, `unknown` and `labels` where they exist, as answers in JSON have them."""
        said: dict[str, Any] = {} if self.unknown is None else {"unknown": self.unknown}
        if self.labels is not None:
            said["labels"] = [vars(prediction) for prediction in self.labels]
        return {"topk": [vars(prediction) for prediction in self]} | said


def rank(probs: np.ndarray, topk: int, info: ModelInfo) -> list[Ranking]:
    """Probabilities [N, K] -> the topk classes of each row, the most probable first."""
    order, cuts = np.argsort(-probs, axis=1, kind="stable"), np.array(info.cuts)
    rankings = []
    for row, ids, unknown in zip(probs, order.tolist(), info.unknown(probs), strict=True):
        above = [i for i in ids if row[i] >= cuts[i]] if info.multi_label else []
        named = {i: Prediction(i, float(row[i]), info.class_name(i)) for i in {*ids[:topk], *above}}
        labels = [named[i] for i in above] if info.multi_label else None
        rankings.append(Ranking([named[i] for i in ids[:topk]], unknown, labels))
    return rankings


def softmax(logits: np.ndarray) -> np.ndarray:
    """Logits [N, K] -> probabilities [N, K] of the same dtype."""
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))  # at most 1: no overflow
    return exp / exp.sum(axis=1, keepdims=True)


def probabilities(logits: np.ndarray, info: ModelInfo) -> np.ndarray:
    """Logits [N, K] -> probabilities [N, K] of the same dtype, as the network's are made."""
    return sigmoid(logits).astype(logits.dtype) if info.multi_label else softmax(logits)


def scores(probs: np.ndarray, info: ModelInfo) -> np.ndarray:
    """Probabilities [N, K] -> logits [N, K] of the same probabilities."""
    logits = np.log(np.maximum(probs, SMALLEST))
    # Of a sigmoid's float32 1 the largest number below it, whose logit is 17.
    return logits - np.log1p(-np.minimum(probs, HIGHEST)) if info.multi_label else logits
