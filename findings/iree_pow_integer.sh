#!/usr/bin/env bash
# Question: Pow of negative numbers to whole exponents: (-7) to the 2 in int32, (-2) to the 3 in float32. What does IREE compute?
# Guess:    49 and -8; integers exactly, as int32 holds them all.
# Seen:     -2147483648 and NaN. The power is computed as that of a float with a positive base: each negative base is NaN, whatever
#           the exponent, and NaN as int32 is the smallest one. 10 to the 9 is 1000000768.
# Matters:  Pow with exponent 2 is how a variance, a norm and a tanh GELU (exponent 3) are exported, and their input is centred on 0: half
#           of it is negative. Tests with pixels, which are not, pass.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 iree-base-compiler==3.13.0 iree-base-runtime==3.13.0 protobuf==7.36.2 \
  ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 iree-base-compiler 3.13.0
int32 [-7, 7, 2, 10] to the int32 [2, 3, 10, 9]
  onnxruntime [49, 343, 1024, 1000000000]
  iree        [-2147483648, 343, 1024, 1000000768]
float32 [-2.0, -2.0, 3.0, 0.5] to the int64 [3, 2, 2, -1]
  onnxruntime [-8.0, 4.0, 9.0, 2.0]
  iree        [nan, nan, 9.0, 2.0]
float32 [-2.0, -2.0, 3.0, 0.5] to the float32 [3.0, 2.0, 2.0, -1.0]
  onnxruntime [-8.0, 4.0, 9.0, 2.0]
  iree        [nan, nan, 9.0, 2.0]
EXPECTED
cd "$work"
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
import subprocess
import sys
from importlib.metadata import version

import iree.compiler
import iree.runtime
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime", "iree-base-compiler")))


def run_iree(model, x):
    onnx.save(model, "model.onnx")
    importer = [sys.executable, "-m", "iree.compiler.tools.import_onnx", "model.onnx", "-o", "model.mlir"]
    subprocess.run(importer, check=True, capture_output=True)
    options = {"input_type": "onnx", "target_backends": ["llvm-cpu"], "extra_args": ["--iree-llvmcpu-target-cpu=generic"]}
    code = iree.compiler.compile_file("model.mlir", **options)
    y = iree.runtime.load_vm_flatbuffer(code, driver="local-sync").g(x)
    return [np.asarray(v) for v in (y if isinstance(y, (list, tuple)) else [y])]


def run_onnxruntime(model, x):
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})


for base, exponent in (
    (np.int32([-7, 7, 2, 10]), np.int32([2, 3, 10, 9])),
    (np.float32([-2, -2, 3, 0.5]), np.int64([3, 2, 2, -1])),
    (np.float32([-2, -2, 3, 0.5]), np.float32([3, 2, 2, -1])),
):
    ends = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(base.dtype), base.shape) for n in "xy"]
    node = helper.make_node("Pow", ["x", "exponent"], ["y"])
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [numpy_helper.from_array(exponent, "exponent")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    print(base.dtype, base.tolist(), "to the", exponent.dtype, exponent.tolist())
    print("  onnxruntime", run_onnxruntime(model, base)[0].tolist())
    print("  iree       ", run_iree(model, base)[0].tolist())
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
