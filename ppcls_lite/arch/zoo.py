"""Every model that can be asked for by name: one row each."""

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import inf
from pathlib import Path

from paddle import nn
from paddle.nn.initializer import KaimingUniform, Normal

from ppcls_lite.arch.layers import Flavour
from ppcls_lite.arch.mnasnet import B1, MNASNet, MnasTable
from ppcls_lite.arch.mobilenet_v3 import LARGE, SMALL, MobileNetV3, V3Table
from ppcls_lite.arch.weights import load_weights
from ppcls_lite.errors import UserError, nearest

DROPOUT = 0.2


@dataclass(frozen=True)
class Spec:
    """One model of the zoo.

    Args:
        source: whose layout, names and defaults the model follows.
        family: class of the model.
        table: rows of the paper that `family` builds.
        width: factor on the table's channels.
        flavour: what `source` does its own way.
        input_size: height and width of the images behind top1 and top5, in pixels.
        top1: published ImageNet-1k accuracy, in percent.
        top5: published ImageNet-1k accuracy, in percent.
    """

    name: str
    source: str
    family: type[nn.Layer]
    table: V3Table | MnasTable
    width: float
    flavour: Flavour
    input_size: int
    top1: float
    top5: float


# fmt: off
#               bn: eps   momentum  linear_init
TV_V3 = Flavour(    1e-3, 0.99,     Normal(std=0.01))
TV_B1 = Flavour(    1e-5, 0.9997,   KaimingUniform(mode="fan_out", nonlinearity="sigmoid"))

# Accuracy: torchvision's IMAGENET1K_V1 weights, resize 256 (mnasnet0_75 and 1_3: 232), crop 224.
ZOO = (
    #    name                  source         family       table  width flavour px  top1    top5
    Spec("mobilenet_v3_small", "torchvision", MobileNetV3, SMALL, 1.0,  TV_V3, 224, 67.668, 87.402),
    Spec("mobilenet_v3_large", "torchvision", MobileNetV3, LARGE, 1.0,  TV_V3, 224, 74.042, 91.340),
    Spec("mnasnet0_5",         "torchvision", MNASNet,     B1,    0.5,  TV_B1, 224, 67.734, 87.490),
    Spec("mnasnet0_75",        "torchvision", MNASNet,     B1,    0.75, TV_B1, 224, 71.180, 90.496),
    Spec("mnasnet1_0",         "torchvision", MNASNet,     B1,    1.0,  TV_B1, 224, 73.456, 91.510),
    Spec("mnasnet1_3",         "torchvision", MNASNet,     B1,    1.3,  TV_B1, 224, 76.506, 93.522),
)
# fmt: on

# What may be overridden by create_model: the allowed values in words and as a test.
OVERRIDES: dict[str, tuple[str, Callable[[float], bool]]] = {
    "width": ("a number above 0", lambda width: 0 < width < inf),
    "dropout": ("a number from 0 to below 1", lambda dropout: 0 <= dropout < 1),
}

_LIST_COMMAND = "python tools/list_models.py"


def list_models(pattern: str = "*", source: str | None = None) -> list[str]:
    """Names that match a shell pattern (`mnas*`), in the order of the table."""
    return [
        spec.name
        for spec in ZOO
        if fnmatchcase(spec.name, pattern) and source in (None, spec.source)
    ]


def model_spec(name: str) -> Spec:
    """The row of a model.

    Raises:
        UserError: no model has this name.
    """
    for spec in ZOO:
        if spec.name == name:
            return spec
    raise UserError(
        f"unknown model {name!r}{nearest(name, list_models())}",
        f"{_LIST_COMMAND} prints the {len(ZOO)} names",
    )


def create_model(
    name: str,
    num_classes: int = 1000,
    pretrained: str | Path | None = None,
    **overrides: float,
) -> nn.Layer:
    """A model that maps images [N, 3, H, W] float32 to logits [N, K].

    Args:
        num_classes: K, the number of logits.
        pretrained: weights to load (.pdparams); None initialises as the source does.
        overrides: `width` and `dropout` in place of the model's own.

    Raises:
        UserError: unknown name or override, a value out of range, or weights that do not fit.
    """
    spec = model_spec(name)
    if not isinstance(num_classes, int) or num_classes < 1:
        raise UserError(
            f"num_classes is {num_classes!r}; allowed: a whole number from 1",
            "count the class folders of the data set, or leave it out for ImageNet's 1000",
        )
    for key, value in overrides.items():
        _check_override(name, key, value)
    model = spec.family(
        spec.table,
        overrides.get("width", spec.width),
        num_classes,
        overrides.get("dropout", DROPOUT),
        spec.flavour,
    )
    if pretrained is not None:
        load_weights(model, pretrained)
    return model


def _check_override(model: str, key: str, value: float) -> None:
    if key not in OVERRIDES:
        raise UserError(
            f"{model} has no override {key!r}{nearest(key, OVERRIDES)}; "
            f"allowed: {', '.join(OVERRIDES)}",
            f"{_LIST_COMMAND} prints the models, each with its own width",
        )
    allowed, is_allowed = OVERRIDES[key]
    if not isinstance(value, int | float) or not is_allowed(value):
        raise UserError(
            f"{key} is {value!r}; allowed: {allowed}", f"leave {key} out for {model}'s own"
        )
