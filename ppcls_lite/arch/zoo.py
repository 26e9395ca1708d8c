"""Every model that can be asked for by name: one row each."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from math import inf
from typing import Any

from paddle import nn

from ppcls_lite.arch import mnasnet
from ppcls_lite.arch.flavours import (
    MINDCV,
    PADDLECLAS,
    SHOWLO,
    TIMM_MNASNET,
    TIMM_RW,
    TIMM_TF_LITE,
    TIMM_TF_V3,
    TIMM_V3,
    TV_MNASNET,
    TV_V3,
    Flavour,
)
from ppcls_lite.arch.mnasnet import MNASNet, MnasTable
from ppcls_lite.arch.mobilenet_v3 import LARGE, SMALL, MobileNetV3, V3Table, minimal
from ppcls_lite.errors import UserError, nearest, shortened
from ppcls_lite.program import command


@dataclass(frozen=True)
class Spec:
    """One model of the zoo.

    Args:
        table: rows of the paper that the model is built from.
        width: factor on the table's channels.
        flavour: what the model's source does its own way.
        top1: published ImageNet-1k accuracy, in percent; None where none is published.
        top5: published ImageNet-1k accuracy, in percent; None where none is published.
        input_size: height and width of the images behind top1 and top5, in pixels.
    """

    name: str
    table: V3Table | MnasTable
    width: float
    flavour: Flavour
    top1: float | None
    top5: float | None
    input_size: int = 224

    @property
    def source(self) -> str:
        """Whose layout, names and defaults the model follows."""
        return self.flavour.source


# PaddleClas gives the hidden layer of its small network the width of the large one's.
SMALL_1280 = SMALL._replace(head=1280)

# fmt: off
ZOO = (
    #    name                                table           width flavour       top1    top5
    # IMAGENET1K_V1 weights, resize 256 (mnasnet0_75 and 1_3: 232), crop 224.
    Spec("mobilenet_v3_small",               SMALL,          1.0,  TV_V3,        67.668, 87.402),
    Spec("mobilenet_v3_large",               LARGE,          1.0,  TV_V3,        74.042, 91.340),
    Spec("mnasnet0_5",                       mnasnet.B1,     0.5,  TV_MNASNET,   67.734, 87.490),
    Spec("mnasnet0_75",                      mnasnet.B1,     0.75, TV_MNASNET,   71.180, 90.496),
    Spec("mnasnet1_0",                       mnasnet.B1,     1.0,  TV_MNASNET,   73.456, 91.510),
    Spec("mnasnet1_3",                       mnasnet.B1,     1.3,  TV_MNASNET,   76.506, 93.522),
    # VastModelZOO's table, the weights trained without a teacher.
    Spec("MobileNetV3_small_x0_35",          SMALL_1280,     0.35, PADDLECLAS,   53.030, 76.370),
    Spec("MobileNetV3_small_x0_5",           SMALL_1280,     0.5,  PADDLECLAS,   59.210, 81.520),
    Spec("MobileNetV3_small_x0_75",          SMALL_1280,     0.75, PADDLECLAS,   66.020, 86.330),
    Spec("MobileNetV3_small_x1_0",           SMALL_1280,     1.0,  PADDLECLAS,   68.240, 88.060),
    Spec("MobileNetV3_small_x1_25",          SMALL_1280,     1.25, PADDLECLAS,   70.670, 89.510),
    Spec("MobileNetV3_large_x0_35",          LARGE,          0.35, PADDLECLAS,   64.320, 85.460),
    Spec("MobileNetV3_large_x0_5",           LARGE,          0.5,  PADDLECLAS,   69.240, 88.520),
    Spec("MobileNetV3_large_x0_75",          LARGE,          0.75, PADDLECLAS,   73.140, 91.080),
    Spec("MobileNetV3_large_x1_0",           LARGE,          1.0,  PADDLECLAS,   75.320, 92.310),
    Spec("MobileNetV3_large_x1_25",          LARGE,          1.25, PADDLECLAS,   76.410, 92.950),
    # VastModelZOO's table.
    Spec("mobilenetv3_rw",                   LARGE,          1.0,  TIMM_RW,      75.632, 92.708),
    Spec("mobilenetv3_large_100",            LARGE,          1.0,  TIMM_V3,      75.766, 92.544),
    Spec("mobilenetv3_small_050",            SMALL,          0.5,  TIMM_V3,      57.890, 80.194),
    Spec("mobilenetv3_small_075",            SMALL,          0.75, TIMM_V3,      65.242, 85.438),
    Spec("mobilenetv3_small_100",            SMALL,          1.0,  TIMM_V3,      67.656, 87.634),
    # timm's results-imagenet.csv.
    Spec("mnasnet_small",                    mnasnet.SMALL,  1.0,  TIMM_MNASNET, 66.196, 86.504),
    Spec("semnasnet_100",                    mnasnet.A1,     1.0,  TIMM_MNASNET, 75.450, 92.594),
    Spec("tf_mobilenetv3_small_075",         SMALL,          0.75, TIMM_TF_V3,   65.728, 86.126),
    Spec("tf_mobilenetv3_small_100",         SMALL,          1.0,  TIMM_TF_V3,   67.918, 87.674),
    Spec("tf_mobilenetv3_large_075",         LARGE,          0.75, TIMM_TF_V3,   73.432, 91.352),
    Spec("tf_mobilenetv3_large_100",         LARGE,          1.0,  TIMM_TF_V3,   75.516, 92.594),
    Spec("tf_mobilenetv3_small_minimal_100", minimal(SMALL), 1.0,  TIMM_TF_V3,   62.890, 84.240),
    Spec("tf_mobilenetv3_large_minimal_100", minimal(LARGE), 1.0,  TIMM_TF_V3,   72.258, 90.638),
    Spec("tf_efficientnet_lite0",            mnasnet.LITE0,  1.0,  TIMM_TF_LITE, 74.830, 92.172),
    # MindCV's page.
    Spec("mobilenet_v3_small_075",           SMALL,          0.75, MINDCV,       None,   None),
    Spec("mobilenet_v3_small_100",           SMALL,          1.0,  MINDCV,       67.340, 87.490),
    Spec("mobilenet_v3_large_075",           LARGE,          0.75, MINDCV,       None,   None),
    Spec("mobilenet_v3_large_100",           LARGE,          1.0,  MINDCV,       75.140, 92.330),
    # VastModelZOO's table.
    Spec("showlo_mobilenetv3_small",         SMALL,          1.0,  SHOWLO,       67.520, 87.580),
    Spec("showlo_mobilenetv3_large",         LARGE,          1.0,  SHOWLO,       None,   None),
)
# fmt: on

# What may be overridden by create_model: the allowed values in words and as a test.
OVERRIDES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "width": ("a number above 0", lambda width: _is_number(width) and 0 < width < inf),
    "dropout": ("a number from 0 to below 1", lambda rate: _is_number(rate) and 0 <= rate < 1),
    "expanded": (
        "a whole number for each block",
        lambda widths: isinstance(widths, list | tuple) and all(type(x) is int for x in widths),
    ),
    "small_input": ("True or False", lambda small_input: small_input in (0, 1)),
    "same_padding": ("True or False", lambda same_padding: same_padding in (0, 1)),
}


def list_models(pattern: str = "*", source: str | None = None) -> list[str]:
    """Names that match a shell pattern (`mnas*`), in the order of the table.

    Args:
        source: only models as this one builds them, `Spec.source`; None: all.
    """
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
        f"unknown model {shortened(repr(name))}{nearest(name, list_models())}",
        f"{command('list_models')}  # prints the {len(ZOO)} names",
    )


def build_model(name: str, num_classes: int = 1000, **overrides: Any) -> nn.Layer:
    """A freshly initialised model that maps images [N, 3, H, W] float32 to logits [N, K].

    Args:
        num_classes: K, the number of logits.
        overrides: `width` and `dropout` in place of the model's own; `expanded`, the channels that
            pruning left in each block; `small_input` for images of about 32 pixels, see
            `for_small_input`; `same_padding` for TensorFlow's, which `tf_` models have.

    Raises:
        UserError: unknown name or override, or a value out of range.
    """
    spec = model_spec(name)
    if not isinstance(num_classes, int) or num_classes < 1:
        raise UserError(
            f"num_classes is {shortened(repr(num_classes))}; allowed: a whole number from 1",
            "count the class folders of the data set, or leave it out for ImageNet's 1000",
        )
    for key, value in overrides.items():
        _check_override(name, key, value)
    width = overrides.get("width", spec.width)
    dropout = overrides.get("dropout", spec.flavour.dropout)
    expanded = overrides.get("expanded")
    table = for_small_input(spec.table) if overrides.get("small_input") else spec.table
    flavour = spec.flavour
    if overrides.get("same_padding"):
        flavour = replace(flavour, same_stem=True, same_depthwise=True)
    if isinstance(table, V3Table):
        return MobileNetV3(table, width, num_classes, dropout, flavour, expanded)
    return MNASNet(table, width, num_classes, dropout, flavour, expanded)


def for_small_input(table: V3Table | MnasTable) -> V3Table | MnasTable:
    """The table with the stem and the first block of stride 2 at stride 1, as ShowLo's for CIFAR.

    The last feature map is then an eighth of the image's side, not a thirty-second.
    """
    if isinstance(table, V3Table):
        blocks = _first_stride_1(table.blocks)
        return table._replace(stem_stride=1, blocks=blocks)
    return table._replace(stem_stride=1, stages=_first_stride_1(table.stages))


def _first_stride_1(rows: tuple[Any, ...]) -> tuple[Any, ...]:
    first = next(i for i, row in enumerate(rows) if row.stride == 2)
    return (*rows[:first], rows[first]._replace(stride=1), *rows[first + 1 :])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _check_override(model: str, key: str, value: Any) -> None:
    if key not in OVERRIDES:
        raise UserError(
            f"{model} has no override {shortened(repr(key))}{nearest(key, OVERRIDES)}; "
            f"allowed: {', '.join(OVERRIDES)}",
            f"{command('list_models')}  # prints the models, each with its own width",
        )
    allowed, is_allowed = OVERRIDES[key]
    if not is_allowed(value):
        raise UserError(
            f"{key} is {shortened(repr(value))}; allowed: {allowed}",
            f"leave {key} out for {model}'s own",
        )
