#!/usr/bin/env bash
# Question: RoiAlign of opset 10 crops the box 1, 1, 5, 5 from a map that holds its own column number. Where do four tools sample?
# Guess:    all alike: opset 10 has no half-pixel shift; opset 16 brought it in with an attribute and made it the default.
# Seen:     ONNX Runtime and OpenVINO sample columns 2 and 4. onnx's reference evaluator and MNN shift by half a pixel, 1.5
#           and 3.5, as for an opset 16 file, though the file says 10. An opset 16 file is read alike by all four.
# Matters:  a two-stage detector exported before opset 16 takes every box's features half a stride away (8 input pixels at stride
#           16), and every shape fits. The reference evaluator, asked who is right, sides with the wrong one.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 MNN==3.6.1 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 openvino 2026.4.1 MNN 3.6.1
opset 10
  onnxruntime    columns [2.0, 4.0]
  openvino       columns [2.0, 4.0]
  onnx reference columns [1.5, 3.5]
  mnn            columns [1.5, 3.5]
opset 16
  onnxruntime    columns [1.5, 3.5]
  openvino       columns [1.5, 3.5]
  onnx reference columns [1.5, 3.5]
  mnn            columns [1.5, 3.5]
opset 16 output_half_pixel
  onnxruntime    columns [2.0, 4.0]
  openvino       columns [2.0, 4.0]
  onnx reference columns [2.0, 4.0]
  mnn            columns [2.0, 4.0]
EXPECTED
cd "$work"
"$work/venv/bin/python" - > "$work/all" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import _tools  # MNN's converter; its command line installs a package first, see mnnconvert_installs.sh
import MNN.expr as expr
import MNN.nn as nn
import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

print("|", *(f"{p} {version(p)}" for p in ("onnx", "onnxruntime", "openvino", "MNN")))
core = openvino.Core()
core.set_property("CPU", {"INFERENCE_PRECISION_HINT": "f32"})
x = np.tile(np.arange(8, dtype="float32"), (8, 1))[None, None]


def mnn(path):
    names = f"-f ONNX --modelFile {path} --MNNModel model.mnn --bizCode find"
    _tools.mnnconvert(["mnnconvert", *names.split()])
    net = nn.load_module_from_file("model.mnn", ["x"], ["y"])
    value = expr.placeholder(list(x.shape), expr.NCHW, expr.float)
    value.write(x)
    return np.array(expr.convert(net.onForward([value])[0], expr.NCHW).read())


for opset, ir_version, attributes in (
    (10, 5, {}),
    (16, 8, {}),
    (16, 8, {"coordinate_transformation_mode": "output_half_pixel"}),
):
    size = {"output_height": 2, "output_width": 2, "sampling_ratio": 1}
    graph = helper.make_graph(
        [helper.make_node("RoiAlign", ["x", "boxes", "batch"], ["y"], **size, **attributes)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 2, 2])],
        [
            numpy_helper.from_array(np.float32([[1, 1, 5, 5]]), "boxes"),
            numpy_helper.from_array(np.int64([0]), "batch"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")
    print("| opset", opset, *attributes.values())
    for who, y in (
        ("onnxruntime", onnxruntime.InferenceSession("model.onnx").run(None, {"x": x})[0]),
        ("openvino", core.compile_model(core.read_model("model.onnx"), "CPU")(x)[0]),
        ("onnx reference", ReferenceEvaluator(model).run(None, {"x": x})[0]),
        ("mnn", mnn("model.onnx")),
    ):
        print(f"|   {who:14} columns", y[0, 0, 0].tolist())
PYTHON
sed -n 's/^| //p' "$work/all" > "$work/seen"
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
