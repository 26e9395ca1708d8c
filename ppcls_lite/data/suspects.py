"""What single pictures of a data set are like, and which are odd; copies are `copies`."""

from collections import Counter
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import NamedTuple

import numpy as np
from PIL import Image

from ppcls_lite.data.decode import ImageError, load_image
from ppcls_lite.data.packed import Source, read_source
from ppcls_lite.data.preprocess import Preprocess

SIDE = 16  # of the small picture that stands for a whole one; fine enough for clothes on white
MARGINS = (0.0, 0.025, 0.05)  # shares of each side that a crop may have cut off
TINY = 32  # pixels of the short side
EXTREME = 4.0  # long side to short side
DARK = 0.12  # mean luminance, of 1
BLANK = 0.01  # standard deviation of luminance, of 1
SHARP_SIDE = 256  # pixels of the short side where sharpness is looked at: what networks see
# `blur` from which on a picture is called blurred: 1, 6 and 0 of the 3,409, 2,936 and 200 pictures
# of clothing10, grocery81 and imagenet200, each of them moved or out of focus when looked at.
BLURRED = 0.55
BOX = 11  # pixels that `blur` takes the mean of, as Crete et al. do
RARE = 0.1  # grey pictures are odd where no larger share of all is grey
MODES = {
    "CMYK": "CMYK, colours of print: they may come out otherwise",
    "A": "transparent parts, whose hidden colours are seen",
    "16": "16 bits a colour, of which 8 are kept",
    "L": "grey, and nearly all others have colours",
}


class Look(NamedTuple):
    """What one decoded picture is like.

    Attributes:
        small: uint8 [len(MARGINS), SIDE, SIDE, 3], the picture without each margin.
        width, height: pixels, upright.
        luminance, spread: mean and standard deviation of the luminance, 0 to 1.
        blur: `blur` of the luminance.
        mode: `picture_mode`.
        views: uint8 [V, H, W, 3], as a network is to see it; None where none asked.
    """

    small: np.ndarray
    width: int
    height: int
    luminance: float
    spread: float
    blur: float = 0.0
    mode: str = "RGB"
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
        data = read_source(source)
        image, mode = load_image(data), picture_mode(data)
    except ImageError:
        return None
    width, height = image.size
    boxes = [(m * width, m * height, (1 - m) * width, (1 - m) * height) for m in MARGINS]
    views = np.stack([spec.pixels(image) for spec in specs]) if specs else None
    small = [image.resize((SIDE, SIDE), Image.Resampling.BOX, box) for box in boxes]
    shrunk = min(1.0, SHARP_SIDE / min(width, height))
    side = [max(1, round(shrunk * x)) for x in image.size]
    grey = image.convert("L").resize((side[0], side[1]), Image.Resampling.BOX)
    blurred = blur(np.asarray(grey, np.float32) / 255)
    # Statistics at 128 pixels: noise of single pixels is no content.
    grey.thumbnail((128, 128), Image.Resampling.BOX)
    light = np.asarray(grey, np.float32) / 255
    smalls = np.stack([np.asarray(x) for x in small])
    mean, deviation = float(light.mean()), float(light.std())
    return Look(smalls, width, height, mean, deviation, blurred, mode, views)


def picture_mode(data: bytes) -> str:
    """Returns Pillow's name for how a picture file that can be read keeps colours: RGB, CMYK, L.

    Where a palette or grey has transparent parts it ends in A, as RGBA does.
    """
    with Image.open(BytesIO(data)) as image:
        see_through = "transparency" in image.info and not image.mode.endswith("A")
        return image.mode + "A" * see_through


def blur(grey: np.ndarray) -> float:
    """Says how blurred a picture is, 0 to 1, by Crete et al. 2007 ("The blur effect").

    Blurred once more, a sharp picture loses most of its steps between neighbours, a blurred one
    few. The direction that is blurred more counts: a hand that moves blurs one.

    Args:
        grey: float32 [H, W], 0 to 1.

    Returns:
        The share of the steps that stays; 0 where a side has too few pixels to tell.
    """
    worst = 0.0
    for axis in (0, 1):
        lines = np.moveaxis(grey, axis, 0)  # [n, m]
        if len(lines) <= BOX + 1:
            continue
        # From one mean to the next, one value of BOX comes and one goes.
        softer = np.abs(lines[BOX:] - lines[:-BOX]) / BOX  # [n - BOX, m]
        steps = np.abs(np.diff(lines, axis=0))[BOX // 2 :][: len(softer)]
        lost = np.maximum(steps - softer, 0).sum()
        worst = max(worst, float(1 - lost / max(steps.sum(), 1e-9)) if steps.sum() > 0 else 0.0)
    return worst


def odd(looks: Sequence[Look | None]) -> Iterator[Finding]:
    """Yields what is odd about single pictures: blank, dark, blurred, tiny, of an extreme shape, or
    with colours kept in another way."""
    grey = sum(_mode(x.mode) == "L" for x in looks if x is not None) / max(len(looks), 1)
    modes = Counter(x.mode for x in looks if x is not None)
    for i, x in enumerate(looks):
        if x is None:
            continue
        short, long = sorted((x.width, x.height))
        if x.spread < BLANK:
            yield Finding("blank", i, None, 1 - x.spread / BLANK, "look: one even colour")
        elif x.luminance < DARK:
            yield Finding("dark", i, None, 1 - x.luminance / DARK, "look: nearly black")
        elif x.blur >= BLURRED:
            yield Finding("blurred", i, None, x.blur, "look: out of focus, or moved")
        kind = _mode(x.mode)
        if kind and (kind != "L" or grey <= RARE):
            share = modes[x.mode] / len(looks)
            yield Finding("colour", i, None, 1 - share, f"look: {MODES[kind]}")
        if short < TINY:
            yield Finding("tiny", i, None, 1 - short / TINY, f"look: {x.width} x {x.height} pixels")
        if long > EXTREME * short:
            score = 1 - EXTREME * short / long
            yield Finding("shape", i, None, score, f"look: {x.width} x {x.height} pixels")


def _mode(mode: str) -> str:
    """The entry of MODES that Pillow's name belongs to; "" for plain colours."""
    if mode == "CMYK":
        return mode
    if mode.endswith("A") or mode == "La":
        return "A"
    if mode.startswith("I") or mode == "F":
        return "16"
    return "L" if mode in ("L", "1") else ""
