#!/usr/bin/env bash
# Question: an ONNX file with a convolution and SpaceToDepth (blocks of 2 x 2) goes through pnnx to ncnn. Same channels?
# Guess:    yes, or an error: ONNX names one order (all channels of the block's first pixel, then of its second), and a converter from
#           torch to ncnn has met pixel_unshuffle, whose order is the other one (all four pixels of the first channel).
# Seen:     SpaceToDepth becomes pixel_unshuffle without a word: the same numbers in another order of channels. With one input
#           channel the two are the same, and DepthToSpace with mode=CRD is right.
# Matters:  the stem of many small networks turns 224 x 224 x 3 into 112 x 112 x 12 this way. The next convolution then meets
#           red where blue belongs, and nothing but accuracy shows it.
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
SpaceToDepth of 1 channels: ncnn layers Input, Convolution, Reorg
  onnxruntime [0, 1, 2, 3]
  ncnn        [0, 1, 2, 3]
SpaceToDepth of 3 channels: ncnn layers Input, Convolution, Reorg
  onnxruntime [0, 10, 20, 1, 11, 21, 2, 12, 22, 3, 13, 23]
  ncnn        [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23]
DepthToSpace mode=CRD of 8 channels: ncnn layers Input, Convolution, PixelShuffle
  onnxruntime [0, 4]
  ncnn        [0, 4]
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


def compare(operator, x, y_shape, **attributes):
    """A convolution by the unit matrix, then the operator; the channels of the first pixel."""
    channels = x.shape[1]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["map"]),
        helper.make_node(operator, ["map"], ["y"], blocksize=2, **attributes),
    ]
    unit = np.eye(channels, dtype="float32").reshape(channels, channels, 1, 1)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, y_shape)],
        [numpy_helper.from_array(unit, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")
    y = onnxruntime.InferenceSession("model.onnx").run(None, {"x": x})[0]
    z, kinds = through_ncnn(x)
    print(operator, *(f"{k}={v}" for k, v in attributes.items()), f"of {channels} channels: ncnn layers {', '.join(kinds)}")
    print("  onnxruntime", y[0, :, 0, 0].astype(int).tolist())
    print("  ncnn       ", z[0, :, 0, 0].astype(int).tolist())


pixels = np.arange(4, dtype="float32").reshape(1, 1, 2, 2)
compare("SpaceToDepth", pixels, (1, 4, 1, 1))
compare("SpaceToDepth", np.concatenate([pixels, pixels + 10, pixels + 20], 1), (1, 12, 1, 1))
compare("DepthToSpace", np.arange(8, dtype="float32").reshape(1, 8, 1, 1), (1, 2, 2, 2), mode="CRD")
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
