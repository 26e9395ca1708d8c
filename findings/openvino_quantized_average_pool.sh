#!/usr/bin/env bash
# Question: AveragePool (3 x 3, pads 1, count_include_pad=1) between DequantizeLinear and QuantizeLinear, on a map that is 2.0 everywhere.
#           What does OpenVINO return in the corner?
# Guess:    4 x 2.0 / 9 = 0.9, as for a float map: the padding is the real number 0.
# Seen:     right for zero point 0 and for a float output. With another zero point z the padding counts as the stored 0, which
#           means -z x scale: the corner is negative. count_include_pad=0 is right.
# Matters:  a map after ReLU has zero point 0 in uint8, so most tests pass. Signed int8 maps (z = -128 after ReLU) and maps
#           before an activation get a bright or dark frame, with a file that ONNX Runtime runs right.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 openvino 2026.4.1
a map of 2.0; corner, edge and centre after the pool
uint8 zero point 0   include_pad=1 to quantized onnxruntime  0.9  1.3  2.0  openvino  0.9  1.3  2.0
uint8 zero point 0   include_pad=1 to float     onnxruntime  0.9  1.3  2.0  openvino  0.9  1.3  2.0
uint8 zero point 0   include_pad=0 to quantized onnxruntime  2.0  2.0  2.0  openvino  2.0  2.0  2.0
uint8 zero point 100 include_pad=1 to quantized onnxruntime  0.9  1.3  2.0  openvino -4.7 -2.0  2.0
uint8 zero point 100 include_pad=1 to float     onnxruntime  0.9  1.3  2.0  openvino  0.9  1.3  2.0
uint8 zero point 100 include_pad=0 to quantized onnxruntime  2.0  2.0  2.0  openvino  2.0  2.0  2.0
int8 zero point -128 include_pad=1 to quantized onnxruntime  0.9  1.3  2.0  openvino  8.0  5.6  2.0
int8 zero point -128 include_pad=1 to float     onnxruntime  0.9  1.3  2.0  openvino  0.9  1.3  2.0
int8 zero point -128 include_pad=0 to quantized onnxruntime  2.0  2.0  2.0  openvino  2.0  2.0  2.0
int8 zero point 0    include_pad=1 to quantized onnxruntime  0.9  1.3  2.0  openvino  0.9  1.3  2.0
int8 zero point 0    include_pad=1 to float     onnxruntime  0.9  1.3  2.0  openvino  0.9  1.3  2.0
int8 zero point 0    include_pad=0 to quantized onnxruntime  2.0  2.0  2.0  openvino  2.0  2.0  2.0
EXPECTED
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper, numpy_helper

print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime", "openvino")))
core = openvino.Core()
core.set_property("CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def pooled(zero, include, quantized_end):
    stored = [numpy_helper.from_array(np.float32(0.1), "scale"), numpy_helper.from_array(zero, "zero")]
    pool = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": include}
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "scale", "zero"], ["f"]),
        helper.make_node("AveragePool", ["f"], ["p" if quantized_end else "y"], **pool),
    ]
    if quantized_end:
        nodes.append(helper.make_node("QuantizeLinear", ["p", "scale", "zero"], ["q"]))
        nodes.append(helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]))
    kind = helper.np_dtype_to_tensor_dtype(zero.dtype)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, [1, 1, 3, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 3, 3])],
        stored,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    file = model.SerializeToString()
    x = np.full((1, 1, 3, 3), int(zero) + 20, zero.dtype)
    ort = onnxruntime.InferenceSession(file).run(None, {"x": x})[0]
    return ort, core.compile_model(core.read_model(file), "CPU")(x)[0]


print("a map of 2.0; corner, edge and centre after the pool")
for zero in (np.uint8(0), np.uint8(100), np.int8(-128), np.int8(0)):
    for include, quantized_end in ((1, True), (1, False), (0, True)):
        pair = pooled(zero, include, quantized_end)
        rows = [" ".join(f"{y[0, 0, i, j]:4.1f}" for i, j in ((0, 0), (0, 1), (1, 1))) for y in pair]
        name = f"{zero.dtype} zero point {int(zero)}"
        to = "quantized" if quantized_end else "float"
        print(f"{name:20} include_pad={include} to {to:9} onnxruntime {rows[0]}  openvino {rows[1]}")
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
