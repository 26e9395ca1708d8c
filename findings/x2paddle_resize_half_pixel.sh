#!/usr/bin/env bash
# Question: Resize, linear, by 2, in each of four coordinate modes. Which pixels does X2Paddle's network read?
# Guess:    the right ones for half_pixel and align_corners, which Paddle has, and an error for the rest.
# Seen:     pytorch_half_pixel and align_corners are right; half_pixel, ONNX's default, and asymmetric become align_corners without a
#           word: of 4 pixels the reading places are up to 0.18 (half_pixel) and 0.43 (asymmetric) off.
# Matters:  half_pixel and pytorch_half_pixel are the same thing for more than one pixel. Which of the two an exporter wrote decides
#           whether a segmentation mask is right.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  paddlepaddle==3.3.1 x2paddle==1.6.0 onnx==1.17.0 onnxruntime==1.32.0 numpy==2.4.6 protobuf==7.36.2 six==1.17.0 \
  requests==2.34.2 sympy==1.14.0 setuptools==65.5.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.17.0 onnxruntime 1.32.0 paddlepaddle 3.3.1 x2paddle 1.6.0
align_corners
  onnxruntime 0.00 0.43 0.86 1.29 1.71 2.14 2.57 3.00
  x2paddle    0.00 0.43 0.86 1.29 1.71 2.14 2.57 3.00
pytorch_half_pixel
  onnxruntime 0.00 0.25 0.75 1.25 1.75 2.25 2.75 3.00
  x2paddle    0.00 0.25 0.75 1.25 1.75 2.25 2.75 3.00
half_pixel
  onnxruntime 0.00 0.25 0.75 1.25 1.75 2.25 2.75 3.00
  x2paddle    0.00 0.43 0.86 1.29 1.71 2.14 2.57 3.00
asymmetric
  onnxruntime 0.00 0.50 1.00 1.50 2.00 2.50 3.00 3.00
  x2paddle    0.00 0.43 0.86 1.29 1.71 2.14 2.57 3.00
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


x = np.arange(4, dtype="float32") * np.ones((4, 1), "float32")
x = x.reshape(1, 1, 4, 4)  # each pixel holds its own column
for place in ("align_corners", "pytorch_half_pixel", "half_pixel", "asymmetric"):
    stored = {"": 0, "scales": np.float32([1, 1, 2, 2])}
    model = make("Resize", x, stored, 13, mode="linear", coordinate_transformation_mode=place)
    print(place)
    for who, run in (("onnxruntime", run_onnxruntime), ("x2paddle", run_x2paddle)):
        print(f"  {who:11}", " ".join(f"{v:.2f}" for v in run(model, x)[0, 0, 0]))
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
