#!/usr/bin/env bash
# Question: onnx.version_converter lifts a file from opset 9 (Upsample, linear, x2) or 10 (Resize) to 13. Same numbers?
# Guess:    yes: the adapter writes coordinate_transformation_mode=asymmetric, the only rule that opsets 9 and 10 have.
# Seen:     it writes no attribute, so the new Resize takes its default, half_pixel: a shifted picture. The checker is
#           content with both files, and nothing warns.
# Matters:  lifting an old file is the usual first step before ONNX Runtime's quantization (per channel needs opset 13).
#           A feature map upsampled inside the network then moves by up to half a pixel, and accuracy falls a little.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0
Upsample, opset  9: [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.0]
  as opset 13:      [0.0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.0] attributes: ['mode']
Resize, opset 10:   [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.0]
  as opset 13:      [0.0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.0] attributes: ['mode']
EXPECTED
"$work/venv/bin/python" - > "$work/seen" <<'PYTHON'
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime")))
x = np.arange(4, dtype="float32").reshape(1, 1, 1, 4)


def run(model):
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"x": x})[0].ravel().tolist()


for kind, opset, label in (("Upsample", 9, "Upsample, opset  9: "), ("Resize", 10, "Resize, opset 10:   ")):
    graph = helper.make_graph(
        [helper.make_node(kind, ["x", "scales"], ["y"], mode="linear")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 1, 8])],
        [helper.make_tensor("scales", TensorProto.FLOAT, [4], [1, 1, 1, 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    lifted = onnx.version_converter.convert_version(model, 13)
    node = next(n for n in lifted.graph.node if n.op_type == "Resize")
    print(label + str(run(model)))
    print("  as opset 13:     ", run(lifted), "attributes:", [a.name for a in node.attribute])
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
