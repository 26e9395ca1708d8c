"""Pictures and batches of the fifty training steps, the same on both sides."""

from pathlib import Path

import numpy as np
from golden import formula
from PIL import Image

STEPS, NUM_CLASSES, MOMENTUM, WEIGHT_DECAY = 50, 10, 0.9, 2**-15
RATE = {"mobilenet_v3_small": 2**-7, "mnasnet1_0": 2**-7}
SIZE, BATCH = 96, 8
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def rate(model: str, step: int) -> float:
    """A linear warm-up of ten steps, then a cosine to nearly 0."""
    if step < 10:
        return RATE[model] * (step + 1) / 10
    return RATE[model] * 0.5 * (1 + np.cos(np.pi * (step - 10) / (STEPS - 10)))


def batch(photos: Path | None, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Images float32 [BATCH, 3, SIZE, SIZE], normalised, and labels int64 [BATCH].

    Args:
        photos: clothing10's folder of training pictures, one folder a class; without it the
            pictures are noise around a colour for each class.
    """
    numbers = range(step * BATCH, (step + 1) * BATCH)
    labels = np.array([n % NUM_CLASSES for n in numbers])
    pixels = [picture(photos, n % NUM_CLASSES, n // NUM_CLASSES) for n in numbers]
    images = (np.stack(pixels) / 255 - MEAN) / STD  # [N, H, W, 3]
    return images.transpose(0, 3, 1, 2).astype(np.float32), labels


def picture(photos: Path | None, label: int, number: int) -> np.ndarray:
    """uint8 [SIZE, SIZE, 3]."""
    if photos is None:
        draws = np.random.RandomState(1000 * label + number)
        colour = np.random.RandomState(label).randint(0, 156, 3)
        return (draws.randint(0, 100, (SIZE, SIZE, 3)) + colour).astype(np.uint8)
    folder = sorted(p for p in photos.iterdir() if p.is_dir())[label]
    file = sorted(p for p in folder.iterdir() if p.is_file())[number]
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def start(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The initial value of a state-dict entry in Paddle's layout: as torchvision starts it.

    He's normal numbers by fan-out for convolutions, a deviation of 0.01 for linear layers.
    """
    if len(shape) == 1:
        return np.full(shape, float(key.endswith(("_variance", "weight"))), np.float32)
    fan_out = shape[0] * int(np.prod(shape[2:])) if len(shape) == 4 else 0
    scale = np.sqrt(2 / fan_out) if fan_out else 0.01
    return (scale * formula.draws(key, shape)).astype(np.float32)
