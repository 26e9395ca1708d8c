#!/usr/bin/env bash
# Question: an ONNX file of opset 9, 11 or 12 has Softmax (default axis 1) on a 2x3x4x5 tensor. Over what is it normalised?
# Guess:    over the last three axes together, everywhere: up to opset 12 the operator flattens its input to a matrix.
# Seen:     ONNX Runtime does so at each opset, and OpenVINO at opset 9 and for LogSoftmax and Hardmax at any. But
#           OpenVINO's Softmax of opset 11 and 12 normalises axis 1 alone, as opset 13 would. No warning.
# Matters:  exporters often write opset 11. A softmax over a map or over a head that was not flattened gives other
#           probabilities (here 20 sums of 1 in place of one), though a classifier's N x K softmax is the same.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 openvino 2026.4.1
opset  9 Softmax    onnxruntime: flattened  openvino: flattened
opset  9 LogSoftmax onnxruntime: flattened  openvino: flattened
opset  9 Hardmax    onnxruntime: flattened  openvino: flattened
opset 11 Softmax    onnxruntime: flattened  openvino: axis 1
opset 11 LogSoftmax onnxruntime: flattened  openvino: flattened
opset 11 Hardmax    onnxruntime: flattened  openvino: flattened
opset 12 Softmax    onnxruntime: flattened  openvino: axis 1
opset 12 LogSoftmax onnxruntime: flattened  openvino: flattened
opset 12 Hardmax    onnxruntime: flattened  openvino: flattened
EXPECTED
"$work/venv/bin/python" - > "$work/seen" <<'PYTHON'
from importlib.metadata import version

import numpy as np
import onnxruntime
import openvino
from onnx import TensorProto, helper

print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime", "openvino")))
x = np.random.RandomState(0).randn(2, 3, 4, 5).astype("float32")
core = openvino.Core()
core.set_property("CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def by_hand(kind, values, axis):
    z = values - values.max(axis, keepdims=True)
    if kind == "Hardmax":
        return (z == 0).astype("float32")
    log = z - np.log(np.exp(z).sum(axis, keepdims=True))
    return log if kind == "LogSoftmax" else np.exp(log)


for opset in (9, 11, 12):
    for kind in ("Softmax", "LogSoftmax", "Hardmax"):
        ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, x.shape) for n in "xy"]
        graph = helper.make_graph([helper.make_node(kind, ["x"], ["y"])], "g", ends[:1], ends[1:])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        file = model.SerializeToString()
        results = {
            "onnxruntime": onnxruntime.InferenceSession(file).run(None, {"x": x})[0],
            "openvino": core.compile_model(core.read_model(file), "CPU")(x)[0],
        }
        rules = {
            "flattened": by_hand(kind, x.reshape(2, -1), 1).reshape(x.shape),
            "axis 1": by_hand(kind, x, 1),
        }
        names = [
            f"{who}: {next(n for n, r in rules.items() if np.allclose(y, r, atol=1e-5))}"
            for who, y in results.items()
        ]
        print(f"opset {opset:2} {kind:10}", "  ".join(names))
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
