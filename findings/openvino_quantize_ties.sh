#!/usr/bin/env bash
# Question: QuantizeLinear with scale 1 meets 0.5, 1.5, 2.5. Do ONNX Runtime and OpenVINO give the same bytes for any zero point?
# Guess:    yes: both round half to even, as the operator says.
# Seen:     for even zero points yes, for odd ones no tie agrees. OpenVINO adds the zero point first and rounds the sum, so the
#           even neighbour of 0.5 + 3 is 4 and not 0 + 3.
# Matters:  an asymmetric uint8 input of integers (pixels through a scale of 2, a table of levels) is made of ties. A test
#           with zero point 0 or 128 shows nothing; at 3 or 127 the same file differs by one on every tie.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 openvino 2026.4.1
value             [0.5, 1.5, 2.5, 3.5, -0.5, -1.5]
zero point   2    onnxruntime [0.0, 2.0, 2.0, 4.0, 0.0, -2.0]  openvino [0.0, 2.0, 2.0, 4.0, 0.0, -2.0]
zero point   3    onnxruntime [0.0, 2.0, 2.0, 4.0, 0.0, -2.0]  openvino [1.0, 1.0, 3.0, 3.0, -1.0, -1.0]
zero point 127    onnxruntime [0.0, 2.0, 2.0, 4.0, 0.0, -2.0]  openvino [1.0, 1.0, 3.0, 3.0, -1.0, -1.0]
zero point 128    onnxruntime [0.0, 2.0, 2.0, 4.0, 0.0, -2.0]  openvino [0.0, 2.0, 2.0, 4.0, 0.0, -2.0]
EXPECTED
"$work/venv/bin/python" - > "$work/seen" <<'PYTHON'
from importlib.metadata import version

import numpy as np
import onnxruntime
import openvino
from onnx import TensorProto, helper, numpy_helper

print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime", "openvino")))
x = np.float32([[0.5, 1.5, 2.5, 3.5, -0.5, -1.5]])
print("value            ", x.ravel().tolist())
core = openvino.Core()
core.set_property("CPU", {"INFERENCE_PRECISION_HINT": "f32"})
for zero in (2, 3, 127, 128):
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6])],
        [
            numpy_helper.from_array(np.float32(1), "scale"),
            numpy_helper.from_array(np.uint8(zero), "zero"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    file = model.SerializeToString()
    ort = onnxruntime.InferenceSession(file).run(None, {"x": x})[0] + 0.0
    ov = core.compile_model(core.read_model(file), "CPU")(x)[0] + 0.0
    print(f"zero point {zero:3}    onnxruntime {ort.ravel().tolist()}  openvino {ov.ravel().tolist()}")
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
