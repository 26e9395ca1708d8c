#!/usr/bin/env bash
# Question: an ONNX file of opset 13 divides a map by ReduceL1(axes=[1], keepdims=1), so that each pixel's channels sum to 1. Over which
#           axes does OpenVINO reduce?
# Guess:    over axis 1, at each opset: ReduceL2, ReduceMean and ReduceMax of the same file are read so.
# Seen:     at opset 13 and 17 over all axes, for ReduceL1, ReduceLogSum and ReduceLogSumExp: they look for the axes in a second
#           input, which these three have from opset 18 on (only ReduceSum from 13). Opsets 11 and 18 are right.
# Matters:  with keepdims the wrong result broadcasts, so every shape fits: attention and colour normalisation by L1, and a
#           log-sum-exp score, are wrong by a constant factor per picture. No warning.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 openvino 2026.4.1
ReduceL1        opset 11 same, 13 all axes, 17 all axes, 18 same
ReduceLogSum    opset 11 same, 13 all axes, 17 all axes, 18 same
ReduceLogSumExp opset 11 same, 13 all axes, 17 all axes, 18 same
ReduceL2        opset 11 same, 13 same, 17 same, 18 same
ReduceMean      opset 11 same, 13 same, 17 same, 18 same
ReduceMax       opset 11 same, 13 same, 17 same, 18 same
ReduceSumSquare opset 11 same, 13 same, 17 same, 18 same
opset 13, sum over the channels of one pixel of x / ReduceL1(x):
  onnxruntime 1.0000  openvino 0.1923
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
x = np.arange(1, 13, dtype="float32").reshape(1, 3, 2, 2)


def results(kind, opset):
    """What the two runtimes return for `kind` over axis 1, and for ReduceL1 the map divided by it."""
    attributes, inputs, stored = {"axes": [1]}, ["x"], []
    if opset >= 18:
        attributes, inputs = {}, ["x", "axes"]
        stored = [numpy_helper.from_array(np.int64([1]), "axes")]
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, ["r"], keepdims=1, **attributes), helper.make_node("Div", ["x", "r"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [
            helper.make_tensor_value_info("r", TensorProto.FLOAT, [1, 1, 2, 2]),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, x.shape),
        ],
        stored,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    file = model.SerializeToString()
    ort = onnxruntime.InferenceSession(file).run(None, {"x": x})
    compiled = core.compile_model(core.read_model(file), "CPU")
    returned = compiled(x)
    return ort, [returned[i] for i in range(2)]


for kind in ("ReduceL1", "ReduceLogSum", "ReduceLogSumExp", "ReduceL2", "ReduceMean", "ReduceMax", "ReduceSumSquare"):
    seen = []
    for opset in (11, 13, 17, 18):
        ort, ov = results(kind, opset)
        same = ort[0].shape == ov[0].shape and np.allclose(ort[0], ov[0])
        seen.append(f"{opset} {'same' if same else 'all axes' if ov[0].size == 1 else 'other'}")
    print(f"{kind:15}", "opset", ", ".join(seen))
ort, ov = results("ReduceL1", 13)
print("opset 13, sum over the channels of one pixel of x / ReduceL1(x):")
print(f"  onnxruntime {ort[1][0, :, 0, 0].sum():.4f}  openvino {ov[1][0, :, 0, 0].sum():.4f}")
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
