#!/usr/bin/env bash
# Question: onnxoptimizer.optimize(model), default passes, meets Pad (zeros) before MaxPool. Is the result unchanged?
# Guess:    yes: MaxPool's own padding counts as minus infinity, so a pad of zeros must not be folded into it.
# Seen:     pad and pool become one MaxPool with pads. Where all inputs are negative, the border was 0 and is now -1.
#           A pad of -inf, which is safe to fold, stays. onnxsim has it right: it folds -inf and leaves the zeros.
# Matters:  frameworks that imitate "SAME" write Pad + MaxPool. After a ReLU nothing shows, so a test on such a network
#           passes, and one with hard-swish or no activation before the pool changes at its border.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 onnxoptimizer==0.4.2 onnxsim==0.8.1 \
  protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 onnxoptimizer 0.4.2 onnxsim 0.8.1
pad  0.0 as written     ['Pad', 'MaxPool'] [0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0]
pad  0.0 onnxoptimizer  ['MaxPool'] [-1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0]
pad  0.0 onnxsim        ['Pad', 'MaxPool'] [0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0]
pad -inf as written     ['Pad', 'MaxPool'] [-1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0]
pad -inf onnxoptimizer  ['Pad', 'MaxPool'] [-1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0]
pad -inf onnxsim        ['MaxPool'] [-1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0]
EXPECTED
"$work/venv/bin/python" - > "$work/seen" <<'PYTHON'
from importlib.metadata import version

import numpy as np
import onnxoptimizer
import onnxruntime
import onnxsim
from onnx import TensorProto, helper, numpy_helper

print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime", "onnxoptimizer", "onnxsim")))
x = -np.ones((1, 1, 4, 4), "float32")
options = onnxruntime.SessionOptions()
options.log_severity_level = 3
for value in (0.0, -np.inf):
    graph = helper.make_graph(
        [
            helper.make_node("Pad", ["x", "pads", "value"], ["padded"]),
            helper.make_node("MaxPool", ["padded"], ["y"], kernel_shape=[2, 2], strides=[2, 2]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 3, 3])],
        [
            numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1]), "pads"),
            numpy_helper.from_array(np.float32(value), "value"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    results = {
        "as written": model,
        "onnxoptimizer": onnxoptimizer.optimize(model),
        "onnxsim": onnxsim.simplify(model)[0],
    }
    for who, result in results.items():
        session = onnxruntime.InferenceSession(result.SerializeToString(), options)
        kinds = [node.op_type for node in result.graph.node]
        print(f"pad {value:4} {who:14}", kinds, session.run(None, {"x": x})[0].ravel().tolist())
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
