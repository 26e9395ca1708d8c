#!/usr/bin/env bash
# Question: Upsample (opset 9), linear, by 2 and 3: it has no coordinate mode, output i is read at i / scale. Where does IREE read?
# Guess:    there, or an error: the operator has been deprecated since opset 10.
# Seen:     at (i + 0.5) / scale - 0.5, the default of its successor Resize: shifted by a quarter (2) and a third (3) of a pixel.
# Matters:  old segmentation files come with Upsample. Masks are shifted by up to a pixel of the output, and
#           a thin object's overlap pays for it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 iree-base-compiler==3.13.0 iree-base-runtime==3.13.0 protobuf==7.36.2 \
  ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 iree-base-compiler 3.13.0
Upsample by 2.0 reads at
  i / scale   0.00 0.50 1.00 1.50 2.00 2.50 3.00 3.00
  onnxruntime 0.00 0.50 1.00 1.50 2.00 2.50 3.00 3.00
  iree        0.00 0.25 0.75 1.25 1.75 2.25 2.75 3.00
  half pixel  0.00 0.25 0.75 1.25 1.75 2.25 2.75 3.00
Upsample by 3.0 reads at
  i / scale   0.00 0.33 0.67 1.00 1.33 1.67 2.00 2.33 2.67 3.00 3.00 3.00
  onnxruntime 0.00 0.33 0.67 1.00 1.33 1.67 2.00 2.33 2.67 3.00 3.00 3.00
  iree        0.00 0.00 0.33 0.67 1.00 1.33 1.67 2.00 2.33 2.67 3.00 3.00
  half pixel  0.00 0.00 0.33 0.67 1.00 1.33 1.67 2.00 2.33 2.67 3.00 3.00
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


x = np.arange(4, dtype="float32").reshape(1, 1, 1, 4)  # each pixel holds its own place
for scale in (2.0, 3.0):
    graph = helper.make_graph(
        [helper.make_node("Upsample", ["x", "scales"], ["y"], mode="linear")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 1, int(4 * scale)])],
        [numpy_helper.from_array(np.float32([1, 1, 1, scale]), "scales")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    place = np.arange(int(4 * scale))
    print("Upsample by", scale, "reads at")
    for who, y in (
        ("i / scale", np.clip(place / scale, 0, 3)),
        ("onnxruntime", run_onnxruntime(model, x)[0]),
        ("iree", run_iree(model, x)[0]),
        ("half pixel", np.clip((place + 0.5) / scale - 0.5, 0, 3)),
    ):
        print(f"  {who:11}", " ".join(f"{v:.2f}" for v in y.ravel()))
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
