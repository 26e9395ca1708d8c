#!/usr/bin/env bash
# Question: a picture is halved by Pillow's Image.reduce(2) and by resize with the BOX filter: both are the mean of 2 x 2 pixels. Equal?
# Guess:    bit by bit, and OpenCV's INTER_AREA a grey level away here and there.
# Seen:     the other way round: reduce(2) is INTER_AREA bit by bit, and INTER_LINEAR too; Pillow's own BOX is one level away at
#           37% of the values, as it rounds to 8 bits between its two passes, and is half a level too bright on average.
# Matters:  thumbnail() and resize(reducing_gap=...) switch to reduce for large pictures, so the size of the original decides
#           which rounding a training picture gets; a test of equal pixels between two pipelines fails for this alone.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 pillow==13.0.0 opencv-python-headless==5.0.0.93
cat > "$work/expected" <<'EXPECTED'
numpy 2.3.5 pillow 13.0.0 opencv-python-headless 5.0.0.93
Pillow reduce(2)    differs from reduce at 0.0%, by 0, mean error +0.131
Pillow resize BOX   differs from reduce at 36.7%, by 1, mean error +0.498
OpenCV INTER_AREA   differs from reduce at 0.0%, by 0, mean error +0.131
OpenCV INTER_LINEAR differs from reduce at 0.0%, by 0, mean error +0.131
EXPECTED
"$work/venv/bin/python" - > "$work/seen" <<'PYTHON'
from importlib.metadata import version

import cv2
import numpy as np
from PIL import Image

print(*(f"{p} {version(p)}" for p in ("numpy", "pillow", "opencv-python-headless")))
x = np.random.RandomState(0).randint(0, 256, (64, 96, 3), dtype=np.uint8)
picture = Image.fromarray(x)
exact = x.reshape(32, 2, 48, 2, 3).mean((1, 3))
results = {
    "Pillow reduce(2)": np.asarray(picture.reduce(2)),
    "Pillow resize BOX": np.asarray(picture.resize((48, 32), Image.Resampling.BOX)),
    "OpenCV INTER_AREA": cv2.resize(x, (48, 32), interpolation=cv2.INTER_AREA),
    "OpenCV INTER_LINEAR": cv2.resize(x, (48, 32), interpolation=cv2.INTER_LINEAR),
}
for name, y in results.items():
    off = np.abs(y.astype(int) - results["Pillow reduce(2)"])
    brighter = (y - exact).mean()
    print(f"{name:19} differs from reduce at {(off > 0).mean():.1%}, by {off.max()}", end=", ")
    print(f"mean error {brighter:+.3f}")
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
