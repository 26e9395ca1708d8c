#!/usr/bin/env bash
# Question: a Quant node of qonnx with rounding_mode FLOOR or CEIL becomes QuantizeLinear + Clip + DequantizeLinear by
#           QuantToQCDQ. Are the numbers the same?
# Guess:    for ROUND yes. QuantizeLinear can only round to even, so for the other modes the step leaves the node as it is, as it does
#           where a zero point is not 0.
# Seen:     the attribute is dropped without a word: FLOOR of 1.9 is 1 before and 2 after, CEIL of 1.1 is 2 and then 1.
#           With FLOOR, each value with a fraction above a half differs by one code. ROUND is the same; with a zero point of 2 the
#           node stays as it is.
# Matters:  FLOOR is what cheap hardware does, so it is what such a network was trained with. The converted file, run to check the
#           accuracy, has each layer half a code higher on average.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 qonnx==1.0.0 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 qonnx 1.0.0
input, scale 1, 4 bits     -1.9 -1.1 -0.4 0.4 1.1 1.9 6.5 9.0
ROUND zero point 0, qonnx   -2.0 -1.0 0.0 0.0 1.0 2.0 6.0 7.0
  becomes QuantizeLinear Clip DequantizeLinear
  onnxruntime              -2.0 -1.0 0.0 0.0 1.0 2.0 6.0 7.0
FLOOR zero point 0, qonnx   -2.0 -2.0 -1.0 0.0 1.0 1.0 6.0 7.0
  becomes QuantizeLinear Clip DequantizeLinear
  onnxruntime              -2.0 -1.0 0.0 0.0 1.0 2.0 6.0 7.0
CEIL  zero point 0, qonnx   -1.0 -1.0 0.0 1.0 2.0 2.0 7.0 7.0
  becomes QuantizeLinear Clip DequantizeLinear
  onnxruntime              -2.0 -1.0 0.0 0.0 1.0 2.0 6.0 7.0
ROUND zero point 2, qonnx   -2.0 -1.0 0.0 0.0 1.0 2.0 5.0 5.0
  becomes Quant
EXPECTED
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.qonnx_to_qcdq import QuantToQCDQ

print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime", "qonnx")))
x = np.float32([-1.9, -1.1, -0.4, 0.4, 1.1, 1.9, 6.5, 9.0])
print("input, scale 1, 4 bits    ", *x)
for mode, zero in (("ROUND", 0), ("FLOOR", 0), ("CEIL", 0), ("ROUND", 2)):
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, x.shape) for n in "xy"]
    numbers = [numpy_helper.from_array(np.float32(v), n) for n, v in (("scale", 1), ("zero", zero), ("bits", 4))]
    names, domain = ["x", "scale", "zero", "bits"], "qonnx.custom_op.general"
    node = helper.make_node("Quant", names, ["y"], domain=domain, signed=1, narrow=0, rounding_mode=mode)
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid(domain, 1)]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], numbers)
    model = ModelWrapper(helper.make_model(graph, opset_imports=opsets, ir_version=8))
    before = execute_onnx(model, {"x": x})["y"]
    model = model.transform(QuantToQCDQ())
    steps = [n.op_type for n in model.graph.node if n.op_type != "Constant"]
    print(f"{mode:5} zero point {zero}, qonnx  ", *(before + 0))
    print("  becomes", *steps)
    if "Quant" not in steps:
        after = onnxruntime.InferenceSession(model.model.SerializeToString()).run(None, {"x": x})[0]
        print("  onnxruntime             ", *(after + 0))
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
