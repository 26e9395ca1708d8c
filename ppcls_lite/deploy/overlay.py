"""A picture with the bars of its most probable classes beneath it."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ppcls_lite.deploy.ranking import Prediction
from ppcls_lite.files import whole

MIN_SIDE, MAX_SIDE, MIN_WIDTH = 360, 960, 480  # picture's long side; whole result; in pixels
BACKGROUND, INK, MUTED, TRACK = (246, 247, 249), (32, 36, 44), (110, 118, 130), (232, 235, 240)
FIRST, OTHERS = (30, 110, 210), (150, 180, 220)  # colours of the bars

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def save_overlay(image: Image.Image, ranking: Sequence[Prediction], path: Path) -> None:
    """Writes a JPEG of the picture with one row per class: name, bar, percent.

    The folder is created when missing; an older file of the name is replaced.
    """
    long_side = max(image.size)
    scale = min(max(long_side, MIN_SIDE), MAX_SIDE) / long_side
    shown = image.resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))),
        Image.Resampling.LANCZOS,
    )
    width, height = max(shown.width, MIN_WIDTH), shown.height
    row = max(26, width // 22)
    margin = row // 2
    canvas = Image.new("RGB", (width, height + len(ranking) * row + 2 * margin), BACKGROUND)
    canvas.paste(shown, ((width - shown.width) // 2, 0))
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=round(row * 0.58))
    percent_width = round(draw.textlength("100.0 %", font)) + margin
    bar_left = round(width * 0.46)
    bar_right = width - margin - percent_width
    for i, prediction in enumerate(ranking):
        top = height + margin + i * row
        middle = top + row // 2
        ink = INK if i == 0 else MUTED
        label = _shortened(draw, _label(prediction, font), font, bar_left - 2 * margin)
        draw.text((margin, middle), label, ink, font, anchor="lm")
        box = (bar_left, top + row // 4, bar_right, top + row - row // 4)
        draw.rounded_rectangle(box, row // 8, TRACK)
        filled = round((bar_right - bar_left) * prediction.prob)
        if filled > 0:
            colour = FIRST if i == 0 else OTHERS
            draw.rounded_rectangle((bar_left, box[1], bar_left + filled, box[3]), row // 8, colour)
        percent = f"{100 * prediction.prob:.1f} %"
        draw.text((width - margin, middle), percent, ink, font, anchor="rm")
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as part:
        canvas.save(part, quality=92)


def _label(prediction: Prediction, font: Font) -> str:
    number = str(prediction.class_id)
    if prediction.name == number or not _can_draw(prediction.name, font):
        return f"class {number}"
    return f"{number}  {prediction.name}"


def _can_draw(text: str, font: Font) -> bool:
    """Tells whether a font has all letters of a text; it draws the same box for any other."""
    missing = font.getmask("\U0010ffff")  # no letter, so in no font
    masks = [font.getmask(letter) for letter in set(text) if not letter.isspace()]
    return all(mask.size != missing.size or bytes(mask) != bytes(missing) for mask in masks)


def _shortened(
    draw: ImageDraw.ImageDraw,
    text: str,
    font: Font,
    width: int,
) -> str:
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(text + "…", font) > width:
        text = text[:-1]
    return text.rstrip() + "…"
