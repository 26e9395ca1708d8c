#!/usr/bin/env bash
# Question: int8 RELU6 whose output has another scale than its input (0.05 to 6/255, as a calibrated output has). Does TFLite Micro
#           give what LiteRT gives?
# Guess:    yes, to one step, or an error: the device's kernels are tested against the desktop's.
# Seen:     TFLite Micro clips the stored numbers and copies them. It never rescales, so they mean something else behind it: 0 comes
#           out as 3.0, and 3.0 as 4.4. RELU with the same two scales is right, and so is RELU6 if they are equal.
# Matters:  every check on the desktop passes, and on the device the network is wrong from its first ReLU6 on. MobileNetV2 and the
#           hard gates of MobileNetV3 are made of them wherever a converter does not fuse the activation.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  numpy==2.3.5 ai-edge-litert==2.3.0 flatbuffers==25.12.19 tflite_micro==0.dev20261023182759
cat > "$work/expected" <<'EXPECTED'
ai-edge-litert 2.3.0 tflite_micro 0.dev20261023182759
RELU same scale of [-1.0, 0.0, 1.0, 3.0, 5.0, 6.0]
  LiteRT           [0.0, 0.0, 1.0, 3.0, 5.0, 6.0]
  LiteRT reference [0.0, 0.0, 1.0, 3.0, 5.0, 6.0]
  TFLite Micro     [0.0, 0.0, 1.0, 3.0, 5.0, 6.0]
RELU own scale  of [-1.0, 0.0, 1.0, 3.0, 5.0, 6.0]
  LiteRT           [0.0, 0.0, 1.0, 3.0, 5.0, 6.0]
  LiteRT reference [0.0, 0.0, 1.0, 3.0, 5.0, 6.0]
  TFLite Micro     [0.0, 0.0, 1.0, 3.0, 5.0, 6.0]
RELU6 same scale of [-1.0, 0.0, 1.0, 3.0, 5.0, 6.0]
  LiteRT           [0.0, 0.0, 1.0, 3.0, 5.0, 6.0]
  LiteRT reference [0.0, 0.0, 1.0, 3.0, 5.0, 6.0]
  TFLite Micro     [0.0, 0.0, 1.0, 3.0, 5.0, 6.0]
RELU6 own scale  of [-1.0, 0.0, 1.0, 3.0, 5.0, 6.0]
  LiteRT           [0.0, 0.0, 1.0, 3.0, 5.0, 6.0]
  LiteRT reference [0.0, 0.0, 1.0, 3.0, 5.0, 6.0]
  TFLite Micro     [3.0, 3.0, 3.5, 4.4, 5.4, 5.8]
EXPECTED
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from tflite_micro.python.tflite_micro import runtime

print(*(f"{p} {version(p)}" for p in ("ai-edge-litert", "tflite_micro")))
Type, Operator = schema.TensorType, schema.BuiltinOperator


def tensor(name, shape, kind, buffer=0, scale=None, zero_point=0):
    t = schema.TensorT()
    t.name, t.shape, t.type, t.buffer = name, list(shape), kind, buffer
    if scale:
        t.quantization = schema.QuantizationParametersT()
        t.quantization.scale, t.quantization.zeroPoint = [scale], [zero_point]
    return t


def one_operator(code, tensors, inputs, options=None, options_type=0, constant=(0,), version=2):
    graph, node, kind = schema.SubGraphT(), schema.OperatorT(), schema.OperatorCodeT()
    node.opcodeIndex, node.inputs, node.outputs = 0, inputs, [len(tensors) - 1]
    node.builtinOptions, node.builtinOptionsType = options, options_type
    graph.tensors, graph.operators = tensors, [node]
    graph.inputs, graph.outputs = [0], node.outputs
    kind.builtinCode = kind.deprecatedBuiltinCode = code
    kind.version = version
    model = schema.ModelT()
    model.version, model.subgraphs, model.operatorCodes = 3, [graph], [kind]
    model.buffers = [schema.BufferT(), schema.BufferT()]
    model.buffers[1].data = np.frombuffer(np.int32(constant).tobytes(), np.uint8)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def litert(model, x, kernels):
    runner = Interpreter(model_content=model, experimental_op_resolver_type=kernels, num_threads=1)
    runner.allocate_tensors()
    runner.set_tensor(runner.get_input_details()[0]["index"], x)
    runner.invoke()
    return runner.get_tensor(runner.get_output_details()[0]["index"])


def micro(model, x):
    runner = runtime.Interpreter.from_bytes(model, arena_size=20000)
    runner.set_input(x, 0)
    runner.invoke()
    return runner.get_output(0)


real = np.float32([[-1, 0, 1, 3, 5, 6]])
x = np.int8(np.round(real / 0.05))
for code, name in ((Operator.RELU, "RELU"), (Operator.RELU6, "RELU6")):
    for label, scale, zero_point in (("same scale", 0.05, 0), ("own scale ", 6 / 255, -128)):
        ends = [tensor("x", x.shape, Type.INT8, scale=0.05)]
        ends.append(tensor("y", x.shape, Type.INT8, scale=scale, zero_point=zero_point))
        model = one_operator(code, ends, [0])
        print(f"{name} {label} of", real.ravel().tolist())
        for who, y in (
            ("LiteRT", litert(model, x, OpResolverType.AUTO)),
            ("LiteRT reference", litert(model, x, OpResolverType.BUILTIN_REF)),
            ("TFLite Micro", micro(model, x)),
        ):
            print(f"  {who:16}", [round(float(v), 1) for v in (y.astype(int).ravel() - zero_point) * scale])
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
