"""Writes resize_opencv.npz: pictures by formula, resized by OpenCV's INTER_LINEAR on 8 bits.

    pip install opencv-python-headless numpy && python tests/golden/make_resize_golden.py

Made with opencv-python-headless 4 (`opencv` in the file is the exact version).
"""

from pathlib import Path

import numpy as np

# Height and width, before and after: larger, smaller, squashed, odd sizes, one pixel.
SIZES = [
    ((40, 44), (36, 39)), ((61, 47), (32, 32)), ((17, 23), (48, 31)), ((33, 5), (9, 9)),
    ((1, 7), (4, 4)), ((64, 64), (64, 64)), ((120, 90), (20, 27)),
]  # fmt: skip


def noise(height, width):
    """uint8 [H, W, 3]; the tests make the same."""
    return np.random.RandomState(height * 1000 + width).randint(
        0, 256, (height, width, 3), np.uint8
    )


if __name__ == "__main__":
    import cv2

    arrays = {"opencv": np.array(cv2.__version__)}
    for before, after in SIZES:
        key = "{}x{}_{}x{}".format(*before, *after)
        arrays[key] = cv2.resize(noise(*before), after[::-1], interpolation=cv2.INTER_LINEAR)
    np.savez_compressed(Path(__file__).parent / "resize_opencv.npz", **arrays)
