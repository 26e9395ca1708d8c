#!/usr/bin/env bash
# Question: paddle.nn.functional.conv2d(x, weight, padding="SAME", dilation=2). Which convolution is it?
# Guess:    a dilated one that keeps the size, as in TensorFlow: the same as padding=2, dilation=2 for a 3 x 3 kernel.
# Seen:     the dilation is dropped without a word. The result is that of padding=1, dilation=1, bit by bit.
# Matters:  an atrous head built with "SAME" trains with a third of its field of view, and weights ported from TensorFlow
#           or PyTorch give other numbers though every shape fits.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  paddlepaddle==3.3.1 numpy==2.3.5 setuptools==84.2.1
cat > "$work/expected" <<'EXPECTED'
paddlepaddle 3.3.1 numpy 2.3.5
padding SAME, dilation 2: [63.0, 99.0, 108.0, 117.0, 81.0]
padding 2,    dilation 2: [66.0, 72.0, 108.0, 72.0, 78.0]
padding 1,    dilation 1: [63.0, 99.0, 108.0, 117.0, 81.0]
EXPECTED
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import numpy as np
import paddle

paddle.set_device("cpu")
print(*(f"{p} {version(p)}" for p in ("paddlepaddle", "numpy")))
x = paddle.to_tensor(np.arange(25, dtype="float32").reshape(1, 1, 5, 5))
weight = paddle.ones([1, 1, 3, 3])
for label, padding, dilation in (
    ("padding SAME, dilation 2:", "SAME", 2),
    ("padding 2,    dilation 2:", 2, 2),
    ("padding 1,    dilation 1:", 1, 1),
):
    y = paddle.nn.functional.conv2d(x, weight, padding=padding, dilation=dilation)
    print(label, y[0, 0, 2].tolist())
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
