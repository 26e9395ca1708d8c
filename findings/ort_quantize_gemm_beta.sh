#!/usr/bin/env bash
# Question: quantize_static on a Gemm with beta = 2: y = x w + 2 b. Which bias has the quantized file?
# Guess:    2 b, to the step of an int32: beta stays an attribute, or is multiplied into the stored bias.
# Seen:     half of b, a quarter of what is due. beta goes into the bias's scale and is then set to 1, so the stored integers
#           are halved and stand for b alone (what the file says without optimizations); the fused kernel reads them with
#           the usual scale, which halves them once more. With beta = 0.5 the bias is four times too large.
# Matters:  no step fails, and a comparison of the weights shows nothing. A network whose author scales the bias by beta loses it
#           in the layer that decides the class.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 sympy==1.14.0 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0
beta 1.0: bias seen in the output for x = 0
  float                      [2.0, -1.0, 4.0]
  QDQ       optimizations none [2.0, -1.0, 4.0]
  QDQ       optimizations all  [2.0, -1.0, 4.0]
  QOperator optimizations none [2.0, -1.0, 4.0]
  QOperator optimizations all  [2.0, -1.0, 4.0]
beta 2.0: bias seen in the output for x = 0
  float                      [4.0, -2.0, 8.0]
  QDQ       optimizations none [2.0, -1.0, 4.0]
  QDQ       optimizations all  [1.0, -0.5, 2.0]
  QOperator optimizations none [1.0, -0.5, 2.0]
  QOperator optimizations all  [1.0, -0.5, 2.0]
beta 0.5: bias seen in the output for x = 0
  float                      [1.0, -0.5, 2.0]
  QDQ       optimizations none [2.0, -1.0, 4.0]
  QDQ       optimizations all  [4.0, -2.0, 8.0]
  QOperator optimizations none [4.0, -2.0, 8.0]
  QOperator optimizations all  [4.0, -2.0, 8.0]
EXPECTED
cd "$work"
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime")))
Level = onnxruntime.GraphOptimizationLevel


class Batches(CalibrationDataReader):
    def __init__(self):
        self.rest = iter([{"x": np.float32([[1, -1, 0, 0]])}, {"x": np.float32([[-8, 8, 8, 8]])}])

    def get_next(self):
        return next(self.rest, None)


def run(file, level):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    y = onnxruntime.InferenceSession(file, options).run(None, {"x": np.zeros((1, 4), "float32")})[0]
    return [round(float(v), 1) for v in y[0]]


for beta in (1.0, 2.0, 0.5):
    stored = {"w": np.eye(4, 3, dtype="float32"), "b": np.float32([2, -1, 4])}
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="gemm", beta=beta)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(v, k) for k, v in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")
    print(f"beta {beta}: bias seen in the output for x = 0")
    print("  float                     ", run("model.onnx", Level.ORT_ENABLE_ALL))
    for form in (QuantFormat.QDQ, QuantFormat.QOperator):
        quantize_static("model.onnx", "int8.onnx", Batches(), quant_format=form)
        for name, level in (("none", Level.ORT_DISABLE_ALL), ("all", Level.ORT_ENABLE_ALL)):
            print(f"  {form.name:9} optimizations {name:4}", run("int8.onnx", level))
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
