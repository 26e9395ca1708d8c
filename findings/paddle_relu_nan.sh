#!/usr/bin/env bash
# Question: which of 14 activations pass a NaN on in Paddle on the CPU?
# Guess:    all: each is a formula in x, and maximum(NaN, 0) is NaN.
# Seen:     all but relu, which makes 0 of it, for one number and for a thousand. relu6 keeps it.
# Matters:  weights that have become NaN then give a finite loss and plausible predictions, if a ReLU comes after them: the usual check,
#           "is the loss finite", sees nothing with ReLU, and does with ReLU6 or hardswish.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  paddlepaddle==3.3.1 numpy==2.3.5 setuptools==84.2.1
cat > "$work/expected" <<'EXPECTED'
paddlepaddle 3.3.1
1 numbers; NaN is kept by relu6 leaky_relu elu celu selu hardswish hardsigmoid hardtanh swish gelu mish sigmoid softplus
   relu of NaN is 0.0
   maximum(NaN, 0) is nan
7 numbers; NaN is kept by relu6 leaky_relu elu celu selu hardswish hardsigmoid hardtanh swish gelu mish sigmoid softplus
   relu of NaN is 0.0
   maximum(NaN, 0) is nan
1000 numbers; NaN is kept by relu6 leaky_relu elu celu selu hardswish hardsigmoid hardtanh swish gelu mish sigmoid softplus
   relu of NaN is 0.0
   maximum(NaN, 0) is nan
ReLU after a layer of NaN weights: loss is a number: True
ReLU6 after a layer of NaN weights: loss is a number: False
EXPECTED
cd "$work"
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import numpy as np
import paddle
from paddle.nn import functional

print("paddlepaddle", version("paddlepaddle"))
names = "relu relu6 leaky_relu elu celu selu hardswish hardsigmoid hardtanh swish gelu mish sigmoid softplus".split()
for size in (1, 7, 1000):
    x = paddle.to_tensor(np.full(size, np.nan, "float32"))
    kept = {name: bool(paddle.isnan(getattr(functional, name)(x)).all()) for name in names}
    print(size, "numbers; NaN is kept by", *(n for n in names if kept[n]))
    for n in names:
        if not kept[n]:
            print("  ", n, "of NaN is", *set(getattr(functional, n)(x).tolist()))
    print("   maximum(NaN, 0) is", *{str(v) for v in paddle.maximum(x, paddle.zeros([size])).tolist()})
paddle.seed(0)
for activation in (paddle.nn.ReLU(), paddle.nn.ReLU6()):
    network = paddle.nn.Sequential(paddle.nn.Linear(4, 8), activation, paddle.nn.Linear(8, 3), paddle.nn.Softmax())
    network[0].weight.set_value(paddle.full([4, 8], np.nan))
    loss = functional.cross_entropy(network[:3](paddle.ones([1, 4])), paddle.to_tensor([1]))
    print(type(activation).__name__, "after a layer of NaN weights: loss is a number:", bool(paddle.isfinite(loss)))
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
