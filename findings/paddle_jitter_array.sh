#!/usr/bin/env bash
# Question: paddle.vision's adjust_contrast, adjust_saturation and adjust_hue take a Pillow image or a NumPy array. The same red and
#           green pixels both ways: the same result?
# Guess:    yes, to one step: ColorJitter calls the same function, which only picks a library.
# Seen:     three other functions. For an array, contrast turns around 74, whatever the picture's mean is; a hue of +0.2 goes the
#           other way round, since red is taken for blue; and adjust_saturation with a fixed 0.4 draws a random number, so that each
#           call gives another colour. to_grayscale, which takes the same array as RGB, is right.
# Matters:  a data loader that decodes by OpenCV trains with another augmentation than the published recipe with the same numbers:
#           pictures are lighter or darker on average, and not repeated by what seeds the draws of the recipe. Nothing fails.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  paddlepaddle==3.3.1 numpy==2.3.5 pillow==13.0.0 opencv-python-headless==5.0.0.93 setuptools==84.2.1
cat > "$work/expected" <<'EXPECTED'
paddlepaddle 3.3.1 pillow 13.0.0 opencv-python-headless 5.0.0.93
red (200, 60, 60)
  adjust_contrast    1.5  image (249, 39, 39)  array (255, 53, 53)
  adjust_saturation  0.4  image (141, 85, 85)  array another at each call
  adjust_hue         0.2  image (172, 200, 60)  array (169, 60, 200)
  adjust_hue        -0.2  image (175, 60, 200)  array (175, 200, 60)
  to_grayscale         3  image (102, 102, 102)  array (102, 102, 102)
green (60, 200, 60)
  adjust_contrast    1.5  image (19, 229, 19)  array (53, 255, 53)
  adjust_saturation  0.4  image (109, 165, 109)  array another at each call
  adjust_hue         0.2  image (60, 172, 200)  array (200, 172, 60)
  adjust_hue        -0.2  image (200, 172, 60)  array (60, 172, 200)
  to_grayscale         3  image (142, 142, 142)  array (142, 142, 142)
EXPECTED
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import numpy as np
from paddle.vision.transforms import functional
from PIL import Image

print(*(f"{p} {version(p)}" for p in ("paddlepaddle", "pillow", "opencv-python-headless")))
for name, colour in (("red", (200, 60, 60)), ("green", (60, 200, 60))):
    array = np.full((4, 4, 3), colour, "uint8")
    image = Image.fromarray(array)
    print(name, colour)
    for function, amount in (
        (functional.adjust_contrast, 1.5),
        (functional.adjust_saturation, 0.4),
        (functional.adjust_hue, 0.2),
        (functional.adjust_hue, -0.2),
        (functional.to_grayscale, 3),
    ):
        results = []
        for x in (image, array):
            seen = {tuple(np.asarray(function(x, amount))[0, 0].tolist()) for _ in range(20)}
            results.append(seen.pop() if len(seen) == 1 else "another at each call")
        print(f"  {function.__name__:17} {amount:4}  image {results[0]}  array {results[1]}")
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
