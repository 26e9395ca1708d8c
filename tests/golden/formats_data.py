"""The tensors in the golden weights files, as numpy arrays; numpy only."""

import numpy as np


def tensors() -> dict[str, np.ndarray]:
    """Name -> values. `bfloat16` is what has to come back: every value of it is one exactly."""
    grid = np.arange(12, dtype=np.float32).reshape(3, 4) / 8 - 0.5
    return {
        "conv.weight": grid,
        "conv.transposed": grid.T,  # written as a view that is not contiguous
        "conv.row": grid[1],  # written as a view of the same storage
        "bn.bfloat16": np.float32([1, -2.5, 0.333984375, 2.0**-130, -(2.0**127)]),
        "bn.half": np.float16([[0.1, -65504]]),
        "bn.double": np.float64([1 / 3]),
        "bn.num_batches_tracked": np.int64(2**40 + 1),
        "int32": np.int32([-7, 2**30]),
        "int16": np.int16([-300]),
        "int8": np.int8([-1, 2]),
        "uint8": np.uint8([[255], [0]]),
        "bool": np.array([True, False, True]),
        "empty": np.zeros((0, 3), np.float32),
    }
