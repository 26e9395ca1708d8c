#!/usr/bin/env bash
# Question: Split (opset 18) with num_outputs where the length is no multiple: 7 rows in 3. Which sizes have tinygrad's parts?
# Guess:    3, 3 and 1, as the operator says: equal parts, and the last one smaller; or an error.
# Seen:     3, 2 and 2: the remainder is spread over the first parts, as numpy.array_split does. 10 in 4 is 3, 3, 2, 2, where 3, 3, 3, 1
#           is due.
# Matters:  parts of different sizes are what a pyramid pool or a split of channels over branches gets; what is read by position
#           after the first part is shifted, and the sum of the sizes is right.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 tinygrad==0.14.0 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 tinygrad 0.14.0
6 rows in 3
  in the file [2, 2, 2]
  onnxruntime [2, 2, 2]
  tinygrad    [2, 2, 2]
7 rows in 3
  in the file [3, 3, 1]
  onnxruntime [3, 3, 1]
  tinygrad    [3, 2, 2]
10 rows in 4
  in the file [3, 3, 3, 1]
  onnxruntime [3, 3, 3, 1]
  tinygrad    [3, 3, 2, 2]
EXPECTED
cd "$work"
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
import os
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

os.environ["DEV"] = "PYTHON"  # needs no compiler
from tinygrad import Tensor
from tinygrad.nn.onnx import OnnxRunner

print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime", "tinygrad")))
for length, parts in ((6, 3), (7, 3), (10, 4)):
    x = np.arange(length, dtype="float32")
    names = [f"y{k}" for k in range(parts)]
    graph = helper.make_graph(
        [helper.make_node("Split", ["x"], names, num_outputs=parts, axis=0)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in names],
    )
    model = onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    )
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")
    print(length, "rows in", parts)
    print("  in the file", [o.type.tensor_type.shape.dim[0].dim_value for o in model.graph.output])
    print("  onnxruntime", [len(v) for v in onnxruntime.InferenceSession("model.onnx").run(None, {"x": x})])
    print("  tinygrad   ", [v.shape[0] for v in OnnxRunner("model.onnx")({"x": Tensor(x)}).values()])
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
