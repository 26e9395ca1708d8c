#!/usr/bin/env bash
# Question: a constant goes through thresholded_relu and, beside it, straight into a product. Which constant is in Core ML's program?
# Guess:    the thresholded numbers in one branch, the constant as given in the other.
# Seen:     the thresholded numbers in both, and in the numpy array of the caller too: folding thresholded_relu writes zeros into the
#           constant itself. threshold, relu, leaky_relu and clip leave it alone.
# Matters:  magnitude pruning by threshold beside the dense weights, or a second conversion from the same arrays, gets pruned weights
#           everywhere. No message, and a comparison with the "original" arrays says that all is well, for they changed too.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check numpy==1.26.4 coremltools==9.0 protobuf==7.36.2
cat > "$work/expected" <<'EXPECTED'
coremltools 9.0
given 0.1 -0.5 2.0 3.0
thresholded_relu straight 0.00 0.00 2.00 3.00 | thresholded_relu 0.00 0.00 2.00 3.00 | caller's array 0.00 0.00 2.00 3.00
threshold        straight 0.10 -0.50 2.00 3.00 | threshold 1.00 1.00 2.00 3.00 | caller's array 0.10 -0.50 2.00 3.00
relu             straight 0.10 -0.50 2.00 3.00 | relu 0.10 0.00 2.00 3.00 | caller's array 0.10 -0.50 2.00 3.00
leaky_relu       straight 0.10 -0.50 2.00 3.00 | leaky_relu 0.10 -0.25 2.00 3.00 | caller's array 0.10 -0.50 2.00 3.00
clip             straight 0.10 -0.50 2.00 3.00 | clip 1.00 1.00 2.00 2.00 | caller's array 0.10 -0.50 2.00 3.00
EXPECTED
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import numpy as np
from coremltools.converters.mil import Builder as mb

print(f"coremltools {version('coremltools')}")
given = [0.1, -0.5, 2.0, 3.0]
operators = {
    "thresholded_relu": {"alpha": np.float32(1)},
    "threshold": {"alpha": np.float32(1)},
    "relu": {},
    "leaky_relu": {"alpha": np.float32(0.5)},
    "clip": {"alpha": np.float32(1), "beta": np.float32(2)},
}
print("given", *given)
for name, options in operators.items():
    array = np.float32(given)

    @mb.program(input_specs=[mb.TensorSpec(shape=(4,))])
    def program(x):
        weight = mb.const(val=array)
        changed = getattr(mb, name)(x=weight, **options)
        return mb.mul(x=x, y=weight), mb.mul(x=x, y=changed)

    products = [op.inputs["y"].val for op in program.functions["main"].operations if op.op_type == "mul"]
    words = [" ".join(f"{v:.2f}" for v in values) for values in (*products, array)]
    print(f"{name:16} straight {words[0]} | {name} {words[1]} | caller's array {words[2]}")
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
