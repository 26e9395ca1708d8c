#!/usr/bin/env bash
# Question: quantize_static, MinMax, CalibMovingAverage on. Four batches reach 1, 1, 1 and 100. Which maximum is used, for a
#           CalibMovingAverageConstant of 0.01 and of 0.9?
# Guess:    an exponential average in the order of the batches: about 2 for 0.01, about 90 for 0.9.
# Seen:     25.75 for both, the plain mean of the four. The constant only joins one collect_data() call to the next, and
#           quantize_static makes a single call. The order of the batches does not matter either.
# Matters:  a search over this constant compares equal files. A rare large activation is cut to its share of the
#           batches: one batch in a hundred hardly counts, whatever the constant.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 sympy==1.14.0 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0
no average            input's maximum 100.00
constant 0.01         input's maximum 25.75
constant 0.9          input's maximum 25.75
constant 0.9, 100 1st input's maximum 25.75
EXPECTED
cd "$work"
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime")))
weight = numpy_helper.from_array(np.eye(4, dtype="float32"), "weight")
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "weight"], ["y"], name="matmul")],
    "g",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
    [weight],
)
onnx.save(
    helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), "model.onnx"
)


class Batches(CalibrationDataReader):
    def __init__(self, peaks):
        self.rest = iter([{"x": np.float32([[-p, -p / 2, p / 2, p]])} for p in peaks])

    def get_next(self):
        return next(self.rest, None)


def maximum(peaks, **options):
    quantize_static(
        "model.onnx",
        "int8.onnx",
        Batches(peaks),
        activation_type=QuantType.QUInt8,
        extra_options={**options, "ActivationSymmetric": True},
    )
    stored = {t.name: numpy_helper.to_array(t) for t in onnx.load("int8.onnx").graph.initializer}
    return float(stored["x_scale"]) * 127.5


ema = "CalibMovingAverage", "CalibMovingAverageConstant"
last, first = (1, 1, 1, 100), (100, 1, 1, 1)
for label, peaks, options in (
    ("no average", last, {}),
    ("constant 0.01", last, dict(zip(ema, (True, 0.01)))),
    ("constant 0.9", last, dict(zip(ema, (True, 0.9)))),
    ("constant 0.9, 100 1st", first, dict(zip(ema, (True, 0.9)))),
):
    print(f"{label:21} input's maximum {maximum(peaks, **options):.2f}")
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
