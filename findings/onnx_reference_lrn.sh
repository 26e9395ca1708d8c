#!/usr/bin/env bash
# Question: onnx's own ReferenceEvaluator on LRN (size 3, alpha 0.1, beta 0.75, bias 2), six channels: does it agree with the formula
#           of the operator, with ONNX Runtime and with OpenVINO?
# Guess:    yes: it is the yardstick that converters are tested against.
# Seen:     the two runtimes agree with the formula. The reference evaluator is off by 0.78 on values up to 5.
#           LpNormalization with p=1 fails alike: it divides by the signed sum, so 3, -4, 0, 1 becomes zeros.
# Matters:  who ports a network and takes the reference evaluator for the truth mends a converter that was right.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 openvino 2026.4.1
LRN onnx reference: off by 0.780
LRN onnxruntime: off by 0.000
LRN openvino: off by 0.000
LpNormalization onnx reference: off by 0.500
LpNormalization onnxruntime: off by 0.000
LpNormalization openvino: off by 0.000
EXPECTED
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import numpy as np
import onnxruntime
import openvino
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime", "openvino")))
core = openvino.Core()
core.set_property("CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def compare(kind, x, formula, **attributes):
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, x.shape) for n in "xy"]
    node = helper.make_node(kind, ["x"], ["y"], **attributes)
    graph = helper.make_graph([node], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    file = model.SerializeToString()
    for who, y in (
        ("onnx reference", ReferenceEvaluator(model).run(None, {"x": x})[0]),
        ("onnxruntime", onnxruntime.InferenceSession(file).run(None, {"x": x})[0]),
        ("openvino", core.compile_model(core.read_model(file), "CPU")(x)[0]),
    ):
        print(f"{kind} {who}: off by {np.abs(y - formula).max():.3f}")


x = np.float32([3, -4, 2, 5, -1, 0.5]).reshape(1, 6, 1, 1)
around = np.pad(x**2, [(0, 0), (1, 1), (0, 0), (0, 0)])
energy = around[:, :-2] + around[:, 1:-1] + around[:, 2:]
compare("LRN", x, x / (2 + 0.1 / 3 * energy) ** 0.75, size=3, alpha=0.1, beta=0.75, bias=2.0)
x = np.float32([[3, -4, 0, 1]])
compare("LpNormalization", x, x / np.abs(x).sum(), p=1, axis=1)
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
