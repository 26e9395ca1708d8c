#!/usr/bin/env bash
# Question: a quantized map with one scale per channel (DequantizeLinear, axis=1) feeds GlobalAveragePool and QuantizeLinear. The checker is
#           content. What does ONNX Runtime do with it?
# Guess:    the right means: a kernel for integers takes one scale, so this case stays in float.
# Seen:     the session is made without a word, and the first run raises an error in a fused QLinearGlobalAveragePool.
#           AveragePool, LeakyRelu and Sigmoid raise earlier, when the session is made; MaxPool, Relu, Softmax, Add and Mul
#           run, and with optimizations off all of them do.
# Matters:  a service that loads its file at start and reports "ready" fails at its first request. Scales per channel for a map
#           are valid in the format, and a runtime that keeps such maps in float passes the same file.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0
GlobalAveragePool optimizations none [30, 40]
GlobalAveragePool optimizations all  the first run raises Fail
AveragePool       optimizations none [30, 40]
AveragePool       optimizations all  making the session raises Fail
MaxPool           optimizations none [30, 40]
MaxPool           optimizations all  [30, 40]
Relu              optimizations none [30, 30, 30, 30, 40, 40, 40, 40]
Relu              optimizations all  [30, 30, 30, 30, 40, 40, 40, 40]
LeakyRelu         optimizations none [30, 30, 30, 30, 40, 40, 40, 40]
LeakyRelu         optimizations all  making the session raises Fail
Sigmoid           optimizations none [10, 10, 10, 10, 10, 10, 10, 10]
Sigmoid           optimizations all  making the session raises Fail
Softmax           optimizations none [5, 5, 5, 5, 5, 5, 5, 5]
Softmax           optimizations all  [5, 5, 5, 5, 5, 5, 5, 5]
Add               optimizations none [60, 60, 60, 60, 80, 80, 80, 80]
Add               optimizations all  [60, 60, 60, 60, 80, 80, 80, 80]
Mul               optimizations none [90, 90, 90, 90, 160, 160, 160, 160]
Mul               optimizations all  [90, 90, 90, 90, 160, 160, 160, 160]
EXPECTED
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime")))
Level = onnxruntime.GraphOptimizationLevel
pool = {"kernel_shape": [2, 2]}
kinds = ("GlobalAveragePool", "AveragePool", "MaxPool", "Relu", "LeakyRelu", "Sigmoid", "Softmax", "Add", "Mul")
for kind in kinds:
    stored = {
        "scale": np.float32([0.1, 0.2]),
        "zero": np.uint8([0, 10]),
        "y_scale": np.float32(0.1),
        "y_zero": np.uint8(0),
    }
    attributes = pool if kind in ("AveragePool", "MaxPool") else {}
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "scale", "zero"], ["f"], axis=1),
        helper.make_node(kind, ["f"] * (2 if kind in ("Add", "Mul") else 1), ["p"], **attributes),
        helper.make_node("QuantizeLinear", ["p", "y_scale", "y_zero"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 2, 2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [1, 2, 1, 1] if "Pool" in kind else [1, 2, 2, 2])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    x = np.full((1, 2, 2, 2), 30, "uint8")
    for name, level in (("none", Level.ORT_DISABLE_ALL), ("all", Level.ORT_ENABLE_ALL)):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = level
        options.log_severity_level = 4
        step = "making the session"
        try:
            session = onnxruntime.InferenceSession(model.SerializeToString(), options)
            step = "the first run"
            seen = session.run(None, {"x": x})[0].ravel().tolist()
        except Exception as error:
            seen = f"{step} raises {type(error).__name__}"
        print(f"{kind:17} optimizations {name:4} {seen}")
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
