#!/usr/bin/env bash
# Question: paddle.vision's affine turns a picture by 90 degrees, or halves it, about its centre. A Pillow image and a NumPy array:
#           does the lit block end in the same place?
# Guess:    yes, give or take a pixel: the libraries may disagree on where the centre is.
# Seen:     for an array the shift that keeps the centre in place is overwritten by the translation asked for, so it is turned and
#           scaled about its upper left corner: turned by 90 degrees the whole picture is black. rotate() is right.
# Matters:  RandomAffine on pictures read by OpenCV pushes what they show out of the frame, and the label stays. Training runs, only
#           worse, and a recipe's numbers cannot be reproduced.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  paddlepaddle==3.3.1 numpy==2.3.5 pillow==13.0.0 opencv-python-headless==5.0.0.93 setuptools==84.2.1
cat > "$work/expected" <<'EXPECTED'
paddlepaddle 3.3.1 pillow 13.0.0 opencv-python-headless 5.0.0.93
as it is       image: row 8 column 20, 64 pixels; array: row 8 column 20, 64 pixels
affine, shift  image: row 12 column 28, 64 pixels; array: row 12 column 28, 64 pixels
affine, 90     image: row 20 column 32, 64 pixels; array: nothing is lit
affine, x 0.5  image: row 14 column 20, 16 pixels; array: row 4 column 10, 16 pixels
rotate, 90     image: row 20 column 8, 64 pixels; array: row 20 column 8, 64 pixels
EXPECTED
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import numpy as np
from paddle.vision.transforms import functional
from PIL import Image

print(*(f"{p} {version(p)}" for p in ("paddlepaddle", "pillow", "opencv-python-headless")))
array = np.zeros((40, 40, 3), "uint8")
array[4:12, 16:24] = 255  # above the centre


def place(picture):
    """Centre of what is lit, as row and column rounded to 2 pixels, and how much of 64 pixels is left, to the nearest 16."""
    lit = np.argwhere(np.asarray(picture)[..., 0] > 128)
    if not len(lit):
        return "nothing is lit"
    row, column = (2 * np.round((lit.mean(0) + 0.5) / 2)).astype(int)
    return f"row {row} column {column}, {16 * round(len(lit) / 16)} pixels"


for label, function in (
    ("as it is      ", lambda x: x),
    ("affine, shift ", lambda x: functional.affine(x, 0, (8, 4), 1.0, (0, 0))),
    ("affine, 90    ", lambda x: functional.affine(x, 90, (0, 0), 1.0, (0, 0))),
    ("affine, x 0.5 ", lambda x: functional.affine(x, 0, (0, 0), 0.5, (0, 0))),
    ("rotate, 90    ", lambda x: functional.rotate(x, 90)),
):
    print(f"{label} image: {place(function(Image.fromarray(array)))}; array: {place(function(array))}")
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
