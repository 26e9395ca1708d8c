"""Learning rates as pure functions of the training's progress."""

import bisect
import math

import numpy as np

from ppcls_lite.optimizer.settings import ScheduleSettings


def peak_lr(settings: ScheduleSettings, effective_batch: int) -> float:
    """Returns the rate at full height: `lr`, scaled by the effective batch where that is asked."""
    base = settings.lr_scale_batch
    return settings.lr * (effective_batch / base if base else 1.0)


def lr_at(epoch: float, epochs: int, settings: ScheduleSettings, peak: float) -> float:
    """Returns the learning rate at a point of the training.

    Args:
        epoch: epochs done so far, with fraction; 0 at the first step.
        epochs: length of the whole training, warm-up included.
        settings: the `lr_*` fields. With `lr_per_epoch` the fraction of `epoch` counts for nothing.
        peak: the rate at full height, see `peak_lr`.

    torchvision's rates need `lr_per_epoch`; timm's need `lr_warmup_prefix=False` besides.
    """
    noise, epochs = 0.0, max(epochs, 1)  # a dry run steps even where only a last layer is fitted
    if settings.lr_noise:
        start, end = (share * epochs for share in settings.lr_noise)
        if start <= math.floor(epoch) < end:
            noise = timm_noise(math.floor(epoch))
    if settings.lr_per_epoch:
        epoch = math.floor(epoch)
    return _without_noise(epoch, epochs, settings, peak) * (1 + noise)


def timm_noise(epoch: int) -> float:
    """Returns by which share timm raises or lowers the rate of an epoch: in (-0.67, 0.67).

    timm takes the first of torch's normal numbers from seed 42 + epoch that is small enough. They
    are made here as torch makes them, 53 bits each of the Mersenne Twister by Box and Muller, so
    that a recipe runs at its own rates.
    """
    generator = np.random.RandomState(42 + epoch)
    while True:
        words = generator.randint(0, 2**32, 4, dtype=np.uint32).astype(np.uint64)
        bits = (words[0::2] << np.uint64(32) | words[1::2]) & np.uint64(2**53 - 1)
        angle, height = bits * 2.0**-53
        radius = math.sqrt(-2 * math.log1p(-height))
        for wave in (math.cos, math.sin):
            noise = float(np.float32(radius * wave(2 * math.pi * angle)))
            if abs(noise) < 0.67:
                return noise


def _without_noise(epoch: float, epochs: float, settings: ScheduleSettings, peak: float) -> float:
    warmup = settings.lr_warmup_epochs
    if epoch < warmup:
        start = settings.lr_warmup_decay
        risen = epoch / warmup if settings.lr_warmup_method == "linear" else 0.0
        return peak * (start + (1 - start) * risen)
    before = warmup if settings.lr_warmup_prefix else 0.0
    return _after_warmup(epoch - before, epochs - before, settings, peak)


def _after_warmup(epoch: float, epochs: float, settings: ScheduleSettings, peak: float) -> float:
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
