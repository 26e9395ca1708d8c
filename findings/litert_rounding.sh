#!/usr/bin/env bash
# Question: QUANTIZE from float, QUANTIZE from int8 to a coarser int8, MEAN and AVERAGE_POOL_2D over int8, by LiteRT's default
#           kernels (x86) and by its reference kernels. How does each round 0.5, 1.5, -0.5, -1.5?
# Guess:    half away from zero (1, 2, -1, -2) everywhere, as in the reference kernels.
# Seen:     three rules. Default QUANTIZE and MEAN go to even (0, 2, 0, -2); the reference kernels and AVERAGE_POOL_2D go away
#           from zero; int8 to int8 goes up (1, 2, 0, -1), so it shifts a symmetric tensor.
# Matters:  a bit-exact port, or a test against the reference kernels, must copy the rule per operator and per resolver. A
#           pooled map of small integers is full of ties, and global pooling by MEAN and by AVERAGE_POOL_2D differ by one.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 ai-edge-litert==2.3.0 flatbuffers==25.12.19
cat > "$work/expected" <<'EXPECTED'
ai-edge-litert 2.3.0 numpy 2.3.5
exact                               [0.5, 1.5, -0.5, -1.5]
QUANTIZE float32 to int8 AUTO        [0, 2, 0, -2]
QUANTIZE float32 to int8 BUILTIN_REF [1, 2, -1, -2]
QUANTIZE int8 to int8    AUTO        [1, 2, 0, -1]
QUANTIZE int8 to int8    BUILTIN_REF [1, 2, 0, -1]
MEAN int8                AUTO        [0, 2, 0, -2]
MEAN int8                BUILTIN_REF [1, 2, -1, -2]
AVERAGE_POOL_2D int8     AUTO        [1, 2, -1, -2]
AVERAGE_POOL_2D int8     BUILTIN_REF [1, 2, -1, -2]
EXPECTED
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

print(*(f"{p} {version(p)}" for p in ("ai-edge-litert", "numpy")))
Type, Operator, Options = schema.TensorType, schema.BuiltinOperator, schema.BuiltinOptions


def tensor(name, shape, kind, buffer=0, scale=None):
    t = schema.TensorT()
    t.name, t.shape, t.type, t.buffer = name, list(shape), kind, buffer
    if scale:
        t.quantization = schema.QuantizationParametersT()
        t.quantization.scale, t.quantization.zeroPoint = [scale], [0]
    return t


def one_operator(code, tensors, inputs, options=None, options_type=0, constant=None):
    graph, node, kind = schema.SubGraphT(), schema.OperatorT(), schema.OperatorCodeT()
    node.opcodeIndex, node.inputs, node.outputs = 0, inputs, [len(tensors) - 1]
    node.builtinOptions, node.builtinOptionsType = options, options_type
    graph.tensors, graph.operators = tensors, [node]
    graph.inputs, graph.outputs = [0], node.outputs
    kind.builtinCode = kind.deprecatedBuiltinCode = code
    kind.version = 2 if options else 1
    model = schema.ModelT()
    model.version, model.subgraphs, model.operatorCodes = 3, [graph], [kind]
    model.buffers = [schema.BufferT(), schema.BufferT()]
    model.buffers[1].data = np.frombuffer(np.int32(constant or [0]).tobytes(), np.uint8)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


options = {"MEAN": schema.ReducerOptionsT(), "AVERAGE_POOL_2D": schema.Pool2DOptionsT()}
options["MEAN"].keepDims = True
pool = options["AVERAGE_POOL_2D"]
pool.padding = schema.Padding.VALID
pool.strideH = pool.strideW = pool.filterHeight = pool.filterWidth = 2
maps = [tensor("x", (4, 2, 2, 1), Type.INT8, scale=1.0), tensor("y", (4, 1, 1, 1), Type.INT8, scale=1.0)]
axes = tensor("axes", (2,), Type.INT32, 1)
floats = np.float32([[0.5, 1.5, -0.5, -1.5]])
integers = np.int8([[1, 3, -1, -3]])
sums = np.int8([[1, 0, 1, 0], [3, 0, 3, 0], [-1, 0, -1, 0], [-3, 0, -3, 0]]).reshape(4, 2, 2, 1)
cases = {
    "QUANTIZE float32 to int8": (
        one_operator(
            Operator.QUANTIZE,
            [tensor("x", (1, 4), Type.FLOAT32), tensor("y", (1, 4), Type.INT8, scale=1.0)],
            [0],
        ),
        floats,
    ),
    "QUANTIZE int8 to int8": (
        one_operator(
            Operator.QUANTIZE,
            [tensor("x", (1, 4), Type.INT8, scale=1.0), tensor("y", (1, 4), Type.INT8, scale=2.0)],
            [0],
        ),
        integers,
    ),
    "MEAN int8": (
        one_operator(
            Operator.MEAN, [maps[0], axes, maps[1]], [0, 1], options["MEAN"], Options.ReducerOptions, [1, 2]
        ),
        sums,
    ),
    "AVERAGE_POOL_2D int8": (
        one_operator(Operator.AVERAGE_POOL_2D, maps, [0], pool, Options.Pool2DOptions),
        sums,
    ),
}
print("exact                              ", floats.ravel().tolist())
for name, (model, x) in cases.items():
    for resolver in ("AUTO", "BUILTIN_REF"):
        kernels = getattr(OpResolverType, resolver)
        runner = Interpreter(model_content=model, experimental_op_resolver_type=kernels, num_threads=1)
        runner.allocate_tensors()
        runner.set_tensor(runner.get_input_details()[0]["index"], x)
        runner.invoke()
        y = runner.get_tensor(runner.get_output_details()[0]["index"])
        print(f"{name:24} {resolver:11}", y.ravel().tolist())
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
