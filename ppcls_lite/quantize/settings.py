"""Settings of int8."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from ppcls_lite.config import (
    BareWeights,
    CalibrationMode,
    Count,
    CountOrZero,
    Fraction,
    PictureLimit,
    Pixels,
)
from ppcls_lite.errors import UserError


@dataclass(frozen=True)
class Int8Settings(PictureLimit, BareWeights):
    """What int8 is made from and measured with."""

    pretrained: str = ""
    """A checkpoint; weights of any framework (with --model); or a tag, the name of published
    weights."""
    data_path: str = ""
    """Folder with train/ (to calibrate) and val/ (to measure), each with a folder per class."""
    calibration_images: Count = 100
    """Calibration images from train, as many of each class as possible."""
    img_size: Pixels | None = None
    """Side of the model's input, pixels. Without it: that of the checkpoint. The resize before it
    changes in proportion."""
    outliers: Annotated[float, Meta(ge=1)] = 1.0
    """Above 1: quantize a twin of the model. Its float predictions are the same, but a tenth of its
    bottleneck channels is up to this many times as large, as in models trained for long."""


@dataclass(frozen=True)
class QuantizeConfig(Int8Settings):
    """Write an int8 model for a runtime and measure what it lost.

    python tools/quantize.py --target accelerator --pretrained output/best.pdparams \\
        --data-path my_pictures --out int8
    python tools/quantize.py --pretrained output/best.pdparams --data-path my_pictures --table
    """

    target: Literal["accelerator", "onnxruntime", "openvino", "tflite"] = "accelerator"
    """What shall run the int8 model: accelerator (the card, simulated), onnxruntime, openvino, or
    tflite (for tools/export_mobile.py)."""
    out: str = ""
    """Export folder to write, read by predict and serve; it must not exist, or be empty."""
    calibration_mode: CalibrationMode | None = None
    """How the range of int8 is found. Without it: the best for --target."""
    remedies: (
        tuple[
            Literal[
                "gates",
                "split",
                "equalise",
                "channels",
                "affine",
                "rounding",
                "bias",
                "train",
                "stretch",
            ],
            ...,
        ]
        | None
    ) = None
    """Techniques, changes of the float graph that int8 profits from. Without it: the target's best;
    see docs/int8.md."""
    train_images: Count = 1000
    """Images of train that the technique train learns from, as many of each class as possible."""
    float_layers: tuple[str, ...] | None = None
    """Layers to keep in float: names, se, hswish, pool, first, last, elementwise (all that has no
    weights), worst:N, the N that tools/sensitivity.py ranks first, or budget:P, the best for P
    percent of the model's products. Without it: the target's best."""
    eval_images: CountOrZero = 0
    """Images of val to measure on, as many of each class as possible; 0 takes all."""
    min_agreement: Fraction = 0.95
    """Share of images whose class must stay that of the float model; below it, the exit status is
    1."""
    table: bool = False
    """Write nothing; print fp32, fp16, every calibration mode and every technique instead, on val
    and on images of train that are not calibrated with."""
    json: bool = False
    """Print one JSON object with everything as the last line."""

    def __post_init__(self) -> None:
        if self.target == "accelerator" and "channels" in (self.remedies or ()):
            raise UserError(
                "--remedies channels: the card's compiler finds one threshold for all channels;"
                " allowed with the other targets",
                "leave it out: --remedies gates,equalise",
            )
        of_card = [name for name in self.remedies or () if name in ("affine", "stretch")]
        if self.target != "accelerator" and of_card:
            raise UserError(
                f"--remedies {of_card[0]}: the runtime has zero points and steps of its own for"
                " that; allowed with --target accelerator",
                "name channels instead: --remedies channels",
            )
        trains = self.table or "train" in (self.remedies or ())
        if self.changed("train_images") and not trains:
            raise UserError(
                "--train-images has no effect: nothing is trained",
                "add the technique: --remedies gates,equalise,train",
            )


@dataclass(frozen=True)
class SensitivityConfig(Int8Settings):
    """Rank layers by what int8 in this layer alone does to the predictions.

    python tools/sensitivity.py --pretrained output/best.pdparams --data-path my_pictures \\
        --out sensitivity
    """

    out: str = ""
    """Folder for sensitivity.json and sensitivity.png."""
    calibration_mode: CalibrationMode = "percentile"
    """How the range of int8 is found."""
    remedies: tuple[Literal["gates", "split", "equalise"], ...] = ()
    """Techniques, changes of the float graph beforehand, as in quantize."""
    rows: Count = 20
    """Layers to print."""
