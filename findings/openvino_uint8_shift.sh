#!/usr/bin/env bash
# Question: 4-bit weights lie two in a byte; the file takes the low four bits by BitShift left 4, then right 4, on uint8. What does OpenVINO
#           return for 0x12, 0x9C and 0xF0?
# Guess:    2, 12 and 0, as ONNX Runtime: bits that leave the byte are gone.
# Seen:     15 for each. OpenVINO's uint8 and int8 operators saturate: 0x12 << 4 is 255, 255 + 2 is 255, 1 - 2 is 0. With
#           uint16, int32 and uint32 the results wrap as in ONNX Runtime.
# Matters:  unpacked weights are all the largest code, with no error, and byte counters differ too. BitwiseAnd with 15 is safe for
#           the low bits.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 openvino 2026.4.1
low bits, by shifts  onnxruntime [2, 12, 0]  openvino [15, 15, 15]
low bits, by and     onnxruntime [2, 12, 0]  openvino [2, 12, 0]
Add 2, uint8         onnxruntime [1, 5]  openvino [255, 5]
Sub 2, uint8         onnxruntime [254, 1]  openvino [0, 1]
Add 2, int8          onnxruntime [-127, 5]  openvino [127, 5]
Sub 2, int8          onnxruntime [126, 1]  openvino [-128, 1]
shift left 1, uint16 onnxruntime [65534, 6]  openvino [65534, 6]
Add 2, int32         onnxruntime [-2147483647, 5]  openvino [-2147483647, 5]
Sub 2, int32         onnxruntime [2147483646, 1]  openvino [2147483646, 1]
Add 2, uint32        onnxruntime [1, 5]  openvino [1, 5]
Sub 2, uint32        onnxruntime [4294967294, 1]  openvino [4294967294, 1]
shift left 1, uint32 onnxruntime [4294967294, 6]  openvino [4294967294, 6]
EXPECTED
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import helper, numpy_helper

print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime", "openvino")))
core = openvino.Core()


def show(label, nodes, x, constant):
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, x.shape)],
        [helper.make_tensor_value_info("y", kind, x.shape)],
        [numpy_helper.from_array(np.asarray([constant], x.dtype), "c")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    file = model.SerializeToString()
    ort = onnxruntime.InferenceSession(file).run(None, {"x": x})[0].tolist()
    ov = core.compile_model(core.read_model(file), "CPU")(x)[0].tolist()
    print(f"{label:20} onnxruntime {ort}  openvino {ov}")


left = helper.make_node("BitShift", ["x", "c"], ["h"], direction="LEFT")
right = helper.make_node("BitShift", ["h", "c"], ["y"], direction="RIGHT")
packed = np.uint8([0x12, 0x9C, 0xF0])
show("low bits, by shifts", [left, right], packed, 4)
show("low bits, by and", [helper.make_node("BitwiseAnd", ["x", "c"], ["y"])], packed, 15)
for kind in ("uint8", "int8", "uint16", "int32", "uint32"):
    ends = np.iinfo(kind)
    for operator, values in (("Add", [ends.max, 3]), ("Sub", [ends.min, 3])):
        if kind != "uint16":
            show(f"{operator} 2, {kind}", [helper.make_node(operator, ["x", "c"], ["y"])], np.asarray(values, kind), 2)
    if ends.min == 0 and kind != "uint8":
        shift = helper.make_node("BitShift", ["x", "c"], ["y"], direction="LEFT")
        show(f"shift left 1, {kind}", [shift], np.asarray([ends.max, 3], kind), 1)
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
