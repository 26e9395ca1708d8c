#!/usr/bin/env bash
# Question: a Cast from float to bool, then Where: which pixels does a mask of 0.9, 0.4, -0.1, 0, 1, 1.5, -2 let through in MNN?
# Guess:    all but the 0: everything that is not 0 is true, in ONNX as in numpy and C++.
# Seen:     1, 1.5 and -2: the number is cut to an integer first, so everything between -1 and 1 is false.
# Matters:  a mask made of probabilities, of a resized mask or of weights is empty where training let everything through. With masks of 0
#           and 1, which tests have, both are the same.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 MNN==3.6.1 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 MNN 3.6.1
mask         0.9  0.4 -0.1  0.0  1.0  1.5 -2.0
onnxruntime  1.0  1.0  1.0  0.0  1.0  1.0  1.0
mnn          0.0  0.0  0.0  0.0  1.0  1.0  1.0
EXPECTED
cd "$work"
"$work/venv/bin/python" - > "$work/all" 2> log <<'PYTHON' || { cat log; exit 1; }
from importlib.metadata import version

import _tools  # MNN's converter; its command line installs a package first, see mnnconvert_installs.sh
import MNN.expr as expr
import MNN.nn as nn
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

print("|", *(f"{p} {version(p)}" for p in ("onnx", "onnxruntime", "MNN")))


def both(nodes, x, outputs, stored):
    """Result of each runtime; outputs is a dictionary from name to (type, shape)."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()],
        [numpy_helper.from_array(v, k) for k, v in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")
    ort = onnxruntime.InferenceSession("model.onnx").run(None, {"x": x})
    names = "-f ONNX --modelFile model.onnx --MNNModel model.mnn --bizCode find"
    _tools.mnnconvert(["mnnconvert", *names.split()])
    net = nn.load_module_from_file("model.mnn", ["x"], list(outputs))
    value = expr.placeholder(list(x.shape), expr.NCHW, expr.float)
    value.write(x)
    return ort, [np.array(expr.convert(y, expr.NCHW).read()) for y in net.onForward([value])]


x = np.float32([0.9, 0.4, -0.1, 0, 1, 1.5, -2])
nodes = [helper.make_node("Cast", ["x"], ["m"], to=TensorProto.BOOL), helper.make_node("Where", ["m", "yes", "no"], ["y"])]
stored = {"yes": np.full(7, 1, "float32"), "no": np.full(7, 0, "float32")}
pair = both(nodes, x, {"y": (TensorProto.FLOAT, [7])}, stored)
print("| mask       ", " ".join(f"{v:4.1f}" for v in x))
for side, (y,) in zip(("onnxruntime", "mnn"), pair, strict=True):
    print(f"| {side:11}", " ".join(f"{v:4.1f}" for v in y))
PYTHON
sed -n 's/^| //p' "$work/all" > "$work/seen"
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
