#!/usr/bin/env bash
# Question: Pad with 0, then ConvInteger whose input zero point is 100. onnxscript's optimizer with its default rules: same numbers?
# Guess:    yes: ConvInteger pads with the zero point (100 stands for the real number 0), so a Pad with raw 0 cannot
#           become its pads. A fusion has to see that the two values differ.
# Seen:     the Pad is merged into the pads of ConvInteger all the same: the border is filled with 100 in place of 0. With a zero
#           point of 0 the merge is right, and a Pad with 100, which could be merged, is left alone.
# Matters:  integer graphs from quantizers for small devices pad like this, and every border is off by 100 steps times the weights.
#           The float twin of the graph is right, so the loss looks like one of quantization.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check numpy==2.3.5 onnx==1.23.2 \
  onnxruntime==1.32.0 onnxscript==0.7.2 onnx_ir==1.1.0 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 onnxscript 0.7.2
zero point 0, border 0: by hand 440, file [440, 440, 440, 440], optimized [440, 440, 440, 440] (ConvInteger)
zero point 100, border 0: by hand -460, file [-460, -460, -460, -460], optimized [40, 40, 40, 40] (ConvInteger)
zero point 100, border 100: by hand 40, file [40, 40, 40, 40], optimized [40, 40, 40, 40] (Pad, ConvInteger)
EXPECTED
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
import onnxscript.optimizer
from onnx import TensorProto, helper, numpy_helper

print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime", "onnxscript")))
x = np.full((1, 1, 2, 2), 110, "uint8")


def network(zero_point, fill):
    """Two by two pixels, a border of `fill`, a 3 x 3 window that sums (pixel - zero_point)."""
    stored = {
        "pads": np.int64([0, 0, 1, 1, 0, 0, 1, 1]),
        "fill": np.uint8(fill),
        "w": np.ones((1, 1, 3, 3), "int8"),
        "zero_point": np.uint8(zero_point),
    }
    nodes = [
        helper.make_node("Pad", ["x", "pads", "fill"], ["padded"]),
        helper.make_node("ConvInteger", ["padded", "w", "zero_point"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.INT32, x.shape)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"x": x})[0].ravel().tolist()


for zero_point, fill in ((0, 0), (100, 0), (100, 100)):
    model = network(zero_point, fill)
    by_hand = 4 * (110 - zero_point) + 5 * (fill - zero_point)
    smaller = onnxscript.optimizer.optimize(model)
    print(f"zero point {zero_point}, border {fill}: by hand {by_hand}, file {run(model)},", end=" ")
    print(f"optimized {run(smaller)} ({', '.join(n.op_type for n in smaller.graph.node)})")
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
