"""What both sides of the golden tests of heatmaps look at; numpy and PIL only."""

from pathlib import Path

import numpy as np
from golden import formula
from PIL import Image

# (network, our name of the layer or empty for the default, torch's path of it, class)
CASES = (
    ("mnasnet0_5", "", "layers", 3),
    ("mnasnet0_5", "layers.9", "layers.9", 3),
    ("mobilenet_v3_small", "", "features", 7),
    ("mobilenet_v3_small", "features.8", "features.8", 7),
)
SIDE, BATCH = 160, 2  # a map of 5 x 5 cells from the last convolution
STEP = 5  # every fifth pixel is stored
OCCLUDED = "mobilenet_v3_small"
OCCLUDED_CLASS = 7


def images() -> np.ndarray:
    """float32 [2, 3, 160, 160]: smooth, so that cells differ, with some noise."""
    coarse = formula.draws("explain", (BATCH, 3, 8, 8))
    fine = formula.draws("explain fine", (BATCH, 3, SIDE, SIDE))
    return (np.kron(coarse, np.ones((SIDE // 8, SIDE // 8))) + 0.2 * fine).astype(np.float32)


# (shipped weights, our name of the layer or empty for the default, timm's path of it)
TRAINED = (
    ("tf_mobilenetv3_small_100.imagenet", "", "blocks.5"),
    ("tf_mobilenetv3_small_100.imagenet", "features.8", "blocks.3"),
    ("mnasnet_small.clothing10", "", "bn2"),
)
PHOTOGRAPHS = ("chelsea.jpg", "coffee.jpg")  # of test_images/
TRAINED_SIDE = 224


def photographs() -> np.ndarray:
    """float32 [2, 3, 224, 224]: the middle of each, -1 to 1."""
    folder = Path(__file__).parents[2] / "test_images"
    pixels = []
    for name in PHOTOGRAPHS:
        with Image.open(folder / name) as image:
            left, top = ((side - TRAINED_SIDE) // 2 for side in image.size)
            pixels.append(image.crop((left, top, left + TRAINED_SIDE, top + TRAINED_SIDE)))
    return (np.stack(pixels).transpose(0, 3, 1, 2) / 127.5 - 1).astype(np.float32)
