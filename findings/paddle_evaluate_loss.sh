#!/usr/bin/env bash
# Question: paddle.Model.evaluate on 5 samples in batches of 2. Four have a loss of about 0, the last one of 10. Which loss?
# Guess:    the mean over the samples, 2.0 (or over the batches, 3.33), as the accuracy beside it is a mean.
# Seen:     10.0, the loss of the last batch alone. With the hard sample in front it is 0.0. The accuracy is 0.8 both times.
# Matters:  EarlyStopping and ReduceLROnPlateau that watch "loss" follow one, usually smaller, batch; two models are ranked
#           by their luck with the last images.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  paddlepaddle==3.3.1 numpy==2.3.5 setuptools==84.2.1
cat > "$work/expected" <<'EXPECTED'
paddlepaddle 3.3.1 numpy 2.3.5
hard sample last:  loss 10.0 accuracy 0.8 (mean over samples 2.0)
hard sample first: loss 0.0 accuracy 0.8 (mean over samples 2.0)
EXPECTED
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import numpy as np
import paddle

paddle.set_device("cpu")
print(*(f"{p} {version(p)}" for p in ("paddlepaddle", "numpy")))
net = paddle.nn.Linear(1, 2)
net.weight.set_value(np.float32([[1, -1]]))
net.bias.set_value(np.float32([0, 0]))
model = paddle.Model(net)
model.prepare(loss=paddle.nn.CrossEntropyLoss(), metrics=paddle.metric.Accuracy())
for label, values in (("last: ", [5, 5, 5, 5, -5]), ("first:", [-5, 5, 5, 5, 5])):
    x = paddle.to_tensor(np.float32(values)[:, None])
    y = paddle.zeros([5, 1], "int64")
    result = model.evaluate(paddle.io.TensorDataset([x, y]), batch_size=2, verbose=0)
    mean = paddle.nn.functional.cross_entropy(net(x), y).item()
    loss, accuracy = float(result["loss"][0]), float(result["acc"])
    print(f"hard sample {label} loss {loss:.1f} accuracy {accuracy:.1f} (mean over samples {mean:.1f})")
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
