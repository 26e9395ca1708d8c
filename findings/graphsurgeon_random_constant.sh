#!/usr/bin/env bash
# Question: a file adds RandomNormal to its input, as test-time noise and dropout by hand are exported. What do four optimisers leave of it?
# Guess:    all keep the node: it has no input, but it is not a constant.
# Seen:     onnx-graphsurgeon's fold_constants and onnxslim draw once and store the draw: every run of the written file returns the same
#           numbers. RandomUniform goes the same way. onnxsim and onnxoptimizer keep the node.
# Matters:  an ensemble of ten noisy runs becomes ten times the same run, and its spread, read as uncertainty, is 0. A comparison
#           before and after cannot show it: noise differs anyway.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 onnx==1.23.2 onnxruntime==1.32.0 onnx-graphsurgeon==0.6.1 onnxslim==0.1.98 onnxsim==0.8.1 \
  onnxoptimizer==0.4.2 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 onnx-graphsurgeon 0.6.1 onnxslim 0.1.98 onnxsim 0.8.1 onnxoptimizer 0.4.2
RandomNormal  as exported       nodes ['RandomNormal', 'Add'] different results in ten runs: 10
RandomNormal  onnx-graphsurgeon nodes ['Add'] different results in ten runs: 1
RandomNormal  onnxslim          nodes ['Add'] different results in ten runs: 1
RandomNormal  onnxsim           nodes ['RandomNormal', 'Add'] different results in ten runs: 10
RandomNormal  onnxoptimizer     nodes ['RandomNormal', 'Add'] different results in ten runs: 10
RandomUniform as exported       nodes ['RandomUniform', 'Add'] different results in ten runs: 10
RandomUniform onnx-graphsurgeon nodes ['Add'] different results in ten runs: 1
RandomUniform onnxslim          nodes ['Add'] different results in ten runs: 1
RandomUniform onnxsim           nodes ['RandomUniform', 'Add'] different results in ten runs: 10
RandomUniform onnxoptimizer     nodes ['RandomUniform', 'Add'] different results in ten runs: 10
EXPECTED
cd "$work"
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import numpy as np
import onnx
import onnx_graphsurgeon
import onnxoptimizer
import onnxruntime
import onnxsim
import onnxslim
from onnx import TensorProto, helper

tools = ("onnx-graphsurgeon", "onnxslim", "onnxsim", "onnxoptimizer")
print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime", *tools)))


def surgeon(model):
    return onnx_graphsurgeon.export_onnx(onnx_graphsurgeon.import_onnx(model).fold_constants().cleanup())


ways = {
    "as exported": lambda model: model,
    "onnx-graphsurgeon": surgeon,
    "onnxslim": onnxslim.slim,
    "onnxsim": lambda model: onnxsim.simplify(model)[0],
    "onnxoptimizer": onnxoptimizer.optimize,
}
for op in ("RandomNormal", "RandomUniform"):
    graph = helper.make_graph(
        [helper.make_node(op, [], ["noise"], shape=[4]), helper.make_node("Add", ["x", "noise"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    for name, way in ways.items():
        made = way(onnx.ModelProto.FromString(model.SerializeToString()))
        session = onnxruntime.InferenceSession(made.SerializeToString())
        x = np.zeros(4, "float32")
        runs = {session.run(None, {"x": x})[0].tobytes() for _ in range(10)}
        print(f"{op:13} {name:17} nodes {[n.op_type for n in made.graph.node]} different results in ten runs: {len(runs)}")
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
