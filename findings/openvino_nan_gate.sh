#!/usr/bin/env bash
# Question: a squeeze-and-excitation block gets NaN in every pixel (a broken sensor, an overflow before it). What do ONNX Runtime
#           and OpenVINO on an x86 CPU return for ReLU, the gate (HardSigmoid), hard-swish and ReduceMax?
# Guess:    NaN throughout in both, so that a check of the output for NaN finds the broken input.
# Seen:     ONNX Runtime does. OpenVINO's ReLU returns 0, its HardSigmoid 1 (the gate stands wide open), its ReduceMax the
#           lowest float32, and only HardSwish keeps NaN.
# Matters:  a MobileNetV3 that returns NaN in training and in ONNX Runtime may return a confident class after conversion. Look
#           for NaN in the input, not in the scores.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 openvino 2026.4.1
Relu        onnxruntime [nan]  openvino [0.0]
HardSigmoid onnxruntime [nan]  openvino [1.0]
HardSwish   onnxruntime [nan]  openvino [nan]
ReduceMax   onnxruntime [nan]  openvino [-3.4028234663852886e+38]
EXPECTED
"$work/venv/bin/python" - > "$work/seen" <<'PYTHON'
from importlib.metadata import version

import numpy as np
import onnxruntime
import openvino
from onnx import TensorProto, helper

print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime", "openvino")))
x = np.full((1, 4, 8, 8), np.nan, "float32")
core = openvino.Core()
core.set_property("CPU", {"INFERENCE_PRECISION_HINT": "f32"})
for kind in ("Relu", "HardSigmoid", "HardSwish", "ReduceMax"):
    shape = [1, 1, 1, 1] if kind == "ReduceMax" else [1, 4, 8, 8]
    graph = helper.make_graph(
        [helper.make_node(kind, ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    file = model.SerializeToString()
    ort = onnxruntime.InferenceSession(file).run(None, {"x": x})[0]
    ov = core.compile_model(core.read_model(file), "CPU")(x)[0]
    print(f"{kind:11} onnxruntime {np.unique(ort).tolist()}  openvino {np.unique(ov).tolist()}")
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
