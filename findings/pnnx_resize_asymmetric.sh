#!/usr/bin/env bash
# Question: Resize to twice the size, linear, with each coordinate transformation, through pnnx to ncnn. Same numbers as ONNX Runtime?
# Guess:    for half_pixel and align_corners yes. ncnn's Interp knows no asymmetric, so the converter stops there.
# Seen:     asymmetric is converted without a word, and computed as half_pixel: 0, 2, 6, 8 where 0, 4, 8, 8 is due. So is the plain
#           Upsample of opset 9, which is asymmetric by definition.
# Matters:  TensorFlow 1's resize and Paddle's align_mode=1 are asymmetric. Every upsampling moves the map by half a pixel of the
#           smaller one, and branches of a pyramid no longer lie on each other.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check numpy==2.3.5 onnx==1.23.2 \
  onnxruntime==1.32.0 ncnn==1.0.20261020 protobuf==7.36.2 ml_dtypes==0.6.0
# Without torch, which only pnnx's Python wrapper needs.
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps pnnx==20261020
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 pnnx 20261020 ncnn 1.0.20261020
Resize half_pixel         onnxruntime [0.0, 2.0, 6.0, 8.0] ncnn [0.0, 2.0, 6.0, 8.0] Input Convolution Interp
Resize pytorch_half_pixel onnxruntime [0.0, 2.0, 6.0, 8.0] ncnn [0.0, 2.0, 6.0, 8.0] Input Convolution Interp
Resize align_corners      onnxruntime [0.0, 2.67, 5.33, 8.0] ncnn [0.0, 2.67, 5.33, 8.0] Input Convolution Interp
Resize asymmetric         onnxruntime [0.0, 4.0, 8.0, 8.0] ncnn [0.0, 2.0, 6.0, 8.0] Input Convolution Interp
Upsample, opset 9         onnxruntime [0.0, 4.0, 8.0, 8.0] ncnn [0.0, 2.0, 6.0, 8.0] Input Convolution Interp
EXPECTED
cd "$work"
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
import subprocess
from importlib.metadata import distribution, version

import ncnn
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime", "pnnx", "ncnn")))
converter = str(distribution("pnnx").locate_file("pnnx/pnnx"))


def through_ncnn(x):
    shape = f"inputshape=[{','.join(map(str, x.shape))}]f32"
    subprocess.run([converter, "model.onnx", shape, "fp16=0"], check=True, capture_output=True)
    net = ncnn.Net()
    net.opt.use_vulkan_compute = net.opt.use_fp16_storage = net.opt.use_fp16_packed = net.opt.use_fp16_arithmetic = False
    assert net.load_param("model.ncnn.param") == 0 and net.load_model("model.ncnn.bin") == 0
    run = net.create_extractor()
    run.input("in0", ncnn.Mat(x[0]).clone())
    kinds = [line.split()[0] for line in open("model.ncnn.param").read().splitlines()[2:]]
    return np.array(run.extract("out0")[1])[None], kinds


def compare(label, operator, inputs, opset, **attributes):
    """A convolution by 1, then two pixels to four."""
    stored = {"w": np.ones((1, 1, 1, 1), "float32"), "scales": np.float32([1, 1, 1, 2])}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["map"]),
        helper.make_node(operator, inputs, ["y"], mode="linear", **attributes),
    ]
    x = np.float32([[[[0, 8]]]])
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 1, 1, 4))],
        [numpy_helper.from_array(v, k) for k, v in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")
    y = onnxruntime.InferenceSession("model.onnx").run(None, {"x": x})[0]
    z, kinds = through_ncnn(x)
    by_onnx, by_ncnn = ([round(v, 2) for v in m.ravel().tolist()] for m in (y, z))
    print(f"{label:25} onnxruntime {by_onnx} ncnn {by_ncnn}", *kinds)


for way in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"):
    compare(f"Resize {way}", "Resize", ["map", "", "scales"], 13, coordinate_transformation_mode=way)
compare("Upsample, opset 9", "Upsample", ["map", "scales"], 9)
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
