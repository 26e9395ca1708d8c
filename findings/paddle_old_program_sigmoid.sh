#!/usr/bin/env bash
# Question: FLAGS_enable_pir_api=0 asks Paddle 3 for the old program format (*.pdmodel), which older servers and converters read. Which
#           activations can paddle.jit.save trace with it?
# Guess:    all of them, or none if the old format is given up.
# Seen:     about half. relu, hardsigmoid, hardswish, silu and softmax are saved; sigmoid, tanh, gelu, softplus, exp, abs and
#           sqrt raise a TypeError about Value and Variable that names no flag. With the flag at 1 all are saved.
# Matters:  MobileNetV3 exports and EfficientNet's sigmoid gate does not, so a chain tested on the one fails on the other, and
#           the error looks like a fault of the network.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  paddlepaddle==3.3.1 numpy==2.3.5 setuptools==84.2.1
cat > "$work/expected" <<'EXPECTED'
flag 1: paddlepaddle 3.3.1
  saved: relu relu6 hardsigmoid hardswish silu softmax mish elu sigmoid gelu softplus tanh exp log abs sqrt floor
flag 0: paddlepaddle 3.3.1
  saved: relu relu6 hardsigmoid hardswish silu softmax mish elu
  TypeError: sigmoid gelu softplus tanh exp log abs sqrt floor
  last message: TypeError: (InvalidType) floor(): argument (position 1) must be Value, but got Variable
EXPECTED
cat > "$work/save.py" <<'PYTHON'
import sys

import paddle
import paddle.nn.functional as F

paddle.set_device("cpu")
functions = {
    **{n: getattr(F, n) for n in ("relu", "relu6", "hardsigmoid", "hardswish", "silu", "softmax", "mish", "elu")},
    **{n: getattr(F, n) for n in ("sigmoid", "gelu", "softplus")},
    **{n: getattr(paddle, n) for n in ("tanh", "exp", "log", "abs", "sqrt", "floor")},
}


class Layer(paddle.nn.Layer):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


saved, raised = [], {}
for name, function in functions.items():
    spec = [paddle.static.InputSpec([1, 4], "float32", "x")]
    try:
        paddle.jit.save(Layer(function), f"saved/{name}", input_spec=spec)
        saved.append(name)
    except Exception as error:
        raised.setdefault(type(error).__name__, []).append(name)
        text = str(error).strip().splitlines()
        message = next(line.strip() for line in text if "must be" in line).split(" (at ")[0]
print(f"flag {sys.argv[1]}: paddlepaddle {paddle.__version__}")
print("  saved:", *saved)
for kind, names in raised.items():
    print(f"  {kind}:", *names)
    print("  last message:", message)
PYTHON
cd "$work"
for flag in 1 0; do
  FLAGS_enable_pir_api=$flag "$work/venv/bin/python" save.py "$flag" >> "$work/seen" 2> "$work/log" || { cat "$work/log"; exit 1; }
done
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
