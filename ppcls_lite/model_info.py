"""What a trained network needs beside its weights, in a checkpoint and in an export folder."""

from dataclasses import asdict, dataclass, field
from typing import Any

from ppcls_lite.data.preprocess import Preprocess


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
    """

    name: str
    num_classes: int = 1000
    overrides: dict[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    preprocess: Preprocess = field(default_factory=Preprocess)
    quant_skip: tuple[str, ...] | None = None

    def class_name(self, class_id: int) -> str:
        """Returns the name of a class, or its number as text when names are unknown."""
        return self.classes[class_id] if class_id < len(self.classes) else str(class_id)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain lists, dicts and numbers, ready for JSON or YAML."""
        return asdict(self) | {
            "classes": list(self.classes),
            "preprocess": self.preprocess.to_dict(),
            "quant_skip": None if self.quant_skip is None else list(self.quant_skip),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "ModelInfo":
        """Reads what `to_dict` wrote; other keys are left alone."""
        skip = data.get("quant_skip")  # older files know of none
        return cls(
            name=data["name"],
            num_classes=data["num_classes"],
            overrides=dict(data["overrides"]),
            classes=tuple(data["classes"]),
            preprocess=Preprocess.from_dict(data["preprocess"]),
            quant_skip=None if skip is None else tuple(skip),
        )
