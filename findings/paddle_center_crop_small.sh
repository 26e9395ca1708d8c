#!/usr/bin/env bash
# Question: paddle.vision's center_crop to 12 x 12 of a picture that is only 9 pixels high. What does it give for a Pillow image, a
#           NumPy array and a tensor?
# Guess:    12 x 12 with a black border, as torchvision, or an error, alike for the three.
# Seen:     the image gets a black border. Array and tensor are cut at row -2, counted from the end as Python does, so that the last
#           two rows are left: a strip of 2 x 12 from the bottom, without an error.
# Matters:  one flat picture in a folder (a logo, a scanned line) is enough. In a batch of one, or where a resize follows, the network
#           is shown two rows; and a recipe tried with Pillow works until the loader is changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  paddlepaddle==3.3.1 numpy==2.3.5 pillow==13.0.0 setuptools==84.2.1
cat > "$work/expected" <<'EXPECTED'
paddlepaddle 3.3.1 pillow 13.0.0
15 rows, image  12 x 12 of rows [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]
15 rows, array  12 x 12 of rows [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]
15 rows, tensor 12 x 12 of rows [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]
9 rows, image  12 x 12 of rows [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
9 rows, array   2 x 12 of rows [8, 9]
9 rows, tensor  2 x 12 of rows [8, 9]
EXPECTED
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import numpy as np
import paddle
from paddle.vision.transforms import functional
from PIL import Image

print(*(f"{p} {version(p)}" for p in ("paddlepaddle", "pillow")))
for height in (15, 9):
    rows = np.arange(1, height + 1, dtype="uint8")
    array = np.repeat(np.repeat(rows[:, None, None], 13, 1), 3, 2)  # each pixel tells its row
    tensor = paddle.to_tensor(array.transpose(2, 0, 1).astype("float32"))
    for name, cut in (
        ("image ", np.asarray(functional.center_crop(Image.fromarray(array), 12))),
        ("array ", functional.center_crop(array, 12)),
        ("tensor", functional.center_crop(tensor, 12).numpy().transpose(1, 2, 0)),
    ):
        print(f"{height} rows, {name} {cut.shape[0]:2} x {cut.shape[1]} of rows", cut[:, 0, 0].astype(int).tolist())
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
