#!/usr/bin/env bash
# Question: a squeeze-and-excite gate in int8: hardsigmoid of a quantized tensor of PyTorch. What is the gate at 3 and above?
# Guess:    1, or the scale of the input tensor decides.
# Seen:     0.9961 always. The result has scale 1/256 and its lowest number stands for 0, whatever the input has, so the greatest number
#           is 255/256: the gate never opens. At -3 it is 0 exactly. sigmoid is the same; tanh reaches -1 but not 1.
# Matters:  every open gate takes 0.4 % off its channels, always in the same direction: eight of them, as MobileNetV3-Large has, take 3 %
#           where no shortcut passes them by. Calibration cannot mend it: the call takes no scale.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check numpy==2.4.6 torch==2.13.0
cat > "$work/expected" <<'EXPECTED'
torch 2.13.0
input               -6.0000 -3.0000  0.0000  3.0000  6.0000
hardsigmoid float    0.0000  0.0000  0.5000  1.0000  1.0000
hardsigmoid quint8   0.0000  0.0000  0.5000  0.9961  0.9961 scale 0.0469 in, 1/256 out, zero 0
hardsigmoid quint8   0.0000  0.0000  0.5000  0.9961  0.9961 scale 0.1250 in, 1/256 out, zero 0
hardsigmoid qint8    0.0000  0.0000  0.5000  0.9961  0.9961 scale 0.0469 in, 1/256 out, zero -128
sigmoid     float    0.0025  0.0474  0.5000  0.9526  0.9975
sigmoid     quint8   0.0039  0.0469  0.5000  0.9531  0.9961 scale 0.0469 in, 1/256 out, zero 0
sigmoid     quint8   0.0039  0.0469  0.5000  0.9531  0.9961 scale 0.1250 in, 1/256 out, zero 0
sigmoid     qint8    0.0039  0.0469  0.5000  0.9531  0.9961 scale 0.0469 in, 1/256 out, zero -128
tanh        float   -1.0000 -0.9951  0.0000  0.9951  1.0000
tanh        quint8  -1.0000 -0.9922  0.0000  0.9922  0.9922 scale 0.0469 in, 1/128 out, zero 128
tanh        quint8  -1.0000 -0.9922  0.0000  0.9922  0.9922 scale 0.1250 in, 1/128 out, zero 128
tanh        qint8   -1.0000 -0.9922  0.0000  0.9922  0.9922 scale 0.0469 in, 1/128 out, zero 0
8 open gates in a row 0.9692
EXPECTED
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import torch

print(f"torch {version('torch').split('+')[0]}")
x = torch.tensor([-6.0, -3.0, 0.0, 3.0, 6.0])
print("input              ", " ".join(f"{v:7.4f}" for v in x))
gates = {"hardsigmoid": torch.nn.functional.hardsigmoid, "sigmoid": torch.sigmoid, "tanh": torch.tanh}
for name, gate in gates.items():
    print(f"{name:11} float  ", " ".join(f"{v:7.4f}" for v in gate(x)))
    for kind, scale, zero in ((torch.quint8, 3 / 64, 128), (torch.quint8, 1 / 8, 60), (torch.qint8, 3 / 64, 0)):
        y = gate(torch.quantize_per_tensor(x, scale, zero, kind))
        values = " ".join(f"{v:7.4f}" for v in y.dequantize())
        print(f"{name:11} {str(kind)[6:]:6} ", values, f"scale {scale:.4f} in, 1/{1 / y.q_scale():g} out, zero {y.q_zero_point()}")
open_gate = torch.quantize_per_tensor(torch.tensor([4.0]), 3 / 64, 0, torch.quint8)
print(f"8 open gates in a row {torch.nn.functional.hardsigmoid(open_gate).dequantize().item() ** 8:.4f}")
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
