#!/usr/bin/env bash
# Question: a network fed with pixels of 0 to 255 has a batch norm whose running variance is 40,000. float16 reaches 65,504. Does
#           convert_float_to_float16 of onnxconverter-common keep the answer, and the function of that name in ONNX Runtime?
# Guess:    yes, both (one grew out of the other): only what float16 cannot hold has to be cut.
# Seen:     onnxconverter-common stores every constant above 10,000 as 10,000, and 25 becomes 50. It warns ("will be truncated") and
#           goes on. ONNX Runtime's is right; so is the first with max_finite_val=65504.
# Matters:  the variance of raw pixels, counts and sums are soon above 10,000; a variance cut to a quarter doubles its channel. Two
#           tools that seem to be one give two networks, and the warning says nothing of a number that would have fitted.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check numpy==2.3.5 onnx==1.23.2 \
  onnxruntime==1.32.0 onnxconverter-common==1.16.0 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$work/expected" <<'EXPECTED'
onnx 1.23.2 onnxruntime 1.32.0 onnxconverter-common 1.16.0
variance 9000, held by float16 as 9000: float32 52.7
  onnxconverter_common as it comes: 52.7
  onnxconverter_common {'max_finite_val': 65504.0}: 52.7
  onnxruntime          as it comes: 52.7
  onnxruntime          {'max_finite_val': 65504.0}: 52.7
variance 20000, held by float16 as 20000: float32 35.4
  onnxconverter_common as it comes: 50.0 (warned)
  onnxconverter_common {'max_finite_val': 65504.0}: 35.4
  onnxruntime          as it comes: 35.4
  onnxruntime          {'max_finite_val': 65504.0}: 35.4
variance 40000, held by float16 as 40000: float32 25.0
  onnxconverter_common as it comes: 50.0 (warned)
  onnxconverter_common {'max_finite_val': 65504.0}: 25.0
  onnxruntime          as it comes: 25.0
  onnxruntime          {'max_finite_val': 65504.0}: 25.0
EXPECTED
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
import warnings
from importlib.metadata import version

import numpy as np
import onnx
import onnxconverter_common.float16
import onnxruntime
import onnxruntime.transformers.float16
from onnx import TensorProto, helper, numpy_helper

print(*(f"{p} {version(p)}" for p in ("onnx", "onnxruntime", "onnxconverter-common")))
x = np.full((1, 1, 2, 2), 100, "float32")


def network(variance):
    """A convolution by 1, then (x - 0) / sqrt(variance) x 50 + 0."""
    stored = {"w": np.ones((1, 1, 1, 1)), "scale": [50], "bias": [0], "mean": [0], "variance": [variance]}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["map"], name="conv"),
        helper.make_node("BatchNormalization", ["map", "scale", "bias", "mean", "variance"], ["y"], name="norm"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, x.shape) for name in "xy"]
    tensors = [numpy_helper.from_array(np.asarray(v, "float32"), k) for k, v in stored.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model):
    y = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    return f"{y[0, 0, 0, 0]:.1f}"


for variance in (9000, 20000, 40000):
    print(f"variance {variance}, held by float16 as {np.float16(variance):.0f}: float32 {run(network(variance))}")
    for module in (onnxconverter_common.float16, onnxruntime.transformers.float16):
        for options in ({}, {"max_finite_val": 65504.0}):
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                half = module.convert_float_to_float16(network(variance), keep_io_types=True, **options)
            told = any("truncated" in str(w.message) for w in said)
            print(f"  {module.__name__.split('.')[0]:20} {options or 'as it comes'}: {run(half)}{' (warned)' if told else ''}")
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
