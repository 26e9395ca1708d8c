#!/usr/bin/env bash
# Question: GlobalLpPool over a map that is 3 everywhere: what does tract return?
# Guess:    the norm of the map, as ONNX Runtime does: for 2 x 2 numbers and p=2, sqrt(4 x 9) = 6.
# Seen:     3: tract takes the mean of the powers in place of their sum, so the result is smaller by the p-th root of the number of
#           pixels: 2 for 2 x 2 and p=2, 4 for 4 x 4.
# Matters:  the factor depends on the size of the map. Scores behind the pool shift, and a model of free input size shifts by another
#           factor at every size; one image looked at alone seems plausible, because the mean of powers is GeM pooling.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 tract==0.23.9 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 tract 0.23.9
3, 2 x 2 p=1 onnxruntime 12.000 tract  3.000
3, 2 x 2 p=2 onnxruntime  6.000 tract  3.000
3, 2 x 2 p=3 onnxruntime  4.762 tract  3.000
3, 4 x 4 p=1 onnxruntime 48.000 tract  3.000
3, 4 x 4 p=2 onnxruntime 12.000 tract  3.000
3, 4 x 4 p=3 onnxruntime  7.560 tract  3.000
1 2 3 4  p=1 onnxruntime 10.000 tract  2.500
1 2 3 4  p=2 onnxruntime  5.477 tract  2.739
1 2 3 4  p=3 onnxruntime  4.642 tract  2.924
EXPECTED
cd "$work"
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
import tract
from onnx import TensorProto, helper

print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime", "tract")))


def pooled(x, p):
    graph = helper.make_graph(
        [helper.make_node("GlobalLpPool", ["x"], ["y"], p=p)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 1, 1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")
    ort = onnxruntime.InferenceSession("model.onnx").run(None, {"x": x})[0]
    runner = tract.onnx().load("model.onnx").into_model().into_runnable()
    return ort.item(), runner.run([x])[0].to_numpy().item()


ramp = np.float32([[[[1, 2], [3, 4]]]])
for name, x in (("3, 2 x 2", np.full((1, 1, 2, 2), 3, "float32")), ("3, 4 x 4", np.full((1, 1, 4, 4), 3, "float32")), ("1 2 3 4 ", ramp)):
    for p in (1, 2, 3):
        ort, seen = pooled(x, p)
        print(f"{name} p={p} onnxruntime {ort:6.3f} tract {seen:6.3f}")
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
