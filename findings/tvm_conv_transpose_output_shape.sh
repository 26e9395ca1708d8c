#!/usr/bin/env bash
# Question: ConvTranspose, 3 x 3, stride 2, on 7 x 7 has 15 x 15 outputs unless output_shape asks for 14 or 13, which crops.
#           Which border does TVM's ONNX importer crop?
# Guess:    the one ONNX Runtime crops, or an error if output_shape is not supported.
# Seen:     none: the attribute is dropped without a word, and all 15 x 15 are computed, although the file's output says otherwise.
# Matters:  output_shape is how a decoder makes an odd pyramid level fit its skip connection. The next operator fails at best;
#           before a global pool or a broadcast nothing fails, and the extra rows count.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 apache-tvm==0.27.0.post1 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 apache-tvm 0.27.0.post1
output_shape 13 x 13
  onnxruntime 1x1x13x13 first 5.0 last 5.0 sum 1805.0
  tvm         1x1x15x15 first 1.0 last 9.0 sum 2205.0
output_shape 14 x 14
  onnxruntime 1x1x14x14 first 5.0 last 9.0 sum 2080.0
  tvm         1x1x15x15 first 1.0 last 9.0 sum 2205.0
output_shape 15 x 15
  onnxruntime 1x1x15x15 first 1.0 last 9.0 sum 2205.0
  tvm         1x1x15x15 first 1.0 last 9.0 sum 2205.0
EXPECTED
cd "$work"
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
import tvm
from onnx import TensorProto, helper, numpy_helper
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx

print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime", "apache-tvm")))


def run_tvm(model, x):
    module = relax.transform.LegalizeOps()(from_onnx(model))
    machine = relax.VirtualMachine(tvm.compile(module, tvm.target.Target("llvm")), tvm.cpu())
    return machine["main"](tvm.runtime.tensor(x)).numpy()


x = np.ones((1, 1, 7, 7), "float32")
weight = np.arange(1, 10, dtype="float32").reshape(1, 1, 3, 3)
for side in (13, 14, 15):
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2], output_shape=[side, side])
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, side, side])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    print(f"output_shape {side} x {side}")
    for who, y in (
        ("onnxruntime", onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]),
        ("tvm", run_tvm(model, x)),
    ):
        print(f"  {who:11}", "x".join(map(str, y.shape)), "first", y[0, 0, 0, 0], "last", y[0, 0, -1, -1], "sum", y.sum())
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
