#!/usr/bin/env bash
# Question: MNN's converter turns an ONNX MaxPool with a 3 x 3 window and dilation 2 on a 9 x 9 map into its format. What comes out?
# Guess:    the same 5 x 5 result as ONNX Runtime, or an error at conversion.
# Seen:     7 x 7: the dilation is dropped, the window covers 3 pixels in place of 5. The conversion reports success.
# Matters:  one pool of a segmentation or key point head shrinks less on the phone than it did in training. Where the next layer
#           takes any size, nothing fails: maximum and place are just wrong.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 MNN==3.6.1 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 MNN 3.6.1
onnxruntime (1, 1, 5, 5) first row [40.0, 41.0, 42.0, 43.0, 44.0]
mnn         (1, 1, 7, 7) first row [20.0, 21.0, 22.0, 23.0, 24.0, 25.0, 26.0]
EXPECTED
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import onnx
from onnx import TensorProto, helper

node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], strides=[1, 1], dilations=[2, 2])
graph = helper.make_graph(
    [node],
    "g",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 9, 9])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 5, 5])],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
onnx.save(model, "model.onnx")
PYTHON
"$work/venv/bin/python" - > "$work/all" 2> log <<'PYTHON' || { cat log; exit 1; }
from importlib.metadata import version

import _tools  # MNN's converter; its command line installs a package first, see mnnconvert_installs.sh
import MNN.expr as expr
import MNN.nn as nn
import numpy as np
import onnxruntime

print("|", *(f"{p} {version(p)}" for p in ("onnx", "onnxruntime", "MNN")))
x = np.arange(81, dtype="float32").reshape(1, 1, 9, 9)
y = onnxruntime.InferenceSession("model.onnx").run(None, {"x": x})[0]
print("| onnxruntime", y.shape, "first row", y[0, 0, 0].tolist())
names = "-f ONNX --modelFile model.onnx --MNNModel model.mnn --bizCode find"
_tools.mnnconvert(["mnnconvert", *names.split()])
net = nn.load_module_from_file("model.mnn", ["x"], ["y"])
value = expr.placeholder([1, 1, 9, 9], expr.NCHW, expr.float)
value.write(x)
y = np.array(expr.convert(net.onForward([value])[0], expr.NCHW).read())
print("| mnn        ", y.shape, "first row", y[0, 0, 0].tolist())
PYTHON
sed -n 's/^| //p' "$work/all" > "$work/seen"
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
