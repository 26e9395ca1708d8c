#!/usr/bin/env bash
# Question: kornia's geometry.center_crop takes 4 pixels from the middle of 0, 10, .. 80. Which?
# Guess:    20 to 50 or 30 to 60: nine pixels have no middle four, so it chooses a side, as kornia's own CenterCrop and torchvision do.
# Seen:     25, 35, 45, 55. It keeps the half pixel and interpolates, so that each pixel is a mean of two; mode "nearest" returns
#           20, 40, 40, 60. With an even difference the crop is exact.
# Matters:  341 x 256, a usual picture after the resize to 256, is odd in width: all detail of one pixel is gone (stripes become grey), and
#           for the next picture not. CenterCrop of kornia.augmentation has none of this.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 torch==2.13.0 kornia==0.9.0
cat > "$work/expected" <<'EXPECTED'
torch 2.13.0 kornia 0.9.0
ramp                             [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0]
4 pixels, geometry, bilinear     [25.0, 35.0, 45.0, 55.0]
4 pixels, geometry, nearest      [20.0, 40.0, 40.0, 60.0]
4 pixels, CenterCrop, slice      [20.0, 30.0, 40.0, 50.0]
4 pixels, CenterCrop, resample   [20.0, 30.0, 40.0, 50.0]
5 pixels, geometry, bilinear     [20.0, 30.0, 40.0, 50.0, 60.0]
5 pixels, geometry, nearest      [20.0, 30.0, 40.0, 50.0, 60.0]
5 pixels, CenterCrop, slice      [20.0, 30.0, 40.0, 50.0, 60.0]
5 pixels, CenterCrop, resample   [20.0, 30.0, 40.0, 50.0, 60.0]
stripes of 0 and 1, 340 x 256: 0.000 to 1.000
stripes of 0 and 1, 341 x 256: 0.500 to 0.500
EXPECTED
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import torch
from kornia.augmentation import CenterCrop
from kornia.geometry import center_crop

print(*(f"{p} {version(p).partition('+')[0]}" for p in ("torch", "kornia")))
ramp = 10 * torch.arange(9.0).expand(1, 1, 9, 9)


def row(y):
    return [round(v, 3) for v in y[0, 0, 0].tolist()]


print("ramp                            ", row(ramp))
for size in (4, 5):
    print(f"{size} pixels, geometry, bilinear    ", row(center_crop(ramp, (size, size))))
    print(f"{size} pixels, geometry, nearest     ", row(center_crop(ramp, (size, size), mode="nearest")))
    for way in ("slice", "resample"):
        print(f"{size} pixels, CenterCrop, {way:8}  ", row(CenterCrop((size, size), cropping_mode=way)(ramp)))
for width in (340, 341):
    stripes = torch.zeros(1, 1, 256, width)
    stripes[..., ::2] = 1
    y = center_crop(stripes, (224, 224))
    print(f"stripes of 0 and 1, {width} x 256: {y.min().item():.3f} to {y.max().item():.3f}")
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
