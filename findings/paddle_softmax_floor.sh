#!/usr/bin/env bash
# Question: the logits are 50, 0 and -1000, or -inf for a class that is masked. What are softmax, log_softmax and the loss in Paddle?
# Guess:    0, -1050 (-inf) and 1050 (inf): subtracting the largest logit makes the log exact however far they are apart.
# Seen:     -64 and a loss of 64, in float32 and float64: no log probability is below -64, and a masked class has the probability
#           1.6e-28, not 0. Down to -64 all is exact.
# Matters:  a loss that stands at 64.0 is the floor and not a number of the data: two wrong pictures weigh the same however wrong they
#           are. "probability == 0" never holds for a masked class, and the exported network, run elsewhere, differs.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  paddlepaddle==3.3.1 numpy==2.3.5 setuptools==84.2.1
cat > "$work/expected" <<'EXPECTED'
paddlepaddle 3.3.1
[50, 0, -5] float32
  exact log       0 -50 -55
  log_softmax     0 -50 -55
  softmax of last 1.3e-24 exact 1.3e-24
  loss of last    55
[50, 0, -5] float64
  exact log       0 -50 -55
  log_softmax     0 -50 -55
  softmax of last 1.3e-24 exact 1.3e-24
  loss of last    55
[50, 0, -50] float32
  exact log       0 -50 -100
  log_softmax     0 -50 -64
  softmax of last 1.6e-28 exact 3.7e-44
  loss of last    64
[50, 0, -50] float64
  exact log       0 -50 -100
  log_softmax     0 -50 -64
  softmax of last 1.6e-28 exact 3.7e-44
  loss of last    64
[50, 0, -1000] float32
  exact log       0 -50 -1050
  log_softmax     0 -50 -64
  softmax of last 1.6e-28 exact 0
  loss of last    64
[50, 0, -1000] float64
  exact log       0 -50 -1050
  log_softmax     0 -50 -64
  softmax of last 1.6e-28 exact 0
  loss of last    64
[50, 0, -inf] float32
  exact log       0 -50 -inf
  log_softmax     0 -50 -64
  softmax of last 1.6e-28 exact 0
  loss of last    64
[50, 0, -inf] float64
  exact log       0 -50 -inf
  log_softmax     0 -50 -64
  softmax of last 1.6e-28 exact 0
  loss of last    64
EXPECTED
cd "$work"
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import numpy as np
import paddle
from paddle.nn import functional

print("paddlepaddle", version("paddlepaddle"))


def exact(x):
    x = x.astype("float64")
    return x - x.max() - np.log(np.exp(x - x.max()).sum())


for values in ([50, 0, -5], [50, 0, -50], [50, 0, -1000], [50, 0, -np.inf]):
    for dtype in ("float32", "float64"):
        x = np.array([values], dtype)
        logits = paddle.to_tensor(x, stop_gradient=False)
        loss = functional.cross_entropy(logits, paddle.to_tensor([2]))
        print(values, dtype)
        print("  exact log      ", " ".join(f"{v:.0f}" for v in exact(x)[0]))
        print("  log_softmax    ", " ".join(f"{v:.0f}" for v in functional.log_softmax(logits)[0].tolist()))
        print("  softmax of last", f"{functional.softmax(logits)[0, 2].item():.2g}", "exact", f"{np.exp(exact(x)[0, 2]):.2g}")
        print("  loss of last   ", f"{loss.item():.0f}")
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
