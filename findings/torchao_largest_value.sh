#!/usr/bin/env bash
# Question: a linear layer with the weights 1, 0.5, -1 gets torchao's symmetric int8 weights. Which weights has it then?
# Guess:    1, 0.504, -1: the scale is greatest / 127, so the greatest weight is the one that comes back exactly.
# Seen:     0.9961, 0.502, -0.9961: the scale is greatest / 127.5, but the stored numbers end at 127, so the greatest of every row is
#           the one that is cut. With dynamic activations the greatest input is cut too: 1 x 1 is 0.9922.
# Matters:  the error has one direction, towards 0, and hits the greatest weight of every row and the greatest input. Files from
#           torchao differ by 0.4 % in all scales from those of tools that divide by 127, on the same range.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check numpy==2.4.6 torch==2.13.0 torchao==0.18.0
cat > "$work/expected" <<'EXPECTED'
torch 2.13.0 torchao 0.18.0
weights 1.0000 0.5000 -1.0000 0.0000 come back as 0.9961 0.5020 -0.9961 0.0000: stored [127, 64, -127, 0], greatest / scale 127.5
weights 0.0200 0.0100 -0.0050 0.0000 come back as 0.0199 0.0100 -0.0050 0.0000: stored [127, 64, -32, 0], greatest / scale 127.5
identity x 1.0000 0.0000 0.0000 0.0000: int8 weights 0.9961 0.0000 0.0000 0.0000, and int8 activations 0.9922 0.0000 0.0000 0.0000
identity x 2.0000 -1.0000 0.5000 0.0000: int8 weights 1.9922 -0.9961 0.4980 0.0000, and int8 activations 1.9843 -1.0000 0.5000 0.0000
EXPECTED
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import torch
from torchao.quantization import Int8DynamicActivationInt8WeightConfig, Int8WeightOnlyConfig, quantize_

print(f"torch {version('torch').split('+')[0]} torchao {version('torchao')}")


def layer(weight, config):
    linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.weight.data = weight.clone()
    quantize_(linear, config)
    return linear


def words(values):
    return " ".join(f"{v:.4f}" for v in values)


for row in ([1.0, 0.5, -1.0, 0.0], [0.02, 0.01, -0.005, 0.0]):
    weight = layer(torch.tensor([row]), Int8WeightOnlyConfig()).weight
    stored, scale = weight.qdata[0].tolist(), weight.scale.item()
    print(f"weights {words(row)} come back as {words(weight.dequantize()[0])}: stored {stored}, greatest / scale {max(row) / scale:.1f}")
both = layer(torch.eye(4), Int8DynamicActivationInt8WeightConfig())
only = layer(torch.eye(4), Int8WeightOnlyConfig())
for x in ([1.0, 0.0, 0.0, 0.0], [2.0, -1.0, 0.5, 0.0]):
    inputs = torch.tensor([x])
    with torch.no_grad():
        print(f"identity x {words(x)}: int8 weights {words(only(inputs)[0])}, and int8 activations {words(both(inputs)[0])}")
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
