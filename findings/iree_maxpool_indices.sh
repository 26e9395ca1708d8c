#!/usr/bin/env bash
# Question: MaxPool's second output says where each maximum stood. On two channels, does IREE count like ONNX, over the whole tensor?
# Guess:    yes, or an error: many compilers have no second output.
# Seen:     it counts within each channel, as PyTorch does. The first channel agrees; in the second the numbers point into the first.
# Matters:  MaxUnpool and a Gather on the flat tensor take these numbers. With one channel and one picture, the usual test, both ways are
#           the same; from the second on a segmentation decoder puts values in the wrong places.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 iree-base-compiler==3.13.0 iree-base-runtime==3.13.0 protobuf==7.36.2 \
  ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 iree-base-compiler 3.13.0
onnxruntime largest values   [22, 28, 20, 30, 23, 31, 21, 27]
onnxruntime indices          [1, 6, 8, 14, 16, 18, 29, 26]
onnxruntime x at the indices [22, 28, 20, 30, 23, 31, 21, 27]
iree        largest values   [22, 28, 20, 30, 23, 31, 21, 27]
iree        indices          [1, 6, 8, 14, 0, 2, 13, 10]
iree        x at the indices [22, 28, 20, 30, 11, 10, 8, 24]
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


x = np.random.RandomState(0).permutation(32).astype("float32").reshape(1, 2, 4, 4)
node = helper.make_node("MaxPool", ["x"], ["y", "indices"], kernel_shape=[2, 2], strides=[2, 2])
graph = helper.make_graph(
    [node],
    "g",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
    [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 2, 2]),
        helper.make_tensor_value_info("indices", TensorProto.INT64, [1, 2, 2, 2]),
    ],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=8)
onnx.checker.check_model(model, full_check=True)
for who, run in (("onnxruntime", run_onnxruntime), ("iree", run_iree)):
    y, indices = run(model, x)
    print(f"{who:11} largest values  ", y.astype(int).ravel().tolist())
    print(f"{who:11} indices         ", indices.ravel().tolist())
    print(f"{who:11} x at the indices", x.ravel()[indices.ravel()].astype(int).tolist())
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
