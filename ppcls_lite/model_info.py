"""What a trained network needs beside its weights, in a checkpoint and in an export folder."""

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import msgspec
import numpy as np

from ppcls_lite.data.classes import ClassSet
from ppcls_lite.data.imagenet import spoken_name
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.metric import centred_logits

SMALLEST = np.finfo(np.float32).tiny  # what a softmax gives as 0 has no logarithm
ACTIVATION, SIGMOID = "activation", "sigmoid"  # of networks with several labels a picture
MOST_CLASSES = 1_000_000  # a file that asks for more would only fill the memory


@dataclass(frozen=True)
class ModelInfo:
    """Rebuilds a network and says how to feed it and how to read its answer.

    Attributes:
        name: zoo name for `create_model`.
        num_classes: K, the width of the logits.
        overrides: keyword arguments given to `create_model` beside the name.
        classes: class names, index = class id; empty when unknown.
        preprocess: what was done to the evaluation pictures.
        quant_skip: what a quantized network leaves in float (`slim.pact.quantize`); None for a
            network that is not quantized.
        known_limits: centred logits (`metric.centred_logits`), one a class: a picture that reaches
            none of them shows none of the classes. Empty where that was not decided.
        multi_label: any number of the classes may be on a picture: each has a probability of its
            own, the sigmoid of its logit, and not a share of a softmax.
        thresholds: of such a network, the probability from which on a class is said to be on the
            picture, [K]; empty is 0.5 for each.
    """

    name: str
    num_classes: int = 1000
    overrides: dict[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    preprocess: Preprocess = field(default_factory=Preprocess)
    quant_skip: tuple[str, ...] | None = None
    known_limits: tuple[float, ...] = ()
    multi_label: bool = False
    thresholds: tuple[float, ...] = ()

    @property
    def cuts(self) -> tuple[float, ...]:
        """The threshold of each class, [K]."""
        return self.thresholds or (0.5,) * self.num_classes

    @property
    def activation(self) -> str:
        """What makes probabilities of the logits: softmax or sigmoid."""
        return SIGMOID if self.multi_label else "softmax"

    def class_set(self, who: str) -> ClassSet:
        """Returns the classes for `match_classes`; `who` is what to call the network."""
        return ClassSet(who, self.classes, self.num_classes)

    def class_name(self, class_id: int) -> str:
        """Returns what to call a class: its name, its number as text when names are unknown.

        A wnid of ImageNet's gets its name: tench (n01440764).
        """
        return spoken_name(self.class_set("").name(class_id))

    def unknown(self, probs: np.ndarray) -> list[bool] | list[None]:
        """Tells which pictures show none of the classes; None each where that was not decided.

        Args:
            probs: probabilities [N, K].
        """
        if not self.known_limits:
            return [None] * len(probs)
        reached = centred_logits(np.log(np.maximum(probs, SMALLEST))) >= self.known_limits
        return [not row.any() for row in reached]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain lists, dicts and numbers, ready for JSON or YAML."""
        found = asdict(self) | {
            "classes": list(self.classes),
            "preprocess": self.preprocess.to_dict(),
            "quant_skip": None if self.quant_skip is None else list(self.quant_skip),
            "known_limits": list(self.known_limits),
        }
        if not self.known_limits:
            del found["known_limits"]
        del found["multi_label"], found["thresholds"]
        if self.multi_label:
            # In the place of `classes`, without which programs that know no sigmoid stop.
            names = found.pop("classes")
            found |= {ACTIVATION: SIGMOID, "thresholds": list(self.cuts), "labels": names}
        return found

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "ModelInfo":
        """Reads what `to_dict` wrote; other keys are left alone.

        Raises:
            UserError: a value of the preprocessing is impossible.
            ValueError: a key is missing, or a value has the wrong type or is out of its limits.
        """
        is_sigmoid = data.get(ACTIVATION) == SIGMOID
        if is_sigmoid:
            data = data | {"classes": data.get("labels", data.get("classes"))}
        found = msgspec.convert(data, _Stored)
        values = {key: getattr(found, key) for key in _Stored.__struct_fields__}
        values["preprocess"] = Preprocess.from_dict(found.preprocess)
        for key in ("known_limits", "thresholds"):
            if len(values[key]) not in (0, found.num_classes):
                given = f"{key} has {len(values[key])} numbers"
                raise ValueError(f"{given} for {found.num_classes} classes")
        return cls(**values, multi_label=is_sigmoid)


class _Stored(msgspec.Struct):
    """A `ModelInfo` as files have it."""

    name: str
    num_classes: Annotated[int, msgspec.Meta(ge=1, le=MOST_CLASSES)]
    overrides: dict[str, Any]
    classes: tuple[str, ...]
    preprocess: dict[str, Any]
    quant_skip: tuple[str, ...] | None = None  # older files know of none
    known_limits: tuple[float, ...] = ()
    thresholds: tuple[Annotated[float, msgspec.Meta(ge=0, le=1)], ...] = ()
