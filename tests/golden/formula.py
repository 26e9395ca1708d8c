"""Weights and inputs both sides of a golden test compute for themselves; numpy only.

numpy's RandomState stream is frozen, so nothing but results has to be stored.
"""

import zlib

import numpy as np

NUM_CLASSES, IMAGE_SIZE, BATCH, STEPS = 10, 64, 8, 3
# Sums of powers of two: a framework that stores them as float32 changes nothing.
LR, MOMENTUM, WEIGHT_DECAY = 2**-4, 0.875, 2**-13


def _random(seed: str) -> np.random.RandomState:
    return np.random.RandomState(zlib.crc32(seed.encode()))


def draws(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Normal numbers that belong to a name, float64."""
    return _random(f"draws of {key}").standard_normal(shape)


def weight(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """A value for the state-dict entry `key`, float32, in Paddle's names and layout.

    Keeps activations near unit size through the whole network and no batch norm trivial.
    """
    random = _random(key)
    scale_of_batch_norm = len(shape) == 1 and key.endswith("weight")
    if scale_of_batch_norm or key.endswith("_variance"):
        values = random.uniform(0.5, 1.5, shape)
    elif len(shape) == 1:  # _mean and every bias
        values = 0.1 * random.standard_normal(shape)
    else:
        fan_in = shape[0] if len(shape) == 2 else int(np.prod(shape[1:]))
        # MobileNetV3's gates shrink what MnasNet's longer chain of shortcuts lets grow.
        gain = 1.4 if key.startswith("layers.") else 2.0
        values = np.sqrt(gain / fan_in) * random.standard_normal(shape)
    return values.astype(np.float32)


def weight_at(position: int, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """A value for the weight, bias, _mean or _variance of a network's layer number `position`.

    Only layers that have values count. A framework that calls its layers otherwise still has
    them in this order.
    """
    return weight(f"layers.{position}.{kind}", shape)


def zoo_images() -> np.ndarray:
    """float32 [2, 3, 64, 75]: a stride meets even and odd sizes, which SAME padding tells apart."""
    return _random("zoo images").standard_normal((2, 3, 64, 75)).astype(np.float32)


def zoo_labels() -> np.ndarray:
    """int64 [2]."""
    return np.array([3, 7])


def images() -> np.ndarray:
    """float32 [BATCH, 3, IMAGE_SIZE, IMAGE_SIZE]."""
    shape = (BATCH, 3, IMAGE_SIZE, IMAGE_SIZE)
    return _random("images").standard_normal(shape).astype(np.float32)


def labels() -> np.ndarray:
    """int64 [BATCH]."""
    return _random("labels").randint(0, NUM_CLASSES, BATCH).astype(np.int64)


def fingerprints(tensors: dict[str, np.ndarray]) -> np.ndarray:
    """Each tensor's norm and its component along a random direction of length 1.

    The component tells apart what a norm cannot: signs, permutations, transposition.

    Returns:
        float64 [tensors, 2] in alphabetical order of the names.
    """
    rows = []
    for key in sorted(tensors):
        values = tensors[key].astype(np.float64).ravel()
        direction = _random(f"direction of {key}").standard_normal(values.size)
        direction /= np.linalg.norm(direction)
        rows.append((np.linalg.norm(values), values @ direction))
    return np.array(rows)
