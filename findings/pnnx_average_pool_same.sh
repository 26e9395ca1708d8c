#!/usr/bin/env bash
# Question: AveragePool with auto_pad=SAME_UPPER and count_include_pad=0, as TensorFlow has it, goes through pnnx to ncnn. What becomes of a
#           map that is 9 everywhere?
# Guess:    9 everywhere: the border does not count, as in ONNX Runtime.
# Seen:     4 in the corners, 6 along the edges: the converted file has a layer that fills the border with zeros and a pool that does
#           not know of them. The same pool with pads in place of auto_pad is right. SAME_LOWER is the same. With stride 2
#           the first row is 4, 6, 6, though SAME_UPPER puts no border at the top and left of a 6 x 6 map.
# Matters:  blocks from TensorFlow with an average pool get a dark frame on the phone. The middle is right, and so is every global pool.
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
first row of the result
stride 1 pads=[1, 1, 1, 1] ncnn layers Pooling
  onnxruntime 9 9 9 9 9 9  ncnn 9 9 9 9 9 9
stride 1 auto_pad=SAME_UPPER ncnn layers Padding Pooling
  onnxruntime 9 9 9 9 9 9  ncnn 4 6 6 6 6 4
stride 1 auto_pad=SAME_LOWER ncnn layers Padding Pooling
  onnxruntime 9 9 9 9 9 9  ncnn 4 6 6 6 6 4
stride 2 auto_pad=SAME_UPPER ncnn layers Padding Pooling
  onnxruntime 9 9 9  ncnn 4 6 6
stride 2 auto_pad=SAME_LOWER ncnn layers Padding Pooling
  onnxruntime 9 9 9  ncnn 4 6 6
EXPECTED
cd "$work"
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
import subprocess
from importlib.metadata import distribution, version

import ncnn
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime", "pnnx", "ncnn")))
converter = str(distribution("pnnx").locate_file("pnnx/pnnx"))
x = np.full((1, 1, 6, 6), 9, "float32")


def first_rows(stride, **border):
    node = helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[3, 3], strides=[stride, stride], count_include_pad=0, **border)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 6 // stride, 6 // stride])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")
    ort = onnxruntime.InferenceSession("model.onnx").run(None, {"x": x})[0]
    subprocess.run([converter, "model.onnx", "inputshape=[1,1,6,6]f32", "fp16=0"], check=True, capture_output=True)
    net = ncnn.Net()
    net.opt.use_vulkan_compute = net.opt.use_fp16_storage = net.opt.use_fp16_packed = net.opt.use_fp16_arithmetic = False
    assert net.load_param("model.ncnn.param") == 0 and net.load_model("model.ncnn.bin") == 0
    run = net.create_extractor()
    run.input("in0", ncnn.Mat(x[0]).clone())
    kinds = [line.split()[0] for line in open("model.ncnn.param").read().splitlines()[3:]]
    return ort[0, 0, 0].tolist(), np.array(run.extract("out0")[1])[0, 0].tolist(), kinds


print("first row of the result")
for stride, border in ((1, {"pads": [1, 1, 1, 1]}), *((n, {"auto_pad": f"SAME_{side}"}) for n in (1, 2) for side in ("UPPER", "LOWER"))):
    ort, seen, kinds = first_rows(stride, **border)
    print(f"stride {stride}", *(f"{k}={v}" for k, v in border.items()), "ncnn layers", *kinds)
    print("  onnxruntime", *(f"{v:g}" for v in ort), " ncnn", *(f"{v:g}" for v in seen))
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
