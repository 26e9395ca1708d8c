"""What both sides of the golden test of heatmaps look at; numpy only."""

import numpy as np
from golden import formula

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
