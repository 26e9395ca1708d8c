#!/usr/bin/env bash
# Question: the preprocessing is in the ONNX file: Resize (opset 18, linear, antialias=1) of a uint8 picture from 53 x 37 to 24 x 17.
#           How far from Pillow's bilinear resize are ONNX Runtime and OpenVINO?
# Guess:    a grey level at most for both, or an error from one that lacks the attribute.
# Seen:     OpenVINO reads the file, says nothing and does not antialias: up to 102 levels, 99% of the values. ONNX Runtime
#           is within 1 only if the file also says exclude_outside=1; without it, the border is up to 11 levels off.
# Matters:  "resize inside the model" promises equal pixels on each runtime. Here it is the old train/serve difference again,
#           and a shape check passes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check numpy==2.3.5 onnx==1.23.2 \
  onnxruntime==1.32.0 openvino==2026.4.1 pillow==13.0.0 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 openvino 2026.4.1 pillow 13.0.0
exclude_outside=0 onnxruntime  all: at most 11   without 3 border pixels: at most 1
exclude_outside=0 openvino     all: at most 102   without 3 border pixels: at most 102
exclude_outside=1 onnxruntime  all: at most 1   without 3 border pixels: at most 1
exclude_outside=1 openvino     all: at most 102   without 3 border pixels: at most 102
EXPECTED
"$work/venv/bin/python" - > "$work/seen" <<'PYTHON'
from importlib.metadata import version

import numpy as np
import onnxruntime
import openvino
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime", "openvino", "pillow")))
x = np.random.RandomState(0).randint(0, 256, (1, 3, 37, 53), dtype=np.uint8)
picture = Image.fromarray(np.ascontiguousarray(x[0].transpose(1, 2, 0)))
pillow = np.asarray(picture.resize((24, 17), Image.Resampling.BILINEAR)).transpose(2, 0, 1).astype(int)
core = openvino.Core()
core.set_property("CPU", {"INFERENCE_PRECISION_HINT": "f32"})
for outside in (0, 1):
    node = helper.make_node(
        "Resize", ["x", "", "", "size"], ["y"], mode="linear", antialias=1, exclude_outside=outside
    )
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 3, 37, 53])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [1, 3, 17, 24])],
        [numpy_helper.from_array(np.array([1, 3, 17, 24]), "size")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    file = model.SerializeToString()
    for who, y in (
        ("onnxruntime", onnxruntime.InferenceSession(file).run(None, {"x": x})[0]),
        ("openvino", core.compile_model(core.read_model(file), "CPU")(x)[0]),
    ):
        off = np.abs(y[0].astype(int) - pillow)
        inner = off[:, 3:-3, 3:-3].max()
        print(f"exclude_outside={outside} {who:12} all: at most {off.max()}", end="   ")
        print(f"without 3 border pixels: at most {inner}")
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
