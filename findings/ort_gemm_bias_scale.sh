#!/usr/bin/env bash
# Question: a quantized layer stores its int32 bias with a scale of its own (0.1) in place of input scale x weight scale (0.001).
#           ONNX Runtime runs the file with all optimizations and with none. Same numbers?
# Guess:    yes: the bias passes through DequantizeLinear, which states its scale. A fused kernel that needs the product as
#           the scale can be used only where it is the product, or must convert the bias.
# Seen:     Conv is right. Gemm is fused all the same, and the int32 numbers are taken as if their scale were the product:
#           the bias counts a hundredth. With bias scale = product the two agree.
# Matters:  a classifier's last layer is a Gemm. A quantizer that picks the bias scale from the bias alone writes such
#           files; a check without optimizations, or on another runtime, passes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0
Conv bias scale 0.001 optimizations none [5.1, 10.1, -7.4]
Conv bias scale 0.001 optimizations all  [5.1, 10.1, -7.4]
Conv bias scale   0.1 optimizations none [5.1, 10.1, -7.4]
Conv bias scale   0.1 optimizations all  [5.1, 10.1, -7.4]
Gemm bias scale 0.001 optimizations none [5.1, 10.1, -7.4]
Gemm bias scale 0.001 optimizations all  [5.1, 10.1, -7.4]
Gemm bias scale   0.1 optimizations none [5.1, 10.1, -7.4]
Gemm bias scale   0.1 optimizations all  [0.1, 0.2, 0.0]
EXPECTED
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime")))
Level = onnxruntime.GraphOptimizationLevel


def layer(kind, bias_scale):
    """Float map -> quantized layer with weights of 1 (x 0.01) and biases of 5, 10, -7.5 -> float scores."""
    shape = (1, 4) if kind == "Gemm" else (1, 4, 1, 1)
    weight = np.ones((3, 4) if kind == "Gemm" else (3, 4, 1, 1), "int8")
    stored = {
        "x_scale": np.float32(0.1),
        "x_zero": np.uint8(100),
        "weight": weight,
        "w_scale": np.float32(0.01),
        "w_zero": np.int8(0),
        "bias": np.int32(np.round(np.float64([5, 10, -7.5]) / bias_scale)),
        "b_scale": np.float32(bias_scale),
        "b_zero": np.int32(0),
        "y_scale": np.float32(0.1),
        "y_zero": np.uint8(80),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "x_scale", "x_zero"], ["xf"]),
        helper.make_node("DequantizeLinear", ["weight", "w_scale", "w_zero"], ["wf"]),
        helper.make_node("DequantizeLinear", ["bias", "b_scale", "b_zero"], ["bf"]),
        helper.make_node(kind, ["xf", "wf", "bf"], ["f"], **({"transB": 1} if kind == "Gemm" else {})),
        helper.make_node("QuantizeLinear", ["f", "y_scale", "y_zero"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "y_scale", "y_zero"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 3) if kind == "Gemm" else (1, 3, 1, 1))],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(), np.full(shape, 2, "float32")


for kind in ("Conv", "Gemm"):
    for bias_scale in (0.001, 0.1):
        file, x = layer(kind, bias_scale)
        for name, level in (("none", Level.ORT_DISABLE_ALL), ("all", Level.ORT_ENABLE_ALL)):
            options = onnxruntime.SessionOptions()
            options.graph_optimization_level = level
            y = onnxruntime.InferenceSession(file, options).run(None, {"x": x})[0]
            print(f"{kind} bias scale {bias_scale:5} optimizations {name:4}", [round(v, 1) for v in y.ravel().tolist()])
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
