#!/usr/bin/env bash
# Question: uint8 with scale 0.5, then at once uint8 with scale 0.1 and zero point 128. 2.3 is 2.5 after the first and stays 2.5 in
#           the second. What comes out of ONNX Runtime with all optimizations and with none?
# Guess:    2.5 from both: the pairs stand in the file, so the rounding is part of the network.
# Seen:     2.5 without optimizations, 2.29 with. The two pairs become one with a scale (0.0498) that stands nowhere in the file:
#           what is left of the two ranges, divided anew by 255. Equal pairs are merged rightly; a fine grid before a coarse one loses
#           the coarse one (2.55 where 2.6 is due).
# Matters:  such pairs meet where a tensor's producer and its reader were given scales of their own (branches, concatenations, two
#           quantized files joined). The accuracy measured here is not the one of a device that computes what the file says,
#           and values lie off the grid the next layer was calibrated for.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0
x [0.20000000298023224, 1.0, 2.299999952316284, 4.375, 7.0, 12.0]
scales (0.1, 0.1) zero points (128, 128)
  reference [0.2, 1.0, 2.3, 4.4, 7.0, 12.0]
  none      [0.2, 1.0, 2.3, 4.4, 7.0, 12.0] scale/zero point: 0.1000/128 0.1000/128
  all       [0.2, 1.0, 2.3, 4.4, 7.0, 12.0] scale/zero point: 0.1000/128
scales (0.5, 0.1) zero points (0, 128)
  reference [0.0, 1.0, 2.5, 4.5, 7.0, 12.0]
  none      [0.0, 1.0, 2.5, 4.5, 7.0, 12.0] scale/zero point: 0.5000/0 0.1000/128
  all       [0.2, 1.0, 2.29, 4.38, 7.02, 12.0] scale/zero point: 0.0498/0
scales (0.01, 0.1) zero points (0, 0)
  reference [0.2, 1.0, 2.3, 2.6, 2.6, 2.6]
  none      [0.2, 1.0, 2.3, 2.6, 2.6, 2.6] scale/zero point: 0.0100/0 0.1000/0
  all       [0.2, 1.0, 2.3, 2.55, 2.55, 2.55] scale/zero point: 0.0100/0
EXPECTED
cd "$work"
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime")))
x = np.float32([[0.2, 1, 2.3, 4.375, 7, 12]])
print("x", x.ravel().tolist())


def network(scales, zero_points):
    stored, nodes, name = {}, [], "x"
    for k, (scale, zero_point) in enumerate(zip(scales, zero_points)):
        stored |= {f"s{k}": np.float32(scale), f"z{k}": np.uint8(zero_point)}
        nodes.append(helper.make_node("QuantizeLinear", [name, f"s{k}", f"z{k}"], [f"q{k}"]))
        name = "y" if k else "half"
        nodes.append(helper.make_node("DequantizeLinear", [f"q{k}", f"s{k}", f"z{k}"], [name]))
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, x.shape) for n in "xy"]
    graph = helper.make_graph(
        nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(np.asarray(v), k) for k, v in stored.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


for scales, zero_points in (((0.1, 0.1), (128, 128)), ((0.5, 0.1), (0, 128)), ((0.01, 0.1), (0, 0))):
    model = network(scales, zero_points)
    print(f"scales {scales} zero points {zero_points}")
    print("  reference", [round(v, 2) for v in ReferenceEvaluator(model).run(None, {"x": x})[0].ravel().tolist()])
    for name, level in (("none", "ORT_DISABLE_ALL"), ("all", "ORT_ENABLE_ALL")):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        options.optimized_model_filepath = f"{name}.onnx"
        y = onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"x": x})[0]
        kept = onnx.load(f"{name}.onnx").graph
        numbers = {i.name: numpy_helper.to_array(i).item() for i in kept.initializer}
        pairs = [f"{numbers[n.input[1]]:.4f}/{numbers[n.input[2]]}" for n in kept.node if n.op_type == "QuantizeLinear"]
        print(f"  {name:9}", [round(v, 2) for v in y.ravel().tolist()], "scale/zero point:", *pairs)
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
