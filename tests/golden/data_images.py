"""Pictures made by a formula: the same pixels in the golden script and in the tests."""

from collections.abc import Iterator

import numpy as np
from PIL import Image


def make_image(width: int, height: int, seed: int) -> Image.Image:
    """Blocks of noise (edges to resize) over two gradients (which show shifts and flips)."""
    random = np.random.RandomState(seed)
    blocks = random.randint(0, 128, (height // 5 + 1, width // 5 + 1, 3))
    noise = np.kron(blocks, np.ones((5, 5, 1), np.int64))[:height, :width]
    y, x = np.mgrid[:height, :width]
    gradient = np.stack([x * 127 // width, y * 127 // height, (x + y) % 128], axis=-1)
    return Image.fromarray((noise + gradient).astype(np.uint8))


def uniform_stream(seed: int) -> Iterator[float]:
    """Numbers in [0, 1) that both sides use as their random draws."""
    random = np.random.RandomState(seed)
    while True:
        yield random.random_sample()


class StreamDraws:
    """Stands in for np.random.Generator with the draws the golden script gave to torch."""

    def __init__(self, seed: int) -> None:
        self.draws = uniform_stream(seed)

    def random(self) -> float:
        return next(self.draws)

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * next(self.draws)

    def integers(self, low: int, high: int) -> int:
        return low + int(next(self.draws) * (high - low))
