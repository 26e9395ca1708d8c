"""What a Predictor answers for a picture."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Prediction:
    """One class of one picture.

    Attributes:
        prob: probability after softmax, 0 to 1.
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
    """

    def __init__(self, predictions: Iterable[Prediction], unknown: bool | None = None) -> None:
        super().__init__(predictions)
        self.unknown = unknown

    def to_dict(self) -> dict[str, Any]:
        """Returns `topk`, and `unknown` where that was decided, as answers in JSON have them."""
        said = {} if self.unknown is None else {"unknown": self.unknown}
        return {"topk": [vars(prediction) for prediction in self]} | said
