#!/usr/bin/env bash
# Question: leaky_relu with a slope of 0.3 goes from Paddle 3's program (inference.json) through paddle2onnx. Which slope is in the file?
# Guess:    0.3, or 0.01 if the attribute is lost.
# Seen:     neither: another number, and another in the next process (0, 1e31 ...), as of memory never written. relu6, hardsigmoid
#           (slope 0.2) and elu (alpha 0.3) come out right. Export, ONNX checker and ONNX Runtime are content.
# Matters:  a network of leaky ReLUs exports, loads and classifies nonsense. Compare an exported file with the network that was
#           trained on real pictures: here no other step fails.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check paddlepaddle==3.3.1 numpy==2.3.5 \
  paddle2onnx==2.1.0 onnx==1.17.0 onnxoptimizer==0.3.13 polygraphy==0.53.6 onnxruntime==1.32.0 protobuf==7.36.2 setuptools==84.2.1
cat > "$work/expected" <<'EXPECTED'
paddlepaddle 3.3.1 paddle2onnx 2.1.0 onnx 1.17.0
leaky_relu  slope 0.3: is 0.3 in the file? no   is it 0.01? no
hardsigmoid slope 0.2: is 0.2 in the file? yes
elu         alpha 0.3: is 0.3 in the file? yes
EXPECTED
cd "$work"
cat > export.py <<'PYTHON'  # a file, as Paddle reads the source of what it exports
from importlib.metadata import version

import onnx
import paddle
import paddle2onnx
from paddle.nn import functional

paddle.set_device("cpu")
print("|", *(f"{p} {version(p)}" for p in ("paddlepaddle", "paddle2onnx", "onnx")))


class Activation(paddle.nn.Layer):
    def __init__(self, function, options):
        super().__init__()
        self.function, self.options = function, options

    def forward(self, x):
        return self.function(x, **self.options)


def alpha(name, **options):
    net = Activation(getattr(functional, name), options)
    shape = paddle.static.InputSpec([1, 4, 7, 7], "float32", name="x")
    program = paddle.jit.to_static(net, full_graph=True, input_spec=[shape])
    paddle.jit.save(program, name)
    paddle2onnx.export(f"{name}.json", f"{name}.pdiparams", save_file=f"{name}.onnx", opset_version=14)
    nodes = onnx.load(f"{name}.onnx").graph.node
    return next(a.f for node in nodes for a in node.attribute if a.name == "alpha")


def yes(value, wanted):
    return "yes" if abs(value - wanted) < 1e-6 else "no"


seen = alpha("leaky_relu", negative_slope=0.3)
print(f"| leaky_relu  slope 0.3: is 0.3 in the file? {yes(seen, 0.3)}   is it 0.01? {yes(seen, 0.01)}")
print("| hardsigmoid slope 0.2: is 0.2 in the file?", yes(alpha("hardsigmoid", slope=0.2), 0.2))
print("| elu         alpha 0.3: is 0.3 in the file?", yes(alpha("elu", alpha=0.3), 0.3))
PYTHON
"$work/venv/bin/python" export.py > "$work/all" 2> "$work/log" || { cat "$work/log"; exit 1; }
sed -n 's/^| //p' "$work/all" > "$work/seen"
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
