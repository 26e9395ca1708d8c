"""What all settings are made of; they lie in each room's `settings.py`, beside who reads them.

A command's settings are a frozen dataclass put together from groups (base classes). A field is a
flag and a YAML key; the text under it is its help; `Meta` holds its limits and other spellings.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from ppcls_lite.errors import UserError
from ppcls_lite.program import help_command

Count = Annotated[int, Meta(ge=1)]
CountOrZero = Annotated[int, Meta(ge=0)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
NotNegative = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
HalfTurn = Annotated[float, Meta(ge=0, le=0.5)]
Pixels = Annotated[int, Meta(ge=8)]
BARE = Meta(extra={"bare": "default"})  # the flag without a value: published weights
TRAIN_FROM = Meta(extra={"bare": "default", "flags": ["--ckpt-path"]})
Device = Literal["auto", "cpu", "gpu"]
Interpolation = Literal["nearest", "bilinear", "bicubic"]
Tta = Literal["none", "flip"]
Fit = Literal["crop", "pad", "squash"]
Engine = Literal["auto", "dygraph", "paddle_inference", "onnxruntime", "openvino"]
CalibrationMode = Literal["percentile", "max", "kl_divergence", "mse"]
DEFAULT_MODEL = "mobilenet_v3_small"


@dataclass(frozen=True)
class Settings:
    """Base of all settings; remembers where each value came from."""

    sources: Mapping[str, str] = field(
        default_factory=dict, kw_only=True, repr=False, compare=False
    )
    # The program's name in messages; empty when no command line made these settings.
    prog: str = field(default="", kw_only=True, repr=False, compare=False)

    # Flags that --help and --print-config show first, whatever group they are of.
    essentials: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if found := list(self.problems()):
            raise UserError(
                "\n".join(found), f"{help_command(self.prog, 'all')}  # explains the flags"
            )

    def problems(self) -> Iterator[str]:
        """Yields what cannot be; each group adds its own to those of its bases."""
        yield from ()

    def given(self, name: str) -> bool:
        """Tells whether the user set this field, by flag or by YAML."""
        return name in self.sources

    def changed(self, name: str) -> bool:
        """Tells whether this field differs from its default; what --print-config writes may not."""
        return getattr(self, name) != getattr(type(self), name)

    def require(self, *names: str) -> None:
        """Raises UserError when a field that has no sensible default was left empty."""
        for name in names:
            if not getattr(self, name):
                flag = f"--{name.replace('_', '-')}"
                raise UserError(
                    f"{flag} is missing", f"{help_command(self.prog)}  # explains {flag}"
                )


@dataclass(frozen=True, kw_only=True)
class PictureLimit(Settings):
    """Images."""

    max_megapixels: Annotated[float, Meta(gt=0)] | None = None
    """Largest image that is decoded, in million pixels. Without it: 179, Pillow's limit. Give more
    for scans and satellite images."""


@dataclass(frozen=True)
class BareWeights(Settings):
    """Weights that do not say of which model they are."""

    model: str | None = None
    """Model of these weights, where their file does not say it. Checkpoints and tags know
    theirs."""
    num_classes: Count | None = None
    """Number of classes of these weights. Without it: as many as their last layer has."""


@dataclass(frozen=True)
class LossSettings(Settings):
    """Loss."""

    loss: Literal["ce", "bce"] = "ce"
    """Loss: ce is cross entropy, for one label an image; bce is binary cross entropy of each
    class."""
    label_smoothing: Fraction = 0.0
    """Share of the target that is spread evenly over all classes; 0.1 is common."""
    distill_loss: Literal["soft", "js", "dml"] = "soft"
    """What the student learns from --teacher: soft is cross entropy with its probabilities, js is
    PaddleClas' JS divergence (SSLD), dml is js with both models learning."""
    distill_weight: Fraction = 1.0
    """Weight of the teacher in the loss, 0 to 1; the labels have the rest. 1 is PaddleClas'
    recipe."""
    distill_temperature: Annotated[float, Meta(gt=0)] = 1.0
    """Number that divides the logits of both models in --distill-loss soft. Above 1, small
    probabilities count for more."""

    def problems(self) -> Iterator[str]:
        """Yields what cannot be."""
        yield from super().problems()
        if self.distill_loss == "dml" and self.distill_weight == 1:
            yield (
                "--distill-loss dml: both students learn from the labels, too; give"
                " --distill-weight below 1 (0.5 weighs them as PaddleClas does)"
            )
        if self.distill_temperature != 1 and self.distill_loss != "soft":
            yield "--distill-temperature belongs to --distill-loss soft"


@dataclass(frozen=True)
class TestedEngine(Settings):
    """Evaluation."""

    engine: Engine = "auto"
    """With --test-only and an export folder: what runs the model; auto takes the one that was
    fastest at export."""
    tta: Tta = "none"
    """With --test-only: flip runs each image and its mirror image and takes the mean of their
    logits, in twice the time."""
