#!/usr/bin/env bash
# Question: CumSum has the switches exclusive and reverse. Paddle's cumsum has neither. What does X2Paddle write for them?
# Guess:    a flip and a subtraction, or an error.
# Seen:     a plain cumsum in all four cases: both attributes are dropped without a word.
# Matters:  exclusive sums turn lengths into offsets and counts into positions; each index is then one item too far, and still in
#           range for all but the last.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  paddlepaddle==3.3.1 x2paddle==1.6.0 onnx==1.17.0 onnxruntime==1.32.0 numpy==2.4.6 protobuf==7.36.2 six==1.17.0 \
  requests==2.34.2 sympy==1.14.0 setuptools==65.5.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.17.0 onnxruntime 1.32.0 paddlepaddle 3.3.1 x2paddle 1.6.0
exclusive=0 reverse=0
  onnxruntime [1.0, 3.0, 6.0, 10.0]
  x2paddle    [1.0, 3.0, 6.0, 10.0]
exclusive=1 reverse=0
  onnxruntime [0.0, 1.0, 3.0, 6.0]
  x2paddle    [1.0, 3.0, 6.0, 10.0]
exclusive=0 reverse=1
  onnxruntime [10.0, 9.0, 7.0, 4.0]
  x2paddle    [1.0, 3.0, 6.0, 10.0]
exclusive=1 reverse=1
  onnxruntime [9.0, 7.0, 4.0, 0.0]
  x2paddle    [1.0, 3.0, 6.0, 10.0]
EXPECTED
cd "$work"
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
import contextlib
import importlib.util
import io
import os
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
import paddle
from onnx import TensorProto, helper, numpy_helper
from x2paddle.convert import onnx2paddle

print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime", "paddlepaddle", "x2paddle")))


def make(kind, x, stored, opset, **attributes):
    node = helper.make_node(kind, ["x", *stored], ["y"], **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in stored.items() if k],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    model = onnx.shape_inference.infer_shapes(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def run_x2paddle(model, x, count=iter(range(99))):
    folder = f"converted{next(count)}"
    onnx.save(model, "model.onnx")
    with contextlib.redirect_stdout(io.StringIO()):
        onnx2paddle("model.onnx", folder, disable_feedback=True)
    spec = importlib.util.spec_from_file_location(folder, f"{folder}/x2paddle_code.py")
    code = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(code)
    paddle.disable_static()
    network = next(v for v in vars(code).values() if isinstance(v, type) and v.__module__ == folder)()
    if os.path.exists(f"{folder}/model.pdparams"):
        network.set_dict(paddle.load(f"{folder}/model.pdparams"))
    network.eval()
    return network(paddle.to_tensor(x)).numpy()


def run_onnxruntime(model, x):
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]


x = np.float32([[1, 2, 3, 4]])
for exclusive, reverse in ((0, 0), (1, 0), (0, 1), (1, 1)):
    model = make("CumSum", x, {"axis": np.array(1)}, 14, exclusive=exclusive, reverse=reverse)
    print(f"exclusive={exclusive} reverse={reverse}")
    for who, run in (("onnxruntime", run_onnxruntime), ("x2paddle", run_x2paddle)):
        print(f"  {who:11}", run(model, x)[0].tolist())
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
