#!/usr/bin/env bash
# Question: MaxPool, 2 x 2 window, stride 3, pads 1, ceil_mode=1, on a 5 x 5 map (opset 12). What shape comes out?
# Guess:    3 x 3, ceil((5 + 2 - 2) / 3) + 1, in every tool, or 2 x 2 in every tool.
# Seen:     onnx's shape inference writes 3 x 3 into the file and its reference evaluator returns 2 x 2. ONNX Runtime returns
#           2 x 2 and only warns. OpenVINO returns 3 x 3: its last windows hold padding alone, so they are the lowest float32.
# Matters:  the head after such a pool is sized by one tool and fed by another. In OpenVINO one global average after it turns
#           the scores into -1e37. Choose pads so that the last window touches the map.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 openvino 2026.4.1
shape inference [3, 3]
onnx reference  [2, 2] [[1.0, 4.0], [16.0, 19.0]]
onnxruntime     [2, 2] [[1.0, 4.0], [16.0, 19.0]]
openvino        [3, 3] [[1.0, 4.0, 'lowest'], [16.0, 19.0, 'lowest'], ['lowest', 'lowest', 'lowest']]
EXPECTED
"$work/venv/bin/python" - > "$work/seen" <<'PYTHON'
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime", "openvino")))
x = np.arange(1, 26, dtype="float32").reshape(1, 1, 5, 5)
node = helper.make_node(
    "MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[3, 3], pads=[1, 1, 1, 1], ceil_mode=1
)
graph = helper.make_graph(
    [node],
    "g",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 5, 5])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=8)
inferred = onnx.shape_inference.infer_shapes(model).graph.output[0].type.tensor_type.shape
print("shape inference", [d.dim_value for d in inferred.dim][2:])
file = model.SerializeToString()
lowest = float(np.finfo("float32").min)
core = openvino.Core()
core.set_property("CPU", {"INFERENCE_PRECISION_HINT": "f32"})
for who, y in (
    ("onnx reference ", ReferenceEvaluator(model).run(None, {"x": x})[0]),
    ("onnxruntime    ", onnxruntime.InferenceSession(file).run(None, {"x": x})[0]),
    ("openvino       ", core.compile_model(core.read_model(file), "CPU")(x)[0]),
):
    rows = [["lowest" if v == lowest else v for v in row] for row in y[0, 0].tolist()]
    print(who, list(y.shape[2:]), rows)
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
