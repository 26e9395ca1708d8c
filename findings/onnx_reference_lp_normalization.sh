#!/usr/bin/env bash
# Question: LpNormalization with p=1 divides a row by its L1 norm. What does ONNX's own reference evaluator make of 1, -2, 4?
# Guess:    1/7, -2/7, 4/7: the L1 norm is the sum of the absolute values, as in ONNX Runtime.
# Seen:     it divides by the sum with its signs: 1/3, -2/3, 4/3. Where the sum is negative every sign turns; where it is 0 the whole row
#           becomes 0. p=2 is right.
# Matters:  whoever checks features divided by their L1 norm against the evaluator finds the runtime "wrong". Features without a
#           negative number, as after a ReLU, show nothing.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0
opset 13 p=1
  x  1.000  2.000  4.000  onnxruntime  0.143  0.286  0.571  reference  0.143  0.286  0.571
  x  1.000 -2.000  4.000  onnxruntime  0.143 -0.286  0.571  reference  0.333 -0.667  1.333
  x  1.000 -2.000 -4.000  onnxruntime  0.143 -0.286 -0.571  reference -0.200  0.400  0.800
  x  1.000 -5.000  4.000  onnxruntime  0.100 -0.500  0.400  reference  0.000  0.000  0.000
opset 13 p=2
  x  1.000  2.000  4.000  onnxruntime  0.218  0.436  0.873  reference  0.218  0.436  0.873
  x  1.000 -2.000  4.000  onnxruntime  0.218 -0.436  0.873  reference  0.218 -0.436  0.873
  x  1.000 -2.000 -4.000  onnxruntime  0.218 -0.436 -0.873  reference  0.218 -0.436 -0.873
  x  1.000 -5.000  4.000  onnxruntime  0.154 -0.772  0.617  reference  0.154 -0.772  0.617
opset 22 p=1
  x  1.000  2.000  4.000  onnxruntime  0.143  0.286  0.571  reference  0.143  0.286  0.571
  x  1.000 -2.000  4.000  onnxruntime  0.143 -0.286  0.571  reference  0.333 -0.667  1.333
  x  1.000 -2.000 -4.000  onnxruntime  0.143 -0.286 -0.571  reference -0.200  0.400  0.800
  x  1.000 -5.000  4.000  onnxruntime  0.100 -0.500  0.400  reference  0.000  0.000  0.000
opset 22 p=2
  x  1.000  2.000  4.000  onnxruntime  0.218  0.436  0.873  reference  0.218  0.436  0.873
  x  1.000 -2.000  4.000  onnxruntime  0.218 -0.436  0.873  reference  0.218 -0.436  0.873
  x  1.000 -2.000 -4.000  onnxruntime  0.218 -0.436 -0.873  reference  0.218 -0.436 -0.873
  x  1.000 -5.000  4.000  onnxruntime  0.154 -0.772  0.617  reference  0.154 -0.772  0.617
EXPECTED
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime")))
rows = np.float32([[1, 2, 4], [1, -2, 4], [1, -2, -4], [1, -5, 4]])
for opset in (13, 22):
    for p in (1, 2):
        graph = helper.make_graph(
            [helper.make_node("LpNormalization", ["x"], ["y"], axis=1, p=p)],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, rows.shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, rows.shape)],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
        onnx.checker.check_model(model, full_check=True)
        sides = onnxruntime.InferenceSession(model.SerializeToString()), ReferenceEvaluator(model)
        print(f"opset {opset} p={p}")
        for x, *pair in zip(rows, *(side.run(None, {"x": rows})[0] for side in sides), strict=True):
            words = [" ".join(f"{v:6.3f}" for v in values) for values in (x, *pair)]
            print(f"  x {words[0]}  onnxruntime {words[1]}  reference {words[2]}")
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
