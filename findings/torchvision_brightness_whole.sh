#!/usr/bin/env bash
# Question: adjust_brightness of torchvision's transforms v2 with factor 2 on a uint8 tensor. Which byte is 200 afterwards?
# Guess:    255, as for a PIL image, for the older functional and for the factor 2.0: the result is clamped to the range.
# Seen:     144. A factor that is a Python int keeps the product in uint8, which wraps before the clamp: 130 becomes 4. 2.0 gives 255, and
#           contrast, saturation and sharpness with an int are right.
# Matters:  bright parts turn dark, with no error: brightness 2 is not brightness 2.0, only for tensors, and only in v2. A test that
#           converts to PIL, or one with a picture darker than 128, passes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 torch==2.13.0 torchvision==0.28.0 pillow==13.0.0
cat > "$work/expected" <<'EXPECTED'
torch 2.13.0 torchvision 0.28.0
input                      [0, 60, 100, 130, 200, 255]
brightness 2
  PIL image, v2            [0, 120, 200, 255, 255, 255]
  uint8 tensor, first      [0, 120, 200, 255, 255, 255]
  uint8 tensor, v2         [0, 120, 200, 4, 144, 254]
  float tensor, v2         [0, 120, 200, 255, 255, 255]
brightness 2.0
  PIL image, v2            [0, 120, 200, 255, 255, 255]
  uint8 tensor, first      [0, 120, 200, 255, 255, 255]
  uint8 tensor, v2         [0, 120, 200, 255, 255, 255]
  float tensor, v2         [0, 120, 200, 255, 255, 255]
brightness 3
  PIL image, v2            [0, 180, 255, 255, 255, 255]
  uint8 tensor, first      [0, 180, 255, 255, 255, 255]
  uint8 tensor, v2         [0, 180, 44, 134, 88, 253]
  float tensor, v2         [0, 180, 255, 255, 255, 255]
brightness 3.0
  PIL image, v2            [0, 180, 255, 255, 255, 255]
  uint8 tensor, first      [0, 180, 255, 255, 255, 255]
  uint8 tensor, v2         [0, 180, 255, 255, 255, 255]
  float tensor, v2         [0, 180, 255, 255, 255, 255]
v2 adjust_contrast of the tensor, 2 as 2.0: True
v2 adjust_saturation of the tensor, 2 as 2.0: True
EXPECTED
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import numpy as np
import torch
from PIL import Image

if torch.version.cuda is None:  # the wheel's own operators need CUDA's libraries; none is called here, but two must have a name
    operators = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
from torchvision.transforms import functional as first
from torchvision.transforms.v2 import functional as second

print(*(f"{p} {version(p).partition('+')[0]}" for p in ("torch", "torchvision")))
values = [0, 60, 100, 130, 200, 255]
tensor = torch.tensor(values, dtype=torch.uint8).expand(3, 1, 6)
picture = Image.fromarray(np.ascontiguousarray(tensor.permute(1, 2, 0).numpy()))
print("input                     ", values)
for factor in (2, 2.0, 3, 3.0):
    print("brightness", factor)
    print("  PIL image, v2           ", np.asarray(second.adjust_brightness(picture, factor))[0, :, 0].tolist())
    print("  uint8 tensor, first     ", first.adjust_brightness(tensor, factor)[0, 0].tolist())
    print("  uint8 tensor, v2        ", second.adjust_brightness(tensor, factor)[0, 0].tolist())
    floats = second.adjust_brightness(tensor / 255, factor)
    print("  float tensor, v2        ", (floats * 255).round().int()[0, 0].tolist())
for name in ("adjust_contrast", "adjust_saturation"):
    same = torch.equal(getattr(second, name)(tensor, 2), getattr(second, name)(tensor, 2.0))
    print(f"v2 {name} of the tensor, 2 as 2.0: {same}")
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
