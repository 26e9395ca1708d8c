"""Writes TFLite files, by the format's own schema (the package `tflite`)."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

TYPES = {"float32": "FLOAT32", "float16": "FLOAT16", "int8": "INT8", "uint8": "UINT8",
         "int32": "INT32", "int64": "INT64"}  # fmt: skip
OPTIONS = {"CONV_2D": "Conv2DOptions", "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
           "FULLY_CONNECTED": "FullyConnectedOptions", "ADD": "AddOptions", "SUB": "SubOptions",
           "MUL": "MulOptions", "MEAN": "ReducerOptions", "SOFTMAX": "SoftmaxOptions",
           "RESHAPE": "ReshapeOptions"}  # fmt: skip
# Of the operators with more than the first's types: float16, or weights of int8.
VERSIONS = {"DEQUANTIZE": 3, "CONV_2D": 5, "DEPTHWISE_CONV_2D": 5}
# Of those that make int8: TensorFlow's numbers, by which an older runtime refuses what it cannot.
INT8_VERSIONS = {"ADD": 2, "MUL": 3, "MEAN": 2, "PAD": 2, "FULLY_CONNECTED": 12}
NONE, RELU, RELU6 = 0, 1, 3


class Writer:
    """Collects tensors and operators; `file` makes a flatbuffer of them."""

    def __init__(self) -> None:
        self.buffers: list[bytes] = [b""]
        self.tensors: list[dict[str, Any]] = []
        self.ops: list[tuple[str, list[int], list[int], dict[str, Any]]] = []

    def tensor(self, shape: Sequence[int], dtype: str = "float32", **more: Any) -> int:
        """Adds a tensor that is computed, or given; returns its number.

        Args:
            shape: of it.
            dtype: a name of `TYPES`.
            more: name; scale and zero, numbers or [channels], with axis; signature, a shape with
                -1 where the length is free.
        """
        self.tensors.append({"shape": shape, "dtype": dtype, "buffer": 0} | more)
        return len(self.tensors) - 1

    def constant(self, values: np.ndarray, **more: Any) -> int:
        """Adds a tensor whose values stand in the file; returns its number."""
        index = self.tensor(values.shape, values.dtype.name, **more)
        self.tensors[index]["buffer"] = len(self.buffers)
        self.buffers.append(np.ascontiguousarray(values).tobytes())
        return index

    def op(self, kind: str, inputs: list[int], output: int, **options: Any) -> int:
        """Adds an operator, by its name in the schema; returns the number of its output."""
        self.ops.append((kind, inputs, [output], options))
        return output

    def file(self, inputs: list[int], outputs: list[int]) -> bytes:
        """The bytes of the file."""
        import flatbuffers
        import tflite

        b = flatbuffers.Builder(1024)
        kinds = sorted({op[0] for op in self.ops})
        buffers = [_buffer(b, data) for data in self.buffers]
        tensors = [_tensor(b, number, t) for number, t in enumerate(self.tensors)]
        ops = [_op(b, kinds, op) for op in self.ops]
        inputs_at, outputs_at = _ints(b, inputs), _ints(b, outputs)
        tensors_at, ops_at = _offsets(b, tensors), _offsets(b, ops)
        tflite.SubGraphStart(b)
        tflite.SubGraphAddTensors(b, tensors_at)
        tflite.SubGraphAddInputs(b, inputs_at)
        tflite.SubGraphAddOutputs(b, outputs_at)
        tflite.SubGraphAddOperators(b, ops_at)
        graphs = _offsets(b, [tflite.SubGraphEnd(b)])
        small = {op[0] for op in self.ops if self.tensors[op[2][0]]["dtype"] == "int8"}
        numbers = VERSIONS | {kind: n for kind, n in INT8_VERSIONS.items() if kind in small}
        codes = _offsets(b, [_code(b, kind, numbers.get(kind, 1)) for kind in kinds])
        buffers_at = _offsets(b, buffers)
        tflite.ModelStart(b)
        tflite.ModelAddVersion(b, 3)
        tflite.ModelAddOperatorCodes(b, codes)
        tflite.ModelAddSubgraphs(b, graphs)
        tflite.ModelAddBuffers(b, buffers_at)
        b.Finish(tflite.ModelEnd(b), b"TFL3")
        return bytes(b.Output())


# `b` is a flatbuffers.Builder; each function returns where in it the thing begins.


def _ints(b: Any, numbers: Iterable[int]) -> int:
    return b.CreateNumpyVector(np.asarray(list(numbers), np.int32))


def _offsets(b: Any, offsets: Sequence[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return b.EndVector()


def _code(b: Any, kind: str, version: int) -> int:
    import tflite

    number = getattr(tflite.BuiltinOperator, kind)
    tflite.OperatorCodeStart(b)
    tflite.OperatorCodeAddDeprecatedBuiltinCode(b, min(number, 127))
    tflite.OperatorCodeAddBuiltinCode(b, number)
    tflite.OperatorCodeAddVersion(b, version)
    return tflite.OperatorCodeEnd(b)


def _buffer(b: Any, data: bytes) -> int:
    import tflite

    at = None
    if data:
        b.StartVector(1, len(data), 16)
        b.head -= len(data)
        b.Bytes[b.head : b.head + len(data)] = data
        at = b.EndVector()
    tflite.BufferStart(b)
    if at is not None:
        tflite.BufferAddData(b, at)
    return tflite.BufferEnd(b)


def _tensor(b: Any, number: int, tensor: dict[str, Any]) -> int:
    import tflite

    name, shape = b.CreateString(tensor.get("name", f"t{number}")), _ints(b, tensor["shape"])
    signature = _ints(b, tensor["signature"]) if "signature" in tensor else None
    quantization = None
    if "scale" in tensor:
        scale = b.CreateNumpyVector(np.atleast_1d(np.asarray(tensor["scale"], np.float32)))
        zero = b.CreateNumpyVector(np.atleast_1d(np.asarray(tensor["zero"], np.int64)))
        tflite.QuantizationParametersStart(b)
        tflite.QuantizationParametersAddScale(b, scale)
        tflite.QuantizationParametersAddZeroPoint(b, zero)
        tflite.QuantizationParametersAddQuantizedDimension(b, tensor.get("axis", 0))
        quantization = tflite.QuantizationParametersEnd(b)
    tflite.TensorStart(b)
    tflite.TensorAddShape(b, shape)
    tflite.TensorAddType(b, getattr(tflite.TensorType, TYPES[tensor["dtype"]]))
    tflite.TensorAddBuffer(b, tensor["buffer"])
    tflite.TensorAddName(b, name)
    if quantization is not None:
        tflite.TensorAddQuantization(b, quantization)
    if signature is not None:
        tflite.TensorAddShapeSignature(b, signature)
    return tflite.TensorEnd(b)


def _op(b: Any, kinds: list[str], op: tuple[str, list[int], list[int], dict[str, Any]]) -> int:
    import tflite

    kind, inputs, outputs, options = op
    inputs_at, outputs_at = _ints(b, inputs), _ints(b, outputs)
    table, at = OPTIONS.get(kind, ""), None
    if table:
        getattr(tflite, f"{table}Start")(b)
        for name, value in options.items():
            getattr(tflite, f"{table}Add{name}")(b, value)
        at = getattr(tflite, f"{table}End")(b)
    tflite.OperatorStart(b)
    tflite.OperatorAddOpcodeIndex(b, kinds.index(kind))
    tflite.OperatorAddInputs(b, inputs_at)
    tflite.OperatorAddOutputs(b, outputs_at)
    if at is not None:
        tflite.OperatorAddBuiltinOptionsType(b, getattr(tflite.BuiltinOptions, table))
        tflite.OperatorAddBuiltinOptions(b, at)
    return tflite.OperatorEnd(b)
