"""Pairs of pictures that show one photograph: recompressed, resized, mirrored or cropped."""

import functools
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from PIL import Image

from ppcls_lite.data.decode import load_image
from ppcls_lite.data.packed import Source, read_source
from ppcls_lite.data.suspects import BLANK, SIDE, Look

# Correlation of two small pictures from which on they are called one photograph. On clothing10's
# 3,409 pictures the copy that is there has 1.000 and the next pair 0.984.
SAME = 0.99
ROWS = 1024  # pictures compared with all others at once: two arrays of 1024 x N float32
# Cosine of two pictures' features from which on they are laid upon each other. Of 200 copies of
# clothing10's pictures the least had 0.903; of its 5.8 million other pairs 53 have more than 0.85.
ALIKE = 0.85
MOST_ALIKE = 5000  # pairs laid upon each other, those of the largest cosines: some 6 ms each
MOST_CUT = 0.05  # share of a side that a crop may have cut off, at each end of it
NEARLY = 0.95  # correlation below which a finer search for the cut is in vain
Pair = tuple[int, int, float]  # the later picture, the earlier one, how alike: at most 1


def near_copies(looks: Sequence[Look | None]) -> Iterator[Pair]:
    """Yields pairs of pictures, the later one first, that show one photograph, and how alike.

    Two small pictures are compared by the correlation of their pixels, as they are and mirrored: it
    survives compression, other sizes and other brightness. Each is also compared without its
    margins, for crops around the middle; other crops are `cropped_copies`. Pictures of one even
    colour correlate with nothing and are left out.

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


def cropped_copies(sources: Sequence[Source], features: np.ndarray) -> Iterator[Pair]:
    """Yields pairs of which one is a crop of the other, at any place, as `near_copies` does.

    Pictures whose features are alike are laid upon each other, up to MOST_CUT of each side cut off
    of either, as they are and mirrored.

    Args:
        sources: of N pictures that can be read.
        features: of a network, float32 [N, D].
    """
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    found: list[Pair] = []
    for start in range(0, len(unit), ROWS):
        cosines = unit[start : start + ROWS] @ unit[: start + ROWS].T  # [ROWS, before or in it]
        for row, column in zip(*np.nonzero(cosines >= ALIKE), strict=True):
            if column < start + row:
                found.append((start + int(row), int(column), float(cosines[row, column])))
    shrunk = functools.lru_cache(maxsize=ROWS)(lambda i: _shrunk(sources[i]))
    for later, earlier, _ in sorted(found, key=lambda pair: -pair[2])[:MOST_ALIKE]:
        alike = max(
            _crop_in(shrunk(later), shrunk(earlier)), _crop_in(shrunk(earlier), shrunk(later))
        )
        if alike >= SAME:
            yield later, earlier, alike


def _shrunk(source: Source) -> Image.Image:
    """A picture that is large enough to cut from, whatever its shape was."""
    side = 10 * SIDE
    return load_image(read_source(source)).resize((side, side), Image.Resampling.BOX)


def _crop_in(crop: Image.Image, whole: Image.Image) -> float:
    """The largest correlation of a picture with what is left of another whose sides are cut."""
    small = np.asarray(crop.resize((SIDE, SIDE), Image.Resampling.BOX))
    wanted = _unit(np.stack([small, small[:, ::-1]]))
    cuts, step, best = np.full(4, MOST_CUT / 2), MOST_CUT / 2, 1.0
    for _ in range(3):  # each time at half the distance, around the best
        tried = np.clip(cuts + step * np.array([*product((-1, 0, 1), repeat=4)]), 0, MOST_CUT)
        correlations = (_unit(_cut(whole, tried)) @ wanted.T).max(axis=1)  # [81]
        cuts, best = tried[correlations.argmax()], float(correlations.max())
        if best < NEARLY:
            break
        step /= 2
    return best


def _cut(image: Image.Image, cuts: np.ndarray) -> np.ndarray:
    """Shares cut off left, above, right and below, [n, 4] -> uint8 [n, SIDE, SIDE, 3]."""
    width, height = image.size
    boxes = cuts * [1, 1, -1, -1] * [width, height, width, height] + [0, 0, width, height]
    box = Image.Resampling.BOX
    return np.stack([np.asarray(image.resize((SIDE, SIDE), box, tuple(x))) for x in boxes.tolist()])


def _unit(small: np.ndarray) -> np.ndarray:
    """uint8 pictures [N, H, W, 3] -> rows [N, H * W * 3] of mean 0 and length 1."""
    rows = small.reshape(len(small), -1).astype(np.float32)
    rows = rows - rows.mean(axis=1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
