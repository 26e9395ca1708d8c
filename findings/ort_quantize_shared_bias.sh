#!/usr/bin/env bash
# Question: two convolutions with weights of 1 and of 0.01 share one bias of 5 (a deduplicated initializer). quantize_static writes
#           the QOperator format. Which bias has each?
# Guess:    5 for both: a bias is stored as int32 with the scale input x weight of its convolution, so two copies are needed.
# Seen:     5 for the first; the second reads the integers of the first with its own scale: 0.05, printed as 0.06, the nearest
#           step of its output. The QDQ format is right.
# Matters:  the file is valid, and tools that store equal tensors once write such files (one prior for each level of a detector). The first layer is right, no step fails, and the size of the error is the ratio of two weight scales.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 sympy==1.14.0 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0
bias of the first and of the second convolution
  float                [5.0, 5.0]
  QDQ       per tensor  [5.0, 5.0]
  QDQ       per channel [5.0, 5.0]
  QOperator per tensor  [5.0, 0.06]
  QOperator per channel [5.0, 0.06]
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


class Batches(CalibrationDataReader):
    def __init__(self):
        self.rest = iter([{"x": np.full((1, 1, 2, 2), v, "float32")} for v in (-2, 2)])

    def get_next(self):
        return next(self.rest, None)


def seen(file):
    ys = onnxruntime.InferenceSession(file).run(None, {"x": np.zeros((1, 1, 2, 2), "float32")})
    return [round(float(y.ravel()[0]), 2) for y in ys]


stored = {
    "large": np.full((1, 1, 1, 1), 1, "float32"),
    "small": np.full((1, 1, 1, 1), 0.01, "float32"),
    "bias": np.float32([5]),
}
graph = helper.make_graph(
    [
        helper.make_node("Conv", ["x", "large", "bias"], ["y1"], name="first"),
        helper.make_node("Conv", ["x", "small", "bias"], ["y2"], name="second"),
    ],
    "g",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 2, 2])],
    [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 1, 2, 2]) for n in ("y1", "y2")],
    [numpy_helper.from_array(v, k) for k, v in stored.items()],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
onnx.checker.check_model(model, full_check=True)
onnx.save(model, "model.onnx")
print("bias of the first and of the second convolution")
print("  float               ", seen("model.onnx"))
for form in (QuantFormat.QDQ, QuantFormat.QOperator):
    for per_channel in (False, True):
        quantize_static("model.onnx", "int8.onnx", Batches(), quant_format=form, per_channel=per_channel)
        print(f"  {form.name:9} per {'channel' if per_channel else 'tensor ':7}", seen("int8.onnx"))
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
