#!/usr/bin/env bash
# Question: onnxconverter-common's optimizer and a Transpose without the attribute perm, which by the standard reverses the axes.
#           Are the numbers kept?
# Guess:    yes: the attribute is optional in ONNX, so an optimizer knows what stands for a missing one.
# Seen:     the Transpose is removed as one that does nothing. A square matrix is then multiplied untransposed, without an error.
#           With perm=[1, 0] written out it stays. The model that was passed in is changed too.
# Matters:  Gram matrices, patches of n x n and layers with as many inputs as outputs are square: the file loads, the shapes fit, and
#           only the accuracy tells. A comparison with the model passed in finds no difference, since both are wrong by then.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check numpy==2.3.5 onnx==1.23.2 \
  onnxruntime==1.32.0 onnxconverter-common==1.16.0 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 onnxconverter-common 1.16.0
perm=[1, 0]: before [[1.0, 3.0], [2.0, 4.0]]
  optimized [[1.0, 3.0], [2.0, 4.0]] (Transpose, MatMul)
  the model passed in, now [[1.0, 3.0], [2.0, 4.0]]
no perm: before [[1.0, 3.0], [2.0, 4.0]]
  optimized [[1.0, 2.0], [3.0, 4.0]] (MatMul)
  the model passed in, now [[1.0, 2.0], [3.0, 4.0]]
EXPECTED
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxconverter_common.optimizer import optimize_onnx_model

print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime", "onnxconverter-common")))


def network(x, **attributes):
    """The transposed input times the unit matrix."""
    rows, columns = x.shape
    nodes = [
        helper.make_node("Transpose", ["x"], ["turned"], name="turn", **attributes),
        helper.make_node("MatMul", ["turned", "unit"], ["y"], name="multiply"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (rows, columns))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("n", rows))],
        [numpy_helper.from_array(np.eye(rows, dtype="float32"), "unit")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model, x):
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0].tolist()


x = np.float32([[1, 2], [3, 4]])
for label, attributes in (("perm=[1, 0]", {"perm": [1, 0]}), ("no perm", {})):
    model = network(x, **attributes)
    print(f"{label}: before {run(model, x)}")
    smaller = optimize_onnx_model(model)
    print(f"  optimized {run(smaller, x)} ({', '.join(n.op_type for n in smaller.graph.node)})")
    print(f"  the model passed in, now {run(model, x)}")
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
