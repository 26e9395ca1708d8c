"""Learning rates as pure functions of the training's progress."""

import bisect
import math

from ppcls_lite.config import OptimizationSettings, TrainConfig


def peak_lr(settings: TrainConfig, effective_batch: int) -> float:
    """Returns the rate at full height: `lr`, scaled by the effective batch where that is asked."""
    base = settings.lr_scale_batch
    return settings.lr * (effective_batch / base if base else 1.0)


def lr_at(epoch: float, epochs: int, settings: OptimizationSettings, peak: float) -> float:
    """Returns the learning rate at a point of the training.

    Args:
        epoch: epochs done so far, with fraction; 0 at the first step.
        epochs: length of the whole training, warm-up included.
        settings: the `lr_*` fields. With `lr_per_epoch` the fraction of `epoch` counts for nothing.
        peak: the rate at full height, see `peak_lr`.

    torchvision's rates need `lr_per_epoch`; timm's need `lr_warmup_prefix=False` besides.
    """
    if settings.lr_per_epoch:
        epoch = math.floor(epoch)
    warmup = settings.lr_warmup_epochs
    if epoch < warmup:
        start = settings.lr_warmup_decay
        risen = epoch / warmup if settings.lr_warmup_method == "linear" else 0.0
        return peak * (start + (1 - start) * risen)
    before = warmup if settings.lr_warmup_prefix else 0.0
    return _after_warmup(epoch - before, epochs - before, settings, peak)


def _after_warmup(
    epoch: float, epochs: float, settings: OptimizationSettings, peak: float
) -> float:
    gamma, low = settings.lr_gamma, settings.lr_min
    match settings.lr_scheduler:
        case "step":
            return peak * gamma ** (epoch // settings.lr_step_size)
        case "multistep":
            return peak * gamma ** bisect.bisect_right(settings.lr_milestones, epoch)
        case "exponential":
            return peak * gamma ** (epoch / settings.lr_step_size)
        case "cosine":
            return low + (peak - low) * 0.5 * (1 + math.cos(math.pi * epoch / epochs))
        case "polynomial":
            return low + (peak - low) * (1 - epoch / epochs) ** settings.lr_power
        case _:
            return peak
