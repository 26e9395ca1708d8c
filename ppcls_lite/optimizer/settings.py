"""Settings of the optimizer, the learning rate and the moving average of the weights."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from ppcls_lite.config import Count, CountOrZero, Fraction, NotNegative, Settings


@dataclass(frozen=True)
class OptimizerSettings(Settings):
    """Optimizer."""

    opt: Annotated[
        Literal["sgd", "nesterov", "rmsprop", "rmsprop_tf", "adam", "adamw", "lamb"],
        Meta(extra={"also": {"momentum": "sgd"}}),
    ] = "sgd"
    """Optimizer. sgd and nesterov have momentum; rmsprop follows torch's rule, rmsprop_tf
    TensorFlow's."""
    momentum: Fraction = 0.9
    """Share of the step before that sgd, nesterov and both rmsprops add to each step."""
    opt_alpha: Fraction = 0.9
    """Share of the mean squared gradient that rmsprop and rmsprop_tf keep at each step."""
    opt_betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    """Shares of the mean gradient and mean square that adam, adamw and lamb keep at each step."""
    opt_eps: Annotated[float, Meta(gt=0)] | None = None
    """Small number that keeps the optimizers with a mean square from dividing by zero. Without it:
    rmsprop 0.0316, rmsprop_tf 0.001, adam and adamw 1e-8, lamb 1e-6."""
    weight_decay: Annotated[float, Meta(ge=0, extra={"flags": ["--wd"]})] = 1e-4
    """How strongly weights are drawn towards 0: decoupled for adamw, inside the trust ratio for
    lamb, as an L2 penalty for the others."""
    norm_weight_decay: NotNegative | None = None
    """Weight decay of normalisation layers. Without it: --weight-decay."""
    bias_weight_decay: NotNegative | None = None
    """Weight decay of biases. Without it: --weight-decay."""
    pact_lr_factor: NotNegative = 1.0
    """Learning rate of the clipping thresholds that --pact-quant trains, as a factor of --lr."""
    pact_weight_decay: NotNegative = 2e-5
    """Weight decay of the clipping thresholds that --pact-quant trains."""
    head_lr_factor: NotNegative = 1.0
    """Learning rate of the last layer, as a factor of the others'; above 1 for fine-tuning."""
    layer_decay: Annotated[float, Meta(gt=0, le=1)] = 1.0
    """Learning rate of each block as a factor of that of the block above it, from the last layer
    down. The classifier's hidden layers count as one block, the stem as the last."""
    bias_lr_factor: NotNegative = 1.0
    """Learning rate of biases, as a factor of --lr; 2 in ShowLo's recipes."""


@dataclass(frozen=True)
class ScheduleSettings(Settings):
    """Learning rate."""

    epochs: CountOrZero = 120
    """Number of times that the training sees all images; 0 only fits the last layer, with
    --fit-head."""
    lr: NotNegative = 0.1
    """Highest learning rate, for all images of a step. It is scaled only with --lr-scale-batch."""
    lr_scheduler: Literal[
        "step", "multistep", "cosine", "exponential", "polynomial", "constant"
    ] = "step"
    """How the learning rate falls after the warm-up; cosine needs no other flag."""
    lr_step_size: Annotated[float, Meta(gt=0)] = 30.0
    """Epochs after which the step and exponential schedules multiply the rate by --lr-gamma; may be
    a fraction."""
    lr_milestones: tuple[NotNegative, ...] = ()
    """Epochs after which the multistep schedule multiplies the rate by --lr-gamma, with commas
    between them, such as 30,60,90."""
    lr_gamma: NotNegative = 0.1
    """Factor of the learning rate at each step of the step, multistep and exponential schedules."""
    lr_power: NotNegative = 1.0
    """Exponent of the polynomial schedule; 1 is a straight line."""
    lr_min: NotNegative = 0.0
    """Learning rate at the end of the cosine and polynomial schedules."""
    lr_per_epoch: bool = False
    """Change the rate once an epoch, as torchvision and timm do, not at every step."""
    lr_scale_batch: Count | None = None
    """Images per step that --lr is meant for: the rate is multiplied by the images per step,
    divided by this. Without it: --lr is used as it is."""
    lr_warmup_epochs: NotNegative = 0.0
    """Epochs of warm-up at the start, with a lower learning rate; they are part of --epochs."""
    lr_warmup_method: Literal["linear", "constant"] = "linear"
    """Warm-up that rises to the full rate, or stays low and then jumps."""
    lr_warmup_decay: Fraction = 0.01
    """Learning rate at the start of the warm-up, as a factor of the full one."""
    lr_warmup_prefix: bool = True
    """The schedule starts after the warm-up; --no-lr-warmup-prefix: together with it, as in
    timm."""
    lr_noise: tuple[Fraction, Fraction] | None = None
    """Two shares of the run, with a comma between them, such as 0.4,0.9: in the epochs between them
    the rate gets timm's noise. Without it: no noise."""

    def problems(self) -> Iterator[str]:
        """Yields what cannot be."""
        yield from super().problems()
        if self.lr_warmup_epochs >= max(self.epochs, 1):
            yield f"--lr-warmup-epochs {self.lr_warmup_epochs} leaves no epoch at full rate"
        if (self.lr_scheduler == "multistep") != bool(self.lr_milestones):
            yield "--lr-scheduler multistep and --lr-milestones go together"
        if list(self.lr_milestones) != sorted(self.lr_milestones):
            yield f"--lr-milestones {self.lr_milestones}: give them in rising order"


@dataclass(frozen=True)
class EmaSettings(ScheduleSettings):
    """Moving average."""

    model_ema: bool = False
    """Keep a moving average of the weights and of batch norm's statistics; it is what is evaluated
    and saved."""
    model_ema_decay: Fraction = 0.99998
    """Share of the average that each update keeps; the new weights have the rest."""
    model_ema_steps: Count = 32
    """Optimizer steps between two updates of the average."""
    model_ema_rule: Literal["torchvision", "plain"] = "torchvision"
    """torchvision: the decay is adapted to the length of the run, and the average starts afresh
    until the warm-up ends; plain: the decay as given, from the first step."""
