#!/usr/bin/env bash
# Question: a cubic Resize with half_pixel to twice the width: what does MNN return at the left border?
# Guess:    what ONNX Runtime and PyTorch's bicubic return: -0.11 for the ramp 0, 1, 2, 3, 4, 5, for the border pixel is repeated.
# Seen:     0.67, more than its right neighbour: the first result equals the third. All others are right, also at the right border, and
#           asymmetric and align_corners are right. Rows are like columns.
# Matters:  the first column and the first row of each map enlarged so are wrong, the rest is right. A mean error over the map stays
#           small and looks like rounding.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 MNN==3.6.1 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 MNN 3.6.1
width  half_pixel
  onnxruntime -0.11  0.19  0.67  1.30  1.70  2.30  2.70  3.30  3.70  4.33  4.81  5.11
  mnn          0.67  0.19  0.67  1.30  1.70  2.30  2.70  3.30  3.70  4.33  4.81  5.11
width  asymmetric
  onnxruntime  0.00  0.41  1.00  1.50  2.00  2.50  3.00  3.50  4.00  4.59  5.00  5.09
  mnn          0.00  0.41  1.00  1.50  2.00  2.50  3.00  3.50  4.00  4.59  5.00  5.09
width  align_corners
  onnxruntime  0.00  0.36  0.87  1.40  1.77  2.32  2.68  3.23  3.60  4.13  4.64  5.00
  mnn          0.00  0.36  0.87  1.40  1.77  2.32  2.68  3.23  3.60  4.13  4.64  5.00
height half_pixel
  onnxruntime -0.11  0.19  0.67  1.30  1.70  2.30  2.70  3.30  3.70  4.33  4.81  5.11
  mnn          0.67  0.19  0.67  1.30  1.70  2.30  2.70  3.30  3.70  4.33  4.81  5.11
height asymmetric
  onnxruntime  0.00  0.41  1.00  1.50  2.00  2.50  3.00  3.50  4.00  4.59  5.00  5.09
  mnn          0.00  0.41  1.00  1.50  2.00  2.50  3.00  3.50  4.00  4.59  5.00  5.09
height align_corners
  onnxruntime  0.00  0.36  0.87  1.40  1.77  2.32  2.68  3.23  3.60  4.13  4.64  5.00
  mnn          0.00  0.36  0.87  1.40  1.77  2.32  2.68  3.23  3.60  4.13  4.64  5.00
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


ramp = np.arange(6, dtype="float32")
for across in (True, False):
    x = ramp.reshape((1, 1, 1, 6) if across else (1, 1, 6, 1))
    for mode in ("half_pixel", "asymmetric", "align_corners"):
        scales = np.float32([1, 1, 1, 2] if across else [1, 1, 2, 1])
        kwargs = {"mode": "cubic", "coordinate_transformation_mode": mode}
        node = helper.make_node("Resize", ["x", "", "scales"], ["y"], **kwargs)
        shape = [int(n * s) for n, s in zip(x.shape, scales, strict=True)]
        pair = both([node], x, {"y": (TensorProto.FLOAT, shape)}, {"scales": scales})
        print(f"| {'width ' if across else 'height'} {mode}")
        for side, (y,) in zip(("onnxruntime", "mnn"), pair, strict=True):
            print(f"|   {side:11}", " ".join(f"{v:5.2f}" for v in y.ravel()))
PYTHON
sed -n 's/^| //p' "$work/all" > "$work/seen"
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
