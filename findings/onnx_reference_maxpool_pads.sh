#!/usr/bin/env bash
# Question: a 2 x 2 MaxPool with stride 1 on a 6 x 6 map, pads=[0, 0, 1, 1], as TensorFlow's SAME and the last pool of a tiny YOLO have it.
#           Which shape has the result of ONNX's reference evaluator?
# Guess:    6 x 6: pads are top, left, bottom, right, as for every other operator and in ONNX Runtime.
# Seen:     5 x 7: MaxPool with stride 1 takes them as top, bottom, left, right. [1, 0, 1, 0] and [1, 1, 0, 0] change places. With
#           stride 2, in AveragePool, and where all sides have the same pad the evaluator is right.
# Matters:  the evaluator is what one asks when two runtimes disagree. On this pool it blames the runtime that is right, and a
#           network whose next layer takes any size runs through with another map.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0
first row and shape; pads are top, left, bottom, right
MaxPool pads [0, 0, 1, 1] stride 1
  onnxruntime (6, 6) 7 8 9 10 11 11
  reference   (5, 7) 6 7 8 9 10 11 11
MaxPool pads [1, 0, 1, 0] stride 1
  onnxruntime (7, 5) 1 2 3 4 5
  reference   (6, 6) 0 1 2 3 4 5
MaxPool pads [1, 1, 0, 0] stride 1
  onnxruntime (6, 6) 0 1 2 3 4 5
  reference   (7, 5) 1 2 3 4 5
MaxPool pads [1, 1, 1, 1] stride 1
  onnxruntime (7, 7) 0 1 2 3 4 5 5
  reference   (7, 7) 0 1 2 3 4 5 5
MaxPool pads [0, 0, 1, 1] stride 2
  onnxruntime (3, 3) 7 9 11
  reference   (3, 3) 7 9 11
AveragePool pads [0, 0, 1, 1] stride 1
  onnxruntime (6, 6) 3.5 4.5 5.5 6.5 7.5 8
  reference   (6, 6) 3.5 4.5 5.5 6.5 7.5 8
AveragePool pads [1, 0, 1, 0] stride 1
  onnxruntime (7, 5) 0.5 1.5 2.5 3.5 4.5
  reference   (7, 5) 0.5 1.5 2.5 3.5 4.5
AveragePool pads [1, 1, 0, 0] stride 1
  onnxruntime (6, 6) 0 0.5 1.5 2.5 3.5 4.5
  reference   (6, 6) 0 0.5 1.5 2.5 3.5 4.5
AveragePool pads [1, 1, 1, 1] stride 1
  onnxruntime (7, 7) 0 0.5 1.5 2.5 3.5 4.5 5
  reference   (7, 7) 0 0.5 1.5 2.5 3.5 4.5 5
AveragePool pads [0, 0, 1, 1] stride 2
  onnxruntime (3, 3) 3.5 5.5 7.5
  reference   (3, 3) 3.5 5.5 7.5
EXPECTED
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime")))
x = np.arange(36, dtype="float32").reshape(1, 1, 6, 6)


def pooled(op, pads, stride):
    node = helper.make_node(op, ["x"], ["y"], kernel_shape=[2, 2], pads=pads, strides=[stride, stride])
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, None, None])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    sides = onnxruntime.InferenceSession(model.SerializeToString()), ReferenceEvaluator(model)
    return [side.run(None, {"x": x})[0][0, 0] for side in sides]


print("first row and shape; pads are top, left, bottom, right")
for op in ("MaxPool", "AveragePool"):
    for pads, stride in (([0, 0, 1, 1], 1), ([1, 0, 1, 0], 1), ([1, 1, 0, 0], 1), ([1, 1, 1, 1], 1), ([0, 0, 1, 1], 2)):
        ort, ref = pooled(op, pads, stride)
        words = [f"{y.shape} {' '.join(f'{v:g}' for v in y[0])}" for y in (ort, ref)]
        print(f"{op} pads {pads} stride {stride}\n  onnxruntime {words[0]}\n  reference   {words[1]}")
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
