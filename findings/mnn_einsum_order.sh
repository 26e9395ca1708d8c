#!/usr/bin/env bash
# Question: Einsum "bij,bjk->bki" asks for the product with its last two axes exchanged. What does MNN return?
# Guess:    the exchanged product as ONNX Runtime does, or an error at conversion.
# Seen:     "bij,bjk->bik", the plain product: the order of the output's letters is dropped. The conversion reports success. With one
#           input, "bij->bji", the order is kept.
# Matters:  attention blocks use Einsum. Where i and k are equal, as in self attention, the shape is right too and only the
#           numbers stand in the wrong places.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 MNN==3.6.1 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 MNN 3.6.1
bij,bjk->bik onnxruntime [[[2.0, 30.0], [8.0, 110.0]]] mnn [[[2.0, 30.0], [8.0, 110.0]]]
bij,bjk->bki onnxruntime [[[2.0, 8.0], [30.0, 110.0]]] mnn [[[2.0, 30.0], [8.0, 110.0]]]
bij,bkj->bki onnxruntime [[[10.0, 32.0], [30.0, 94.0]]] mnn [[[10.0, 30.0], [32.0, 94.0]]]
bij->bji     onnxruntime [[[0.0, 2.0], [1.0, 3.0]]] mnn [[[0.0, 2.0], [1.0, 3.0]]]
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


x = np.arange(4, dtype="float32").reshape(1, 2, 2)
w = np.float32([[[1, 10], [2, 30]]])
for equation, inputs in (("bij,bjk->bik", ["x", "w"]), ("bij,bjk->bki", ["x", "w"]), ("bij,bkj->bki", ["x", "w"]), ("bij->bji", ["x"])):
    node = helper.make_node("Einsum", inputs, ["y"], equation=equation)
    stored = {"w": w} if "w" in inputs else {}
    pair = both([node], x, {"y": (TensorProto.FLOAT, [1, 2, 2])}, stored)
    print(f"| {equation:12} onnxruntime {pair[0][0].tolist()} mnn {pair[1][0].tolist()}")
PYTHON
sed -n 's/^| //p' "$work/all" > "$work/seen"
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
