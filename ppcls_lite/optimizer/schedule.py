"""Learning rates as pure functions of the training's progress."""

import math

from ppcls_lite.config import OptimizationSettings


def lr_at(epoch: float, epochs: int, settings: OptimizationSettings, base_lr: float) -> float:
    """Returns the learning rate at a point of the training.

    Args:
        epoch: epochs done so far, with fraction; 0 at the first step.
        epochs: length of the whole training, warm-up included.
        settings: `lr_scheduler`, `lr_step_size`, `lr_gamma`, `lr_warmup_epochs`, `lr_warmup_decay`.
        base_lr: the rate at full height.

    The step schedule's boundaries count from the first epoch, so that a warm-up does not move them
    (document 002: 30, 60, 90 of 120 epochs).
    Differs from torchvision: the warm-up rises at every step, not once an epoch.
    """
    warmup = settings.lr_warmup_epochs
    if epoch < warmup:
        start = settings.lr_warmup_decay
        return base_lr * (start + (1 - start) * epoch / warmup)
    if settings.lr_scheduler == "step":
        return base_lr * settings.lr_gamma ** (int(epoch) // settings.lr_step_size)
    if settings.lr_scheduler == "cosine":
        progress = (epoch - warmup) / (epochs - warmup)
        return base_lr * 0.5 * (1 + math.cos(math.pi * progress))
    return base_lr
