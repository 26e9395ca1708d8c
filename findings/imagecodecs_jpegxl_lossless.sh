#!/usr/bin/env bash
# Question: test pictures are kept as JPEG XL by imagecodecs with level 100, the best quality, or with distance 0. Are the pixels kept?
# Guess:    yes: for cjxl, the format's own tool, both mean lossless.
# Seen:     no: pixels differ, and the file is more than twice the lossless one. Only no level, a level above 100 or
#           lossless=True is exact. Level 99 is smaller than the lossless file; 100 is the largest of all.
# Matters:  a data set that is stored "at 100" is neither exact nor small, and a prediction at a margin differs from that for the
#           PNG. Comparing the sizes of files does not tell: the larger is the lossy one.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 imagecodecs==2026.3.6
cat > "$work/expected" <<'EXPECTED'
imagecodecs 2026.3.6
lossless=True pixels kept: True  file: 1.0 of the lossless one
no option     pixels kept: True  file: 1.0 of the lossless one
level=101     pixels kept: True  file: 1.0 of the lossless one
level=100     pixels kept: False file: 2.3 of the lossless one
distance=0.0  pixels kept: False file: 2.3 of the lossless one
level=99      pixels kept: False file: 0.8 of the lossless one
level=90      pixels kept: False file: 0.4 of the lossless one
EXPECTED
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import imagecodecs
import numpy as np

print("imagecodecs", version("imagecodecs"))
y, x = np.mgrid[:64, :64]
waves = np.stack([np.sin(x / 3), np.sin(y / 4), np.cos((x + y) / 5)], -1)
picture = np.uint8(128 + 100 * waves)
exact = len(imagecodecs.jpegxl_encode(picture, lossless=True))
for label, options in (
    ("lossless=True", {"lossless": True}),
    ("no option", {}),
    ("level=101", {"level": 101}),
    ("level=100", {"level": 100}),
    ("distance=0.0", {"distance": 0.0}),
    ("level=99", {"level": 99}),
    ("level=90", {"level": 90}),
):
    file = imagecodecs.jpegxl_encode(picture, **options)
    same = np.array_equal(imagecodecs.jpegxl_decode(file), picture)
    print(f"{label:13} pixels kept: {same!s:5} file: {len(file) / exact:.1f} of the lossless one")
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
