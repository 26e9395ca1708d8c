#!/usr/bin/env bash
# Question: Resize by a scale of 0.6 and of 1.7 on 7 pixels: 4 and 11 of them come out. Which pixels does TVM's ONNX importer read?
# Guess:    those of the formula, (i + 0.5) / scale - 0.5, as in ONNX Runtime; or an error for a scale that does not divide evenly.
# Seen:     the scale is used for the shape only. TVM then reads at (i + 0.5) * 7 / 4 - 0.5: at most 0.25 pixels too far, growing from
#           left to right. With 0.5 on 8 pixels, where shape and scale agree, both are equal.
# Matters:  feature pyramids and detectors are exported with a scale, and odd sizes are what a picture of any size gives. No
#           shape differs, so only the numbers tell.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 apache-tvm==0.27.0.post1 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 apache-tvm 0.27.0.post1
8 pixels, scale 0.5, read at
  formula      0.50  2.50  4.50  6.50
  onnxruntime  0.50  2.50  4.50  6.50
  tvm          0.50  2.50  4.50  6.50
  by sizes     0.50  2.50  4.50  6.50
7 pixels, scale 0.6, read at
  formula      0.33  2.00  3.67  5.33
  onnxruntime  0.33  2.00  3.67  5.33
  tvm          0.38  2.12  3.88  5.62
  by sizes     0.38  2.12  3.88  5.62
7 pixels, scale 1.7, read at
  formula      0.00  0.38  0.97  1.56  2.15  2.74  3.32  3.91  4.50  5.09  5.68
  onnxruntime  0.00  0.38  0.97  1.56  2.15  2.74  3.32  3.91  4.50  5.09  5.68
  tvm          0.00  0.45  1.09  1.73  2.36  3.00  3.64  4.27  4.91  5.55  6.00
  by sizes     0.00  0.45  1.09  1.73  2.36  3.00  3.64  4.27  4.91  5.55  6.00
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


for width, scale in ((8, 0.5), (7, 0.6), (7, 1.7)):
    x = np.arange(width, dtype="float32").reshape(1, 1, 1, width)  # each pixel holds its own place
    size = int(width * scale)
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="linear")
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 1, size])],
        [numpy_helper.from_array(np.float32([1, 1, 1, scale]), "scales")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    print(f"{width} pixels, scale {scale}, read at")
    for who, y in (
        ("formula", np.clip((np.arange(size) + 0.5) / scale - 0.5, 0, width - 1)),
        ("onnxruntime", onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]),
        ("tvm", run_tvm(model, x)),
        ("by sizes", np.clip((np.arange(size) + 0.5) * width / size - 0.5, 0, width - 1)),
    ):
        print(f"  {who:11}", " ".join(f"{v:5.2f}" for v in y.ravel()))
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
