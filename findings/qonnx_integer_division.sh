#!/usr/bin/env bash
# Question: ConvertDivToMul of qonnx, one of the clean-up steps before an FPGA build, on the int32 and int64 224, 100, 7 divided by 2.
#           What does the network return afterwards?
# Guess:    112, 50, 3 as before: the step leaves integers alone, or says that it cannot.
# Seen:     0, 0, 0. The reciprocal is stored in the integer type, where 1/2 is 0, and the network multiplies by it; the checker
#           accepts the file. Divided by 1 all is right, and floats are.
# Matters:  integer division is what a traced "height // 2" is exported as, and quantised networks keep their accumulators in int32. The
#           shape or the sum is then 0, far from the step that did it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 qonnx==1.0.0 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 qonnx 1.0.0
[224.0, 100.0, 7.0] float32 by 1: before [224.0, 100.0, 7.0], after Mul 1.0 [224.0, 100.0, 7.0]
[224.0, 100.0, 7.0] float32 by 2: before [112.0, 50.0, 3.5], after Mul 0.5 [112.0, 50.0, 3.5]
[224, 100, 7] int32 by 1: before [224, 100, 7], after Mul 1 [224, 100, 7]
[224, 100, 7] int32 by 2: before [112, 50, 3], after Mul 0 [0, 0, 0]
[224, 100, 7] int64 by 1: before [224, 100, 7], after Mul 1 [224, 100, 7]
[224, 100, 7] int64 by 2: before [112, 50, 3], after Mul 0 [0, 0, 0]
EXPECTED
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.general import ConvertDivToMul

print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime", "qonnx")))


def run(model, x):
    onnx.checker.check_model(model, full_check=True)
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0].tolist()


for kind in ("float32", "int32", "int64"):
    for divisor in (1, 2):
        x = np.asarray([224, 100, 7], kind)
        ends = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape) for n in "xy"]
        constant = numpy_helper.from_array(np.asarray([divisor], kind), "divisor")
        graph = helper.make_graph([helper.make_node("Div", ["x", "divisor"], ["y"])], "g", ends[:1], ends[1:], [constant])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        changed = ModelWrapper(model).transform(ConvertDivToMul()).model
        steps = [n.op_type for n in changed.graph.node] + numpy_helper.to_array(changed.graph.initializer[0]).tolist()
        print(f"{x.tolist()} {kind} by {divisor}: before {run(model, x)}, after", *steps, run(changed, x))
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
