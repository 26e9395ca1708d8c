#!/usr/bin/env bash
# Question: a convolution's map is multiplied by a constant weight per row, shape (1, 1, H, 1). Does onnxslim keep the numbers?
# Guess:    yes: a factor can move into the convolution's weights only where it is one number per output channel, so this
#           one stays a Mul.
# Seen:     with as many rows as output channels (4) the Mul is folded, and the weight of row i is applied to channel i. The same
#           happens to a weight per column, and in a depthwise convolution. With 3 rows it stays and is right.
# Matters:  the shapes stay and nothing is said, so the network only gets worse. Small heads, attention masks and positional
#           weights are where a map has as many rows or columns as channels; the same graph at another image size is right.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 onnxslim==0.1.98 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 onnxslim 0.1.98
per channel: then Conv
  before channel 0, down the rows: [1.0, 1.0, 1.0, 1.0]  row 0, over the channels: [1.0, 2.0, 3.0, 4.0]
  after  channel 0, down the rows: [1.0, 1.0, 1.0, 1.0]  row 0, over the channels: [1.0, 2.0, 3.0, 4.0]
per row: then Conv
  before channel 0, down the rows: [1.0, 2.0, 3.0, 4.0]  row 0, over the channels: [1.0, 1.0, 1.0, 1.0]
  after  channel 0, down the rows: [1.0, 1.0, 1.0, 1.0]  row 0, over the channels: [1.0, 2.0, 3.0, 4.0]
per row, depthwise: then Conv
  before channel 0, down the rows: [1.0, 2.0, 3.0, 4.0]  row 0, over the channels: [1.0, 1.0, 1.0, 1.0]
  after  channel 0, down the rows: [1.0, 1.0, 1.0, 1.0]  row 0, over the channels: [1.0, 2.0, 3.0, 4.0]
per row, three rows: then Conv, Mul
  before channel 0, down the rows: [1.0, 2.0, 3.0]  row 0, over the channels: [1.0, 1.0, 1.0, 1.0]
  after  channel 0, down the rows: [1.0, 2.0, 3.0]  row 0, over the channels: [1.0, 1.0, 1.0, 1.0]
EXPECTED
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
import onnxslim
from onnx import TensorProto, helper, numpy_helper

print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime", "onnxslim")))


def run(model, x):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"x": x})[0]


def network(shape, group, rows):
    """A 1 x 1 convolution to four channels whose sums are all 1, then a constant factor of this shape."""
    stored = {"w": np.full((4, 4 // group, 1, 1), group / 4, "float32")}
    stored["factor"] = np.arange(1, np.prod(shape) + 1, dtype="float32").reshape(shape)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["map"], group=group),
        helper.make_node("Mul", ["map", "factor"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 4, rows, 4)) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(v, k) for k, v in stored.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


for label, shape, group, rows in (
    ("per channel", (1, 4, 1, 1), 1, 4),
    ("per row", (1, 1, 4, 1), 1, 4),
    ("per row, depthwise", (1, 1, 4, 1), 4, 4),
    ("per row, three rows", (1, 1, 3, 1), 1, 3),
):
    model = network(shape, group, rows)
    x = np.ones((1, 4, rows, 4), "float32")
    before = run(model, x)
    slim = onnxslim.slim(model)
    after = run(slim, x)
    print(f"{label}: then {', '.join(n.op_type for n in slim.graph.node)}")
    for name, y in (("before", before), ("after", after)):
        print(f"  {name:6} channel 0, down the rows: {y[0, 0, :, 0].tolist()}  row 0, over the channels: {y[0, :, 0, 0].tolist()}")
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
