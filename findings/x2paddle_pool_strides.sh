#!/usr/bin/env bash
# Question: a MaxPool or AveragePool without strides, which ONNX defines as stride 1. Which stride has X2Paddle's network?
# Guess:    1: nothing is ambiguous, and the file passes the checker.
# Seen:     the kernel's size, Paddle's own default: of 9 x 9 only 3 x 3 are left. With strides=[1, 1] written out it is right.
# Matters:  exporters drop attributes that hold the default, so the same network converts rightly or not by who wrote the file. Before
#           a global pool (inception blocks, spatial pyramids) all later shapes still fit.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  paddlepaddle==3.3.1 x2paddle==1.6.0 onnx==1.17.0 onnxruntime==1.32.0 numpy==2.4.6 protobuf==7.36.2 six==1.17.0 \
  requests==2.34.2 sympy==1.14.0 setuptools==65.5.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.17.0 onnxruntime 1.32.0 paddlepaddle 3.3.1 x2paddle 1.6.0
MaxPool {'strides': [1, 1]}: onnxruntime (1, 1, 9, 9) x2paddle (1, 1, 9, 9)
MaxPool no strides: onnxruntime (1, 1, 9, 9) x2paddle (1, 1, 3, 3)
AveragePool {'strides': [1, 1]}: onnxruntime (1, 1, 9, 9) x2paddle (1, 1, 9, 9)
AveragePool no strides: onnxruntime (1, 1, 9, 9) x2paddle (1, 1, 3, 3)
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


x = np.arange(81, dtype="float32").reshape(1, 1, 9, 9)
for kind in ("MaxPool", "AveragePool"):
    for attributes in ({"strides": [1, 1]}, {}):
        model = make(kind, x, {}, 11, kernel_shape=[3, 3], pads=[1, 1, 1, 1], **attributes)
        print(kind, attributes or "no strides", end=": ")
        print("onnxruntime", run_onnxruntime(model, x).shape, "x2paddle", run_x2paddle(model, x).shape)
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
