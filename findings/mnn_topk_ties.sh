#!/usr/bin/env bash
# Question: four of seven scores are equal. Which indices does TopK of a converted file return in MNN?
# Guess:    the lower index first, as ONNX demands and ONNX Runtime does: 1, 2, 4, 6.
# Seen:     1, 4, 6, 2 in a list of 5 or 7; 4, 1, 6, 2 in a list of 4; 2, 1 in a list of 2. The values and k=1 are right.
# Matters:  equal scores are common after int8 or a saturated sigmoid. The first class of a list of 2, of 3 and of 5 is three different
#           classes for the same image.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 MNN==3.6.1 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 MNN 3.6.1
scores [1.0, 3.0, 3.0, 0.0, 3.0, 0.0, 3.0]
k=1 values the same, indices onnxruntime 1             mnn 1
k=2 values the same, indices onnxruntime 1 2           mnn 2 1
k=3 values the same, indices onnxruntime 1 2 4         mnn 4 1 2
k=4 values the same, indices onnxruntime 1 2 4 6       mnn 4 1 6 2
k=5 values the same, indices onnxruntime 1 2 4 6 0     mnn 1 4 6 2 0
k=7 values the same, indices onnxruntime 1 2 4 6 0 3 5 mnn 1 4 6 2 0 3 5
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


x = np.float32([[1, 3, 3, 0, 3, 0, 3]])
print("| scores", x.ravel().tolist())
for k in (1, 2, 3, 4, 5, 7):
    outputs = {"v": (TensorProto.FLOAT, [1, k]), "i": (TensorProto.INT64, [1, k])}
    node = helper.make_node("TopK", ["x", "k"], ["v", "i"])
    pair = both([node], x, outputs, {"k": np.int64([k])})
    same = "the same" if pair[0][0].tolist() == pair[1][0].tolist() else "others"
    words = [" ".join(map(str, indices.ravel())) for _, indices in pair]
    print(f"| k={k} values {same}, indices onnxruntime {words[0]:13} mnn {words[1]}")
PYTHON
sed -n 's/^| //p' "$work/all" > "$work/seen"
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
