"""Settings of the commands on weights."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from ppcls_lite.config import BareWeights, NotNegative, Settings


@dataclass(frozen=True)
class ConvertConfig(Settings):
    """Convert weights between frameworks: into ours with a description beside them, or back.

    python tools/convert_weights.py --weights model.pth --model mobilenet_v3_small --out w.pdparams
    python tools/convert_weights.py --weights output/best.pdparams --model mobilenet_v3_small \\
        --to torchvision --out back.safetensors
    """

    weights: Annotated[str, Meta(extra={"positional": True})] = ""
    """Weights to read: a .pdparams, .pth, .safetensors, MindSpore .ckpt, .npz or .tflite file, or a
    tag, the name of published weights."""
    out: str = ""
    """File to write; its suffix is the format: .pdparams, .safetensors or .npz."""
    model: str | None = None
    """Model of these weights, where their file does not say it. Checkpoints and tags know
    theirs."""
    to: Literal["ours", "torchvision", "timm", "ppcls", "paddle_vision"] = "ours"
    """Names and shapes to write."""
    logit_adjustment: NotNegative = 0.0
    """Subtract this many times the logarithm of each class's share of the training images of
    --data-path from the last layer's bias. Predictions are then for classes of equal size."""
    data_path: str | None = None
    """Data that the weights were trained on, for --logit-adjustment, --calibrate and --unknown."""
    calibrate: bool = False
    """Divide the last layer by the temperature that makes the probabilities of the validation
    images of --data-path fit best. The classes stay; predictions become as sure as they are
    right."""
    unknown: bool = False
    """Find limits for each class in --data-path: predictions say unknown of an image that reaches
    none, and exports, servers and the C++ program after them."""
    keep_known: Annotated[float, Meta(gt=0, le=1)] = 0.95
    """Share of the validation images that --unknown leaves known."""

    def problems(self) -> Iterator[str]:
        """Yields what cannot be."""
        if self.data_path and not (self.logit_adjustment or self.calibrate or self.unknown):
            yield "--data-path is for --logit-adjustment, --calibrate and --unknown; give one"
        if self.changed("keep_known") and not self.unknown:
            yield "--keep-known has no effect without --unknown"
        yield from super().problems()


@dataclass(frozen=True)
class AverageConfig(BareWeights):
    """Average the weights of several checkpoints of a run into one model.

    python tools/average_checkpoints.py 'output/model_9?.pdparams' --out output/averaged.pdparams
    """

    checkpoints: Annotated[tuple[str, ...], Meta(extra={"positional": True})] = ()
    """Checkpoints of one run, with commas between them; or a pattern in quotes, like
    'output/model_*.pdparams'."""
    out: str = ""
    """.pdparams file to write, with a .json beside it."""


@dataclass(frozen=True)
class ListModelsConfig(Settings):
    """List the models with their sizes and published accuracy."""

    pattern: str = "*"
    """Only models whose name fits this pattern, like 'mnas*'."""
    source: str | None = None
    """Only models of this source: torchvision, ppcls, timm, mindcv or showlo."""
    explain: str | None = None
    """Print the block table of this model, as the papers print it."""
    json: bool = False
    """Print one JSON list instead of the table."""
