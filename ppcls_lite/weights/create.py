"""A model of the zoo with its weights in one call, as timm's and torchvision's users know it."""

import warnings
from pathlib import Path
from typing import Any

from paddle import nn

from ppcls_lite.arch.zoo import build_model
from ppcls_lite.weights.find import find_weights
from ppcls_lite.weights.load import load_weights
from ppcls_lite.weights.tags import DEFAULT


def create_model(
    name: str,
    num_classes: int = 1000,
    pretrained: str | Path | bool | None = None,
    **overrides: Any,
) -> nn.Layer:
    """A model that maps images [N, 3, H, W] float32 to logits [N, K].

    Args:
        name: of a model, see `list_models`.
        num_classes: K, the number of logits.
        pretrained: a weights file of any framework, a tag of published weights (`tags.WEIGHTS`), or
            True for the model's default ones; None initialises as the source does. A last layer of
            other classes starts afresh, as in timm, with a warning.
        overrides: see `arch.zoo.build_model`.

    Raises:
        UserError: unknown name or override, a value out of range, or weights that do not fit.
    """
    model = build_model(name, num_classes, **overrides)
    if pretrained:
        source = DEFAULT if pretrained is True else pretrained
        report = load_weights(model, find_weights(source, name), replace_head=True)
        if report.reinitialised:
            fresh = ", ".join(report.reinitialised)
            warnings.warn(
                f"{name}: the last layer starts fresh: {fresh}; train it before you use it",
                stacklevel=2,
            )
    return model
