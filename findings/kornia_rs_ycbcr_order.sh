#!/usr/bin/env bash
# Question: kornia_rs.imgproc.ycbcr_from_rgb ("RGB to YCbCr, full range") on a red and a blue pixel. Which channel is Cb?
# Guess:    the second, as in the name, in JPEG and in Pillow's mode YCbCr: blue has Cb 255, red has Cr 255.
# Seen:     the third: the order is Y, Cr, Cb, for bytes and for float32. rgb_from_ycbcr expects the same, so a round trip is right
#           (to one step) and shows nothing. Given Pillow's numbers it makes blue of red.
# Matters:  a network trained on Cb and Cr of one library and fed by the other sees blue for red. Luminance, grey pictures, round
#           trips and brightness augmentations are all right; only where the two meet is it wrong.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check numpy==2.3.5 pillow==13.0.0 kornia-rs==0.2.0
cat > "$work/expected" <<'EXPECTED'
kornia_rs 0.2.0 pillow 13.0.0
red
  Pillow [76, 84, 255]
  kornia [76, 255, 85] float32 [0.3, 1.0, 0.33]
  kornia and back [254, 0, 0] Pillow and back by kornia [14, 64, 255]
blue
  Pillow [29, 255, 107]
  kornia [29, 107, 255] float32 [0.11, 0.42, 1.0]
  kornia and back [0, 0, 254] Pillow and back by kornia [207, 0, 0]
grey
  Pillow [128, 128, 128]
  kornia [128, 128, 128] float32 [0.5, 0.5, 0.5]
  kornia and back [128, 128, 128] Pillow and back by kornia [128, 128, 128]
EXPECTED
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import numpy as np
from kornia_rs import imgproc
from PIL import Image

print(*(f"{p} {version(p)}" for p in ("kornia_rs", "pillow")))
colours = {"red": (255, 0, 0), "blue": (0, 0, 255), "grey": (128, 128, 128)}
for name, rgb in colours.items():
    bytes_ = np.full((2, 2, 3), rgb, "uint8")
    by_pillow = np.asarray(Image.fromarray(bytes_).convert("YCbCr"))
    by_kornia = np.asarray(imgproc.ycbcr_from_rgb(bytes_))
    floats = np.asarray(imgproc.ycbcr_from_rgb(bytes_.astype("float32") / 255))
    print(name)
    print("  Pillow", by_pillow[0, 0].tolist())
    print("  kornia", by_kornia[0, 0].tolist(), "float32", [round(v, 2) for v in floats[0, 0].tolist()])
    print("  kornia and back", np.asarray(imgproc.rgb_from_ycbcr(by_kornia))[0, 0].tolist(), end=" ")
    print("Pillow and back by kornia", np.asarray(imgproc.rgb_from_ycbcr(np.array(by_pillow)))[0, 0].tolist())
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
