#!/usr/bin/env bash
# Question: Gemm with transA=1 multiplies a 3 x 2 input, transposed, by the identity and adds 10, 20, 30. What does MNN return?
# Guess:    the transposed input and the bias, 2 x 3, as ONNX Runtime does.
# Seen:     the right numbers in the wrong order: shape 2 x 3, but filled row by row with the 3 x 2 transposition of the result. What
#           follows reads them so: the greatest number of a row is wrong too. A Transpose before a Gemm or MatMul without transA is right.
# Matters:  exporters fold a transposition into Gemm. Shape, sum, mean and extremes over all numbers are right, and so is a square
#           symmetric example; only a comparison number by number shows it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 MNN==3.6.1 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 MNN 3.6.1
x [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
Gemm transA=1     onnxruntime [[11.0, 23.0, 35.0], [12.0, 24.0, 36.0]] greatest of each row [35.0, 36.0]
Gemm transA=1     mnn         [[11.0, 12.0, 23.0], [24.0, 35.0, 36.0]] greatest of each row [23.0, 36.0]
Transpose, Gemm   onnxruntime [[11.0, 23.0, 35.0], [12.0, 24.0, 36.0]] greatest of each row [35.0, 36.0]
Transpose, Gemm   mnn         [[11.0, 23.0, 35.0], [12.0, 24.0, 36.0]] greatest of each row [35.0, 36.0]
Transpose, MatMul onnxruntime [[1.0, 3.0, 5.0], [2.0, 4.0, 6.0]] greatest of each row [5.0, 6.0]
Transpose, MatMul mnn         [[1.0, 3.0, 5.0], [2.0, 4.0, 6.0]] greatest of each row [5.0, 6.0]
EXPECTED
cd "$work"
"$work/venv/bin/python" - > "$work/all" 2> log <<'PYTHON' || { cat log; exit 1; }
from importlib.metadata import version

import _tools  # MNN's converter; its command line installs a package first, see mnnconvert_installs.sh
import MNN.expr as expr
import MNN.nn as nn
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

print("|", *(f"{p} {version(p)}" for p in ("onnx", "onnxruntime", "MNN")))


def both(nodes, x, outputs, stored):
    """Result of each runtime; outputs is a dictionary from name to (type, shape)."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()],
        [numpy_helper.from_array(v, k) for k, v in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")
    ort = onnxruntime.InferenceSession("model.onnx").run(None, {"x": x})
    names = "-f ONNX --modelFile model.onnx --MNNModel model.mnn --bizCode find"
    _tools.mnnconvert(["mnnconvert", *names.split()])
    net = nn.load_module_from_file("model.mnn", ["x"], list(outputs))
    value = expr.placeholder(list(x.shape), expr.NCHW, expr.float)
    value.write(x)
    return ort, [np.array(expr.convert(y, expr.NCHW).read()) for y in net.onForward([value])]


x = np.arange(1, 7, dtype="float32").reshape(3, 2)
ways = {
    "Gemm transA=1": [helper.make_node("Gemm", ["x", "w", "c"], ["h"], transA=1)],
    "Transpose, Gemm": [helper.make_node("Transpose", ["x"], ["t"]), helper.make_node("Gemm", ["t", "w", "c"], ["h"])],
    "Transpose, MatMul": [helper.make_node("Transpose", ["x"], ["t"]), helper.make_node("MatMul", ["t", "w"], ["h"])],
}
stored = {"w": np.eye(3, dtype="float32"), "c": np.float32([10, 20, 30])}
outputs = {"h": (TensorProto.FLOAT, [2, 3]), "y": (TensorProto.FLOAT, [2])}
print("| x", x.tolist())
for name, nodes in ways.items():
    last = helper.make_node("ReduceMax", ["h"], ["y"], axes=[1], keepdims=0)
    for side, (h, y) in zip(("onnxruntime", "mnn"), both([*nodes, last], x, outputs, stored), strict=True):
        print(f"| {name:17} {side:11} {h.tolist()} greatest of each row {y.tolist()}")
PYTHON
sed -n 's/^| //p' "$work/all" > "$work/seen"
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
