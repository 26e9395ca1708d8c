#!/usr/bin/env bash
# Question: ReduceL2 over two axes is the root of a sum of squares, ReduceL1 a sum of absolute values. What does X2Paddle make of it?
# Guess:    the same numbers: both are one line in Paddle too.
# Seen:     a matrix norm. ReduceL2 becomes the largest singular value, ReduceL1 the largest sum of a column, as the converter hands
#           both axes to paddle.norm, which reads two axes as a matrix. One axis is right.
# Matters:  an embedding's or a style loss's norm over height and width is a few per cent too small (L2) or a fraction of itself
#           (L1), with the right shape; a network that divides by it is scaled otherwise for each picture.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  paddlepaddle==3.3.1 x2paddle==1.6.0 onnx==1.17.0 onnxruntime==1.32.0 numpy==2.4.6 protobuf==7.36.2 six==1.17.0 \
  requests==2.34.2 sympy==1.14.0 setuptools==65.5.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.17.0 onnxruntime 1.32.0 paddlepaddle 3.3.1 x2paddle 1.6.0
ReduceL2 axes [2]
  onnxruntime  1.2136 1.2583 1.4079 1.0918 1.4339 1.5552
  x2paddle     1.2136 1.2583 1.4079 1.0918 1.4339 1.5552
ReduceL2 axes [0, 2]
  onnxruntime  1.6325 1.9078 2.0978
  x2paddle     1.5510 1.8706 2.0591
  matrix norm  1.5510 1.8706 2.0591
ReduceL1 axes [2]
  onnxruntime  2.4116 2.3989 2.6677 1.6518 2.5010 3.0198
  x2paddle     2.4116 2.3989 2.6677 1.6518 2.5010 3.0198
ReduceL1 axes [0, 2]
  onnxruntime  4.0635 4.8999 5.6875
  x2paddle     1.6408 1.7618 1.9423
  matrix norm  1.6408 1.7618 1.9423
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


def row(y):
    return " ".join(f"{v:.4f}" for v in y.ravel())


x = np.random.RandomState(0).rand(2, 3, 4).astype("float32")
for kind, axes in (("ReduceL2", [2]), ("ReduceL2", [0, 2]), ("ReduceL1", [2]), ("ReduceL1", [0, 2])):
    model = make(kind, x, {}, 13, axes=axes, keepdims=0)
    print(kind, "axes", axes)
    print("  onnxruntime ", row(run_onnxruntime(model, x)))
    print("  x2paddle    ", row(run_x2paddle(model, x)))
    if len(axes) == 2:
        order = {"ReduceL2": 2, "ReduceL1": 1}[kind]
        print("  matrix norm ", row(np.linalg.norm(x, order, axis=tuple(axes))))
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
