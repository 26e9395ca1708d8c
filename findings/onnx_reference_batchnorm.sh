#!/usr/bin/env bash
# Question: a file holds one BatchNormalization for inference. What does ONNX's own reference evaluator make of an image, alone and beside
#           another image?
# Guess:    both times (x - mean) / sqrt(variance + epsilon) with the stored statistics, at every opset, as ONNX Runtime does.
# Seen:     so from opset 14 on. Files of opset 9 to 13 are normalised with 0.9 x stored + 0.1 x this batch's statistics: every number is
#           off, and the same image gets another result in another batch. The nodes have one output, which means inference.
# Matters:  the evaluator is what one asks when two runtimes disagree, and exporters still write opset 9 to 13. It then says that both
#           runtimes are wrong.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0
first number of the same image; 0.49994 = 1 / sqrt(4 + 0.001)
opset  9 alone      onnxruntime 0.49994  reference 0.47428
opset  9 in a batch onnxruntime 0.49994  reference 0.21924
opset 11 alone      onnxruntime 0.49994  reference 0.47428
opset 11 in a batch onnxruntime 0.49994  reference 0.21924
opset 13 alone      onnxruntime 0.49994  reference 0.47428
opset 13 in a batch onnxruntime 0.49994  reference 0.21924
opset 14 alone      onnxruntime 0.49994  reference 0.49994
opset 14 in a batch onnxruntime 0.49994  reference 0.49994
opset 15 alone      onnxruntime 0.49994  reference 0.49994
opset 15 in a batch onnxruntime 0.49994  reference 0.49994
EXPECTED
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime")))
stored = {"scale": [1.0], "bias": [0.0], "mean": [0.0], "variance": [4.0]}
image, other = np.full((1, 1, 2, 2), 1, "float32"), np.full((1, 1, 2, 2), 9, "float32")


def results(opset, x):
    graph = helper.make_graph(
        [helper.make_node("BatchNormalization", ["x", *stored], ["y"], epsilon=1e-3)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1, 2, 2])],
        [numpy_helper.from_array(np.float32(v), k) for k, v in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    sides = onnxruntime.InferenceSession(model.SerializeToString()), ReferenceEvaluator(model)
    return [side.run(None, {"x": x})[0][0, 0, 0, 0] for side in sides]


print("first number of the same image; 0.49994 = 1 / sqrt(4 + 0.001)")
for opset in (9, 11, 13, 14, 15):
    alone = results(opset, image)
    beside = results(opset, np.concatenate([image, other]))
    for name, y in (("alone     ", alone), ("in a batch", beside)):
        print(f"opset {opset:2} {name} onnxruntime {y[0]:.5f}  reference {y[1]:.5f}")
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
