#!/usr/bin/env bash
# Question: MaxPool, 2 x 2 window, stride 1, auto_pad=SAME_LOWER, in an ONNX file read by OpenCV's dnn module. Which side is padded?
# Guess:    top and left, as in ONNX Runtime (or an error: OpenCV's layer knows one kind of SAME).
# Seen:     bottom and right, the numbers of SAME_UPPER, without a word. With AveragePool, count_include_pad=1 and SAME_UPPER the
#           sums are wrong too: 1.56 where 6 is due; with the same pads written out, they are right.
# Matters:  the feature map moves by one pixel, so boxes and crops shift by a stride, and a classifier only loses a little.
#           Write pads out before you hand a file to OpenCV.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check numpy==2.3.5 onnx==1.23.2 \
  onnxruntime==1.32.0 opencv-python-headless==5.0.0.93 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 opencv-python-headless 5.0.0.93
MaxPool SAME_LOWER
  onnxruntime [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0]
  opencv      [6.0, 7.0, 8.0, 8.0, 10.0, 11.0, 12.0, 12.0, 14.0, 15.0, 16.0, 16.0, 14.0, 15.0, 16.0, 16.0]
MaxPool SAME_UPPER
  onnxruntime [6.0, 7.0, 8.0, 8.0, 10.0, 11.0, 12.0, 12.0, 14.0, 15.0, 16.0, 16.0, 14.0, 15.0, 16.0, 16.0]
  opencv      [6.0, 7.0, 8.0, 8.0, 10.0, 11.0, 12.0, 12.0, 14.0, 15.0, 16.0, 16.0, 14.0, 15.0, 16.0, 16.0]
AveragePool SAME_UPPER, padding counted
  onnxruntime [6.0, 5.0, 8.0, 6.0]
  opencv      [1.56, 3.33, 6.33, 11.0]
AveragePool pads written out, padding counted
  onnxruntime [6.0, 5.0, 8.0, 6.0]
  opencv      [6.0, 5.0, 8.0, 6.0]
EXPECTED
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import cv2
import numpy as np
import onnxruntime
from onnx import TensorProto, helper

print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime", "opencv-python-headless")))
x = np.arange(1, 17, dtype="float32").reshape(1, 1, 4, 4)
two = {"kernel_shape": [2, 2]}
three = {"kernel_shape": [3, 3], "strides": [2, 2], "count_include_pad": 1}
for label, size, attributes in (
    ("MaxPool SAME_LOWER", 4, two | {"auto_pad": "SAME_LOWER"}),
    ("MaxPool SAME_UPPER", 4, two | {"auto_pad": "SAME_UPPER"}),
    ("AveragePool SAME_UPPER, padding counted", 2, three | {"auto_pad": "SAME_UPPER"}),
    ("AveragePool pads written out, padding counted", 2, three | {"pads": [0, 0, 1, 1]}),
):
    graph = helper.make_graph(
        [helper.make_node(label.split()[0], ["x"], ["y"], **attributes)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, size, size])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    file = model.SerializeToString()
    net = cv2.dnn.readNetFromONNX(np.frombuffer(file, np.uint8))
    net.setInput(x)
    print(label)
    print("  onnxruntime", onnxruntime.InferenceSession(file).run(None, {"x": x})[0].ravel().tolist())
    print("  opencv     ", [round(v, 2) for v in net.forward().ravel().tolist()])
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
