#!/usr/bin/env bash
# Question: a quantized classifier ends in DequantizeLinear, Softmax, QuantizeLinear, DequantizeLinear. Scores 0, 1, 2, 3 go in. What does
#           tract return?
# Guess:    the probabilities that ONNX Runtime returns, give or take one step of 1/256.
# Seen:     255/256 for every class, whatever the scores. Without the QuantizeLinear after the Softmax the result is right.
# Matters:  quantizers add exactly this end to a network with a softmax. Every class has "99.6 %", a threshold always passes, and
#           the arg max is always class 0. The network before it is right, so a comparison of features shows nothing.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 tract==0.23.9 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 tract 0.23.9
uint8 scores, float     probabilities
  onnxruntime 0.032 0.087 0.237 0.644  tract 0.032 0.087 0.237 0.644
  onnxruntime 1.000 0.000 0.000 0.000  tract 1.000 0.000 0.000 0.000
uint8 scores, quantized probabilities
  onnxruntime 0.031 0.086 0.238 0.645  tract 0.996 0.996 0.996 0.996
  onnxruntime 0.996 0.000 0.000 0.000  tract 0.996 0.996 0.996 0.996
int8  scores, float     probabilities
  onnxruntime 0.032 0.087 0.237 0.644  tract 0.032 0.087 0.237 0.644
  onnxruntime 1.000 0.000 0.000 0.000  tract 1.000 0.000 0.000 0.000
int8  scores, quantized probabilities
  onnxruntime 0.031 0.086 0.238 0.645  tract 0.996 0.996 0.996 0.996
  onnxruntime 0.996 0.000 0.000 0.000  tract 0.996 0.996 0.996 0.996
EXPECTED
cd "$work"
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
import tract
from onnx import TensorProto, helper, numpy_helper

print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime", "tract")))
kinds = {"uint8": (np.uint8, 100, 0), "int8": (np.int8, -28, -128)}


def head(kind, quantized_end):
    dtype, zero_in, zero_out = kinds[kind]
    stored = {
        "scale": np.float32(0.1),
        "zero": dtype(zero_in),
        "p_scale": np.float32(1 / 256),
        "p_zero": dtype(zero_out),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "scale", "zero"], ["xf"]),
        helper.make_node("Softmax", ["xf"], ["p" if quantized_end else "y"], axis=1),
    ]
    if quantized_end:
        nodes.append(helper.make_node("QuantizeLinear", ["p", "p_scale", "p_zero"], ["pq"]))
        nodes.append(helper.make_node("DequantizeLinear", ["pq", "p_scale", "p_zero"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


for kind in kinds:
    for quantized_end in (False, True):
        model = head(kind, quantized_end)
        onnx.save(model, "head.onnx")
        runner = tract.onnx().load("head.onnx").into_model().into_runnable()
        session = onnxruntime.InferenceSession("head.onnx")
        print(f"{kind:5} scores, {'quantized' if quantized_end else 'float    '} probabilities")
        for x in (np.float32([[0, 1, 2, 3]]), np.float32([[9, 0, 0, 0]])):
            ort = session.run(None, {"x": x})[0]
            seen = runner.run([x])[0].to_numpy()
            row = [" ".join(f"{v:.3f}" for v in y.ravel()) for y in (ort, seen)]
            print(f"  onnxruntime {row[0]}  tract {row[1]}")
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
