#!/usr/bin/env bash
# Question: paddle's cross_entropy(label_smoothing=0.1, ignore_index=1) on labels 0, 1, 2, 1 of three classes. What is the mean?
# Guess:    that of the two samples labelled 0 and 2, as it is without smoothing.
# Seen:     nothing is ignored, and the sum over all four samples is divided by 12, samples times classes.
# Matters:  masking "do not know" labels works until somebody turns label smoothing on: then the masked samples teach again, and
#           with 1000 classes the loss and its gradient are 1000 times too small.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  paddlepaddle==3.3.1 numpy==2.3.5 setuptools==84.2.1
cat > "$work/expected" <<'EXPECTED'
paddlepaddle 3.3.1 numpy 2.3.5
smoothing 0.0: paddle 1.0551, labels 0 and 2 alone 1.0551
smoothing 0.1: paddle 0.4077, labels 0 and 2 alone 1.0742, all four over 12 0.4077
EXPECTED
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import numpy as np
import paddle

paddle.set_device("cpu")
print(*(f"{p} {version(p)}" for p in ("paddlepaddle", "numpy")))
logits = np.random.RandomState(0).randn(4, 3).astype("float32")
labels = np.array([0, 1, 2, 1])
log = logits - np.log(np.exp(logits).sum(1, keepdims=True))

for smoothing in (0.0, 0.1):
    by_hand = -(1 - smoothing) * log[np.arange(4), labels] - smoothing * log.mean(1)
    mean = paddle.nn.functional.cross_entropy(
        paddle.to_tensor(logits), paddle.to_tensor(labels), ignore_index=1, label_smoothing=smoothing
    )
    counted = by_hand[labels != 1].mean()
    print(f"smoothing {smoothing}: paddle {mean.item():.4f}, labels 0 and 2 alone {counted:.4f}", end="")
    print(f", all four over 12 {by_hand.sum() / 12:.4f}" if smoothing else "")
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
