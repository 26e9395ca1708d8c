#!/usr/bin/env bash
# Question: adaptive pools of Paddle, exported by paddle2onnx: 14 numbers to 7, 7 to 3, 8 to 3, 7 to 5, 10 to 7. Which windows are in the file?
# Guess:    an ordinary pool where all windows are of one size at one step, and an error where they are not, as ONNX has no
#           adaptive pool.
# Seen:     an ordinary pool always, without a word: step floor(in / out), window in - (out - 1) step. 8 to 3 averages 4 numbers where Paddle
#           averages 3, 4 and 3; of 10 to 7 no average is right.
# Matters:  a pool to 7 x 7 before a classifier is exact at the size trained with, 224, and wrong at another: the picture's size
#           decides. Shapes agree and predictions are only a little worse.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check paddlepaddle==3.3.1 numpy==2.3.5 \
  paddle2onnx==2.1.0 onnx==1.17.0 onnxoptimizer==0.3.13 polygraphy==0.53.6 onnxruntime==1.32.0 protobuf==7.36.2 setuptools==84.2.1
cat > "$work/expected" <<'EXPECTED'
paddlepaddle 3.3.1 paddle2onnx 2.1.0 onnxruntime 1.32.0
adaptive_avg_pool2d 14 to 7 AveragePool {'kernel_shape': 2, 'strides': 2}
  paddle      0.5 6.5 20.5 42.5 72.5 110.5 156.5
  onnxruntime 0.5 6.5 20.5 42.5 72.5 110.5 156.5
adaptive_avg_pool2d 7 to 3 AveragePool {'kernel_shape': 3, 'strides': 2}
  paddle      1.7 9.7 25.7
  onnxruntime 1.7 9.7 25.7
adaptive_avg_pool2d 8 to 3 AveragePool {'kernel_shape': 4, 'strides': 2}
  paddle      1.7 13.5 36.7
  onnxruntime 3.5 13.5 31.5
adaptive_avg_pool2d 7 to 5 AveragePool {'kernel_shape': 3, 'strides': 1}
  paddle      0.5 2.5 9.7 20.5 30.5
  onnxruntime 1.7 4.7 9.7 16.7 25.7
adaptive_avg_pool2d 10 to 7 AveragePool {'kernel_shape': 4, 'strides': 1}
  paddle      0.5 2.5 9.7 20.5 36.7 56.5 72.5
  onnxruntime 3.5 7.5 13.5 21.5 31.5 43.5 57.5
adaptive_max_pool2d 14 to 7 MaxPool {'kernel_shape': 2, 'strides': 2}
  paddle      1.0 9.0 25.0 49.0 81.0 121.0 169.0
  onnxruntime 1.0 9.0 25.0 49.0 81.0 121.0 169.0
adaptive_max_pool2d 7 to 3 MaxPool {'kernel_shape': 3, 'strides': 2}
  paddle      4.0 16.0 36.0
  onnxruntime 4.0 16.0 36.0
adaptive_max_pool2d 8 to 3 MaxPool {'kernel_shape': 4, 'strides': 2}
  paddle      4.0 25.0 49.0
  onnxruntime 9.0 25.0 49.0
adaptive_max_pool2d 7 to 5 MaxPool {'kernel_shape': 3, 'strides': 1}
  paddle      1.0 4.0 16.0 25.0 36.0
  onnxruntime 4.0 9.0 16.0 25.0 36.0
adaptive_max_pool2d 10 to 7 MaxPool {'kernel_shape': 4, 'strides': 1}
  paddle      1.0 4.0 16.0 25.0 49.0 64.0 81.0
  onnxruntime 9.0 16.0 25.0 36.0 49.0 64.0 81.0
EXPECTED
cd "$work"
cat > export.py <<'PYTHON'  # a file, as Paddle reads the source of what it exports
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
import paddle
import paddle2onnx
from paddle.nn import functional

paddle.set_device("cpu")
print("|", *(f"{p} {version(p)}" for p in ("paddlepaddle", "paddle2onnx", "onnxruntime")))


class Pool(paddle.nn.Layer):
    def __init__(self, function, size):
        super().__init__()
        self.function, self.size = function, size

    def forward(self, x):
        return self.function(x, [1, self.size])


for name in ("adaptive_avg_pool2d", "adaptive_max_pool2d"):
    for width, size in ((14, 7), (7, 3), (8, 3), (7, 5), (10, 7)):
        net = Pool(getattr(functional, name), size)
        net.eval()
        x = (np.arange(width, dtype="float32") ** 2).reshape(1, 1, 1, width)
        file = f"{name}{width}_{size}"
        shape = paddle.static.InputSpec(x.shape, "float32", name="x")
        paddle.jit.save(paddle.jit.to_static(net, full_graph=True, input_spec=[shape]), file)
        paddle2onnx.export(f"{file}.json", f"{file}.pdiparams", save_file=f"{file}.onnx", opset_version=14)
        pool = onnx.load(f"{file}.onnx").graph.node[0]
        window = {a.name: a.ints[1] for a in pool.attribute if a.name in ("kernel_shape", "strides")}
        print("|", name, width, "to", size, pool.op_type, window)
        print("|   paddle     ", " ".join(f"{v:.1f}" for v in net(paddle.to_tensor(x)).numpy().ravel()))
        y = onnxruntime.InferenceSession(f"{file}.onnx").run(None, {"x": x})[0]
        print("|   onnxruntime", " ".join(f"{v:.1f}" for v in y.ravel()))
PYTHON
"$work/venv/bin/python" export.py > "$work/all" 2> "$work/log" || { cat "$work/log"; exit 1; }
sed -n 's/^| //p' "$work/all" > "$work/seen"
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
