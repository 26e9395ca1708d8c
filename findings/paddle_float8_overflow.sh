#!/usr/bin/env bash
# Question: Tensor.astype("float8_e4m3fn") of values above 448, the largest the type holds. Saturate, or NaN?
# Guess:    one rule for all of them: 448 throughout, or NaN throughout.
# Seen:     both. 464 becomes 448, 465 becomes NaN, and from 480 on it is 448 again, a million too. ml_dtypes (and through it
#           numpy) has one rule: NaN above 464.
# Matters:  a scale that is a little too small gives NaN weights where a scale far too small gives 448: the worse error
#           is the quiet one, and a check for NaN does not find it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  paddlepaddle==3.3.1 numpy==2.3.5 ml_dtypes==0.6.0 setuptools==84.2.1
cat > "$work/expected" <<'EXPECTED'
paddlepaddle 3.3.1 numpy 2.3.5 ml_dtypes 0.6.0
value     [448.0, 460.0, 464.0, 465.0, 480.0, 500.0, 1000000.0]
paddle    [448.0, 448.0, 448.0, nan, 448.0, 448.0, 448.0]
ml_dtypes [448.0, 448.0, 448.0, nan, nan, nan, nan]
EXPECTED
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import ml_dtypes
import numpy as np
import paddle

paddle.set_device("cpu")
print(*(f"{p} {version(p)}" for p in ("paddlepaddle", "numpy", "ml_dtypes")))
x = np.float32([448, 460, 464, 465, 480, 500, 1e6])
cast = paddle.to_tensor(x).astype("float8_e4m3fn").astype("float32")
print("value    ", x.tolist())
print("paddle   ", cast.tolist())
print("ml_dtypes", x.astype(ml_dtypes.float8_e4m3fn).astype("float32").tolist())
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
