#!/usr/bin/env bash
# Question: Celu with alpha 0.5 and 2 in an ONNX file. Do tract, OpenVINO and ONNX Runtime agree with its formula,
#           max(0, x) + min(0, alpha (e^(x/alpha) - 1))?
# Guess:    yes, or an error where an operator is missing.
# Seen:     tract forgets the alpha before the bracket: -3 becomes -1.00 for alpha 0.5, where -0.50 is due, and -0.78 for alpha 2,
#           where -1.55 is due. Alpha 1 is right, and so is Elu with any alpha.
# Matters:  for alpha 1, the default, nothing shows, so an operator list and a test with defaults say "supported". The
#           function then has a kink at 0, and each layer passes on shifted numbers.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 tract==0.23.9 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 openvino 2026.4.1 tract 0.23.9
Celu alpha 1.0
  formula     -0.950 -0.632  0.000  2.000
  onnxruntime -0.950 -0.632  0.000  2.000
  openvino    -0.950 -0.632  0.000  2.000
  tract       -0.950 -0.632  0.000  2.000
Celu alpha 0.5
  formula     -0.499 -0.432  0.000  2.000
  onnxruntime -0.499 -0.432  0.000  2.000
  openvino    -0.499 -0.432  0.000  2.000
  tract       -0.998 -0.865  0.000  2.000
Celu alpha 2.0
  formula     -1.554 -0.787  0.000  2.000
  onnxruntime -1.554 -0.787  0.000  2.000
  openvino    -1.554 -0.787  0.000  2.000
  tract       -0.777 -0.393  0.000  2.000
Elu alpha 0.5
  formula     -0.475 -0.316  0.000  2.000
  onnxruntime -0.475 -0.316  0.000  2.000
  openvino    -0.475 -0.316  0.000  2.000
  tract       -0.475 -0.316  0.000  2.000
Elu alpha 2.0
  formula     -1.900 -1.264  0.000  2.000
  onnxruntime -1.900 -1.264  0.000  2.000
  openvino    -1.900 -1.264  0.000  2.000
  tract       -1.900 -1.264  0.000  2.000
EXPECTED
cd "$work"
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
import openvino
import tract
from onnx import TensorProto, helper

print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime", "openvino", "tract")))
core = openvino.Core()
core.set_property("CPU", {"INFERENCE_PRECISION_HINT": "f32"})
x = np.float32([[-3, -1, 0, 2]])
exact = {"Celu": lambda a: np.where(x < 0, a * np.expm1(x / a), x), "Elu": lambda a: np.where(x < 0, a * np.expm1(x), x)}
for kind, alpha in (("Celu", 1.0), ("Celu", 0.5), ("Celu", 2.0), ("Elu", 0.5), ("Elu", 2.0)):
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, x.shape) for n in "xy"]
    graph = helper.make_graph([helper.make_node(kind, ["x"], ["y"], alpha=alpha)], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")
    print(f"{kind} alpha {alpha}")
    for who, y in (
        ("formula", exact[kind](alpha)),
        ("onnxruntime", onnxruntime.InferenceSession("model.onnx").run(None, {"x": x})[0]),
        ("openvino", core.compile_model(core.read_model("model.onnx"), "CPU")(x)[0]),
        ("tract", tract.onnx().load("model.onnx").into_model().into_runnable().run([x])[0].to_numpy()),
    ):
        print(f"  {who:11}", " ".join(f"{v:6.3f}" for v in y.ravel()))
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
