"""Which pictures int8 is calibrated with, and how they are stored in a bundle."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ppcls_lite.data.dataset import ImageDataset
from ppcls_lite.data.preprocess import Preprocess, load_image
from ppcls_lite.model_info import ModelInfo

SUFFIX = "JPEG"  # the documents'; what the compiler does with others is not known


def choose_pictures(labels: Sequence[int] | np.ndarray, count: int) -> list[int]:
    """Returns positions of pictures, class by class in turn, until there are `count`.

    Args:
        labels: class id of each picture, [N].
        count: how many are wanted; fewer when there are fewer.
    """
    order = np.random.default_rng(0).permutation(len(labels))
    turns: dict[int, int] = {}
    rank = []
    for index in order:
        turns[int(labels[index])] = turns.get(int(labels[index]), -1) + 1
        rank.append((turns[int(labels[index])], int(labels[index]), int(index)))
    return [index for _, _, index in sorted(rank)[:count]]


def write_calibration(
    work: Path, info: ModelInfo, data: ImageDataset, count: int
) -> dict[str, Any]:
    """Writes calib/ and calibration_list.txt.

    The pictures are squares already: the short side resized and the centre cut out, as evaluation
    does it. The compiler's own Resize, which squashes, has nothing left to do to them.
    """
    (work / "calib").mkdir()
    chosen = choose_pictures(data.labels, count)
    side = info.preprocess.resize_size
    square = Preprocess(side, side, info.preprocess.interpolation)
    lines = []
    for number, index in enumerate(chosen):
        file = f"calib/{number:05d}.{SUFFIX}"
        pixels = square.pixels(load_image(data.path(index)))
        Image.fromarray(pixels).save(work / file, format="JPEG", quality=95, subsampling=0)
        lines.append(f"{file} {data.label(index)}\n")
    (work / "calibration_list.txt").write_text("".join(lines), encoding="utf-8")
    present = {data.label(index) for index in chosen}
    missing = [info.class_name(i) for i in range(info.num_classes) if i not in present]
    return {"pictures": len(chosen), "missing_classes": missing}
