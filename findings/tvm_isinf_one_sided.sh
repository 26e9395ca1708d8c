#!/usr/bin/env bash
# Question: IsInf with detect_negative=0 finds +inf only, with detect_positive=0 -inf only. Does TVM's ONNX importer keep that?
# Guess:    yes; two attributes of one of the smallest operators there are, or an error that names the attribute.
# Seen:     both attributes are dropped without a word: TVM finds both infinities in each case.
# Matters:  a mask of "no score here" is often -inf alone, so that +inf still shows that a network has overflowed. After this
#           import an overflow is masked like padding.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 apache-tvm==0.27.0.post1 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 apache-tvm 0.27.0.post1
x [1.0, -inf, inf, nan]
IsInf both
  onnxruntime [False, True, True, False]
  tvm         [False, True, True, False]
IsInf {'detect_negative': 0}
  onnxruntime [False, False, True, False]
  tvm         [False, True, True, False]
IsInf {'detect_positive': 0}
  onnxruntime [False, True, False, False]
  tvm         [False, True, True, False]
EXPECTED
cd "$work"
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
import tvm
from onnx import TensorProto, helper
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx

print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime", "apache-tvm")))


def run_tvm(model, x):
    module = relax.transform.LegalizeOps()(from_onnx(model))
    machine = relax.VirtualMachine(tvm.compile(module, tvm.target.Target("llvm")), tvm.cpu())
    return machine["main"](tvm.runtime.tensor(x)).numpy()


x = np.float32([[1, -np.inf, np.inf, np.nan]])
print("x", x.ravel().tolist())
for attributes in ({}, {"detect_negative": 0}, {"detect_positive": 0}):
    graph = helper.make_graph(
        [helper.make_node("IsInf", ["x"], ["y"], **attributes)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.BOOL, x.shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    print("IsInf", attributes or "both")
    print("  onnxruntime", onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0].ravel().tolist())
    print("  tvm        ", run_tvm(model, x).ravel().tolist())
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
