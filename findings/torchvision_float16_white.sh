#!/usr/bin/env bash
# Question: torchvision's to_dtype(scale=True) takes a picture from uint8 to float16 and back. Which bytes return?
# Guess:    all: float16 holds 256 steps in [0, 1] well apart, and bfloat16 about half of them within one step.
# Seen:     white, 255, returns as 0. Back to uint8 is a product with just under 256, which float16 and bfloat16 round up to 256, and the
#           byte wraps. 16 bytes are wrong in float16 and 128 in bfloat16; float32 is exact.
# Matters:  a picture kept in half precision, or one that a float16 network made, is saved with black where it is brightest: paper, sky,
#           the background of a product. convert_image_dtype is the same function.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 torch==2.13.0 torchvision==0.28.0
cat > "$work/expected" <<'EXPECTED'
torch 2.13.0 torchvision 0.28.0
torch.float64   largest error there 0.00000, wrong bytes   0, 253 to 255: [253, 254, 255] convert_image_dtype [253, 254, 255]
torch.float32   largest error there 0.00000, wrong bytes   0, 253 to 255: [253, 254, 255] convert_image_dtype [253, 254, 255]
torch.float16   largest error there 0.00024, wrong bytes  16, 253 to 255: [254, 255, 0] convert_image_dtype [254, 255, 0]
torch.bfloat16  largest error there 0.00195, wrong bytes 128, 253 to 255: [254, 255, 0] convert_image_dtype [254, 255, 0]
EXPECTED
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import torch

if torch.version.cuda is None:  # the wheel's own operators need CUDA's libraries; none is called here, but two must have a name
    operators = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
from torchvision.transforms import functional as first
from torchvision.transforms.v2 import functional as second

print(*(f"{p} {version(p).partition('+')[0]}" for p in ("torch", "torchvision")))
picture = torch.arange(256, dtype=torch.uint8)[None, None]
for kind in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
    exact = picture.to(torch.float64) / 255
    there = second.to_dtype(picture, kind, scale=True)
    back = second.to_dtype(there, torch.uint8, scale=True)
    older = first.convert_image_dtype(first.convert_image_dtype(picture, kind), torch.uint8)
    wrong = (back != picture).sum().item()
    error = (there.double() - exact).abs().max()
    print(f"{str(kind):15} largest error there {error:.5f}, wrong bytes {wrong:3},", end=" ")
    print("253 to 255:", back[0, 0, -3:].tolist(), "convert_image_dtype", older[0, 0, -3:].tolist())
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
