"""Pictures of a data set that a person should look at: copies, also near ones, and odd pictures."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from ppcls_lite.data.decode import ImageError, load_image
from ppcls_lite.data.packed import Source, read_source
from ppcls_lite.data.preprocess import Preprocess

SIDE = 16  # of the small picture that stands for a whole one; fine enough for clothes on white
# Correlation of two small pictures from which on they are called one photograph. On clothing10's
# 3,409 pictures the copy that is there has 1.000 and the next pair 0.984.
SAME = 0.99
MARGINS = (0.0, 0.025, 0.05)  # shares of each side that a crop may have cut off
TINY = 32  # pixels of the short side
EXTREME = 4.0  # long side to short side
DARK = 0.12  # mean luminance, of 1
BLANK = 0.01  # standard deviation of luminance, of 1
ROWS = 1024  # pictures compared with all others at once: two arrays of 1024 x N float32


class Look(NamedTuple):
    """What one decoded picture is like.

    Attributes:
        small: uint8 [len(MARGINS), SIDE, SIDE, 3], the picture without each margin.
        width, height: pixels, upright.
        luminance, spread: mean and standard deviation of the luminance, 0 to 1.
        views: uint8 [V, H, W, 3], as a network is to see it; None where none asked.
    """

    small: np.ndarray
    width: int
    height: int
    luminance: float
    spread: float
    views: np.ndarray | None = None


class Finding(NamedTuple):
    """One line of findings.csv; `file` and `other` are places in the list of pictures.

    Attributes:
        other: the picture that `file` is compared with; None for an odd picture.
        score: 0 to 1, the larger the surer within a kind.
    """

    kind: str
    file: int
    other: int | None
    score: float
    suggestion: str


def look(source: Source, specs: Sequence[Preprocess] = ()) -> Look | None:
    """Decodes one picture; None when it cannot be read, which `check` reports.

    Args:
        source: the picture.
        specs: how networks see it.
    """
    try:
        image = load_image(read_source(source))
    except ImageError:
        return None
    width, height = image.size
    boxes = [(m * width, m * height, (1 - m) * width, (1 - m) * height) for m in MARGINS]
    views = np.stack([spec.pixels(image) for spec in specs]) if specs else None
    small = [image.resize((SIDE, SIDE), Image.Resampling.BOX, box) for box in boxes]
    # Statistics at 128 pixels: noise of single pixels is no content.
    image.thumbnail((128, 128), Image.Resampling.BOX)
    gray = np.asarray(image.convert("L"), np.float32) / 255
    smalls = np.stack([np.asarray(x) for x in small])
    return Look(smalls, width, height, float(gray.mean()), float(gray.std()), views)


def near_copies(looks: Sequence[Look | None]) -> Iterator[tuple[int, int, float]]:
    """Yields pairs of pictures, the later one first, that show one photograph, and how alike.

    Two small pictures are compared by the correlation of their pixels, as they are and mirrored: it
    survives compression, other sizes and other brightness. Each is also compared without its
    margins, for crops around the middle; other crops are not found. Pictures of one even colour
    correlate with nothing and are left out.

    Args:
        looks: of all pictures; None for those that cannot be read.
    """
    places = [i for i, x in enumerate(looks) if x is not None and x.spread >= BLANK]
    if not places:
        return
    # [len(MARGINS), N, SIDE, SIDE, 3]
    small = np.stack([looks[i].small for i in places], 1)  # type: ignore[union-attr]
    whole, mirrored = _unit(small[0]), _unit(small[0][:, :, ::-1])
    inner = [_unit(x) for x in small[1:]]
    for start in range(0, len(places), ROWS):
        part = slice(start, start + ROWS)
        alike = np.maximum(whole[part] @ whole.T, mirrored[part] @ whole.T)  # [ROWS, N]
        for x in inner:
            for rows in (whole[part], mirrored[part]):
                np.maximum(alike, rows @ x.T, out=alike)
            np.maximum(alike, x[part] @ whole.T, out=alike)
            np.maximum(alike, x[part] @ mirrored.T, out=alike)
        for row, column in zip(*np.nonzero(alike >= SAME), strict=True):
            if column < start + row:
                yield places[start + row], places[column], float(alike[row, column])


def _unit(small: np.ndarray) -> np.ndarray:
    """uint8 pictures [N, H, W, 3] -> rows [N, H * W * 3] of mean 0 and length 1."""
    rows = small.reshape(len(small), -1).astype(np.float32)
    rows = rows - rows.mean(axis=1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


def odd(looks: Sequence[Look | None]) -> Iterator[Finding]:
    """Yields what is odd about single pictures: blank, dark, tiny, of an extreme shape."""
    for i, x in enumerate(looks):
        if x is None:
            continue
        short, long = sorted((x.width, x.height))
        if x.spread < BLANK:
            yield Finding("blank", i, None, 1 - x.spread / BLANK, "look: one even colour")
        elif x.luminance < DARK:
            yield Finding("dark", i, None, 1 - x.luminance / DARK, "look: nearly black")
        if short < TINY:
            yield Finding("tiny", i, None, 1 - short / TINY, f"look: {x.width} x {x.height} pixels")
        if long > EXTREME * short:
            score = 1 - EXTREME * short / long
            yield Finding("shape", i, None, score, f"look: {x.width} x {x.height} pixels")
