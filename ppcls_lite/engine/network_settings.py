"""Settings of the network that is trained, and of a step of its training."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from ppcls_lite.config import Count, CountOrZero, Fraction, NotNegative, Settings


@dataclass(frozen=True)
class ModelSettings(Settings):
    """Model."""

    width: Annotated[float, Meta(gt=0, le=8)] | None = None
    """Width multiplier of the model: 0.5 has half the channels. Without it: the model's own."""
    dropout: Fraction | None = None
    """Probability of dropout before the last layer. Without it: the model's own."""
    small_input: bool = False
    """For images of about 32 pixels: the stem and the first strided block keep the resolution."""
    same_padding: bool = False
    """Pad as TensorFlow does, more at the bottom and right; weights of a TFLite file ask for it."""
    expanded: tuple[Annotated[int, Meta(ge=2)], ...] = ()
    """Expanded channels of each block, with commas between them, as pruning leaves them. Without
    it: the model's own."""
    drop_path: Fraction = 0.0
    """Probability that the last block is skipped in training (stochastic depth); it grows from 0 at
    the first block."""
    zero_gamma: bool = False
    """Start the last batch norm of blocks with a shortcut at gain 0, so that they do nothing."""


@dataclass(frozen=True)
class SlimSettings(Settings):
    """Smaller models."""

    pact_quant: bool = False
    """Train with int8 in mind (PACT): the network computes as in 8 bits, and its export has int8
    weights."""
    quant_skip: tuple[Literal["se", "first", "last"], ...] = ("se",)
    """Layers that stay in float with --pact-quant: se (squeeze-excite), first, last; an empty text
    is none."""
    fpgm_ratio: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Share of the expanded channels of each block that is pruned before training (FPGM); 0 prunes
    none."""


@dataclass(frozen=True)
class StepSettings(Settings):
    """Step."""

    gradient_accumulation_steps: Count = 1
    """Batches whose gradients are averaged for one step, for a large batch in little memory."""
    clip_grad_norm: NotNegative = 0.0
    """Largest norm of the gradient; a larger one is scaled down. 0 does not clip; 1 helps when the
    loss diverges."""
    amp_level: Literal["O0", "O1", "O2"] = "O0"
    """Mixed precision. GPU: O1 per operation, O2 float16 weights; CPU with AVX512-BF16: bf16."""
    sync_bn: bool = False
    """Compute batch-norm statistics over all GPUs; a CPU has no kernel for it, and the training
    stops."""
    dist_bn: Literal["broadcast", "reduce"] = "broadcast"
    """Running batch-norm statistics after an epoch on several devices: the first's, or the mean."""
    freeze: Annotated[str, Meta(pattern=r"^(none|body|stages:[1-9]\d*)$")] = "none"
    """Parts that do not learn: none; body: all but the last layer; stages:N: up to the Nth halving
    of the resolution. Their batch norm keeps its statistics."""
    bn_momentum: Fraction | None = None
    """Share of its statistics that batch norm keeps at each step. Without it: the model's own."""
    bn_estimate: CountOrZero = 0
    """Evaluate again with batch norm of this many training images, and keep the better; 0: not."""
    norm_eval: bool = False
    """Batch norm computes with its running statistics and keeps them; gains and biases learn."""
