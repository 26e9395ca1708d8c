"""A TFLite file as a graph of operators; the only place that follows its offsets.

The format is a flatbuffer by TensorFlow's `schema.fbs`. Its reader checks no offset, so that a
damaged file raises all that parsing may raise, or gives numbers that nobody wrote: every count is
held against a limit before anything is made of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ppcls_lite.weights.raw import Damaged, Unread, decode, shaped

MAGIC = b"TFL3"  # at byte 4
# A network of this family has 70 to 250 operators, twice as many tensors, and at most three of the
# former read one tensor.
_MOST_OPERATORS, _MOST_TENSORS, _MOST_ENDS = 10_000, 50_000, 100
_MOST_STEPS = 4  # between a constant in the file and the operator that uses it


@dataclass(frozen=True)
class Tensor:
    """One tensor of the graph.

    Attributes:
        dtype: numpy's name, or TFLite's own where numpy has none.
        scale: float32 [1] or [channels]; empty where the values are not quantised.
        zero: int64, as many as `scale`.
        axis: that the channels of `scale` count.
        data: the bytes of a constant, uint8; None for a tensor that is computed.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: np.ndarray
    zero: np.ndarray
    axis: int
    data: np.ndarray | None


@dataclass(frozen=True)
class Op:
    """One operator: places of its tensors, -1 for one left out, and what it is told beside them."""

    number: int
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, int]

    def __str__(self) -> str:
        return f"operator {self.number} ({self.kind})"


@dataclass
class Graph:
    """Tensors and operators, the latter in the order in which they run."""

    tensors: list[Tensor]
    ops: list[Op]
    inputs: tuple[int, ...]
    values_left: int
    _producers: dict[int, Op] = field(default_factory=dict)
    _users: dict[int, list[Op]] = field(default_factory=dict)
    _values: dict[int, np.ndarray | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for op in self.ops:
            for index in op.outputs:
                self._producers.setdefault(index, op)
            for index in set(op.inputs) - {-1}:
                self._users.setdefault(index, []).append(op)

    def producer(self, tensor: int) -> Op | None:
        """The operator that computes a tensor."""
        return self._producers.get(tensor)

    def users(self, op: Op) -> list[Op]:
        """The operators that read the first output of another, in the order they run."""
        return self._users.get(op.outputs[0], [])

    def value(self, tensor: int, steps: int = _MOST_STEPS) -> np.ndarray | None:
        """The numbers that a constant stands for: float32 where it is quantised or of half
        precision; None for a tensor that is computed.

        A constant may come through operators that only write it otherwise.

        Raises:
            Damaged: its bytes are not what its shape and type ask for.
            Unread: it is of a type that is not read.
        """
        if tensor not in self._values:
            self._values[tensor] = self._computed(tensor, steps)
        return self._values[tensor]

    def _computed(self, tensor: int, steps: int) -> np.ndarray | None:
        if tensor < 0:
            return None
        if self.tensors[tensor].data is not None:
            return self._constant(self.tensors[tensor])
        op = self.producer(tensor)
        if op is None or steps == 0 or op.kind not in ("DEQUANTIZE", "TRANSPOSE", "RESHAPE"):
            return None
        value = self.value(op.inputs[0], steps - 1)
        if value is None or op.kind == "DEQUANTIZE":
            return value
        if op.kind == "RESHAPE":
            return shaped(value, self.tensors[tensor].shape)
        order = self.value(op.inputs[1], steps - 1)
        return None if order is None else np.transpose(value, tuple(map(int, order)))

    def _constant(self, tensor: Tensor) -> np.ndarray:
        data = tensor.data if tensor.data is not None else np.zeros(0, np.uint8)
        if not tensor.dtype.islower():
            raise Unread(f"tensor {tensor.name} holds {tensor.dtype}, which is not read")
        self.values_left -= data.size
        if self.values_left < 0:
            raise Damaged("its tensors share their values")
        values = shaped(decode(data.tobytes(), tensor.dtype), tensor.shape)
        if values.dtype.kind == "f":
            return values.astype(np.float32)
        return _dequantised(values, tensor) if tensor.scale.size else values


def _dequantised(values: np.ndarray, tensor: Tensor) -> np.ndarray:
    """scale x (q - zero), rounded to float32 once."""
    count = tensor.scale.size
    if count == 1:
        shape: tuple[int, ...] = ()
    elif -values.ndim <= tensor.axis < values.ndim and values.shape[tensor.axis] == count:
        shape = tuple(count if i == tensor.axis % values.ndim else 1 for i in range(values.ndim))
    else:
        raise Damaged(f"tensor {tensor.name} has {count} scales for the shape {tensor.shape}")
    zero = tensor.zero if tensor.zero.size else np.zeros(count, np.int64)
    with np.errstate(over="ignore", invalid="ignore"):
        exact = (values.astype(np.int64) - zero.reshape(shape)) * tensor.scale.reshape(shape)
        return exact.astype(np.float32)


def read_graph(data: bytes) -> Graph:
    """Reads the main graph of a TFLite file.

    Raises:
        Damaged: an offset or a count of it is not what TFLite writes; other errors of parsing too.
        Unread: the file keeps its values in a way that is not read.
    """
    # Not at the top of the file: it is a package of 180 modules, for one format of six.
    import tflite

    model = tflite.Model.GetRootAs(data, 0)
    if model.SubgraphsLength() < 1:
        raise Damaged("it holds no graph")
    graph = model.Subgraphs(0)
    count = _limited(model.BuffersLength(), _MOST_TENSORS, "buffers")
    buffers = [_buffer(model.Buffers(i)) for i in range(count)]
    codes = [
        # Older files have the number in a byte, newer ones in both places.
        max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        for code in map(model.OperatorCodes, range(_limited(model.OperatorCodesLength())))
    ]
    types = _names(tflite.TensorType)
    count = _limited(graph.TensorsLength(), _MOST_TENSORS, "tensors")
    tensors = [_tensor(graph.Tensors(i), types, buffers) for i in range(count)]
    kinds = _names(tflite.BuiltinOperator)
    count = _limited(graph.OperatorsLength(), _MOST_OPERATORS, "operators")
    ops = []
    for i in range(count):
        op = graph.Operators(i)
        inputs = _places(op.InputsAsNumpy(), len(tensors))
        outputs = _places(op.OutputsAsNumpy(), len(tensors))
        if not inputs or not outputs:
            raise Damaged(f"operator {i} reads or makes nothing")
        kind = kinds.get(codes[op.OpcodeIndex()], "unknown")
        ops.append(Op(i, kind, inputs, outputs, _options(op, kind)))
    # int8 grows fourfold as float32; ten times the file is more than any use of a tensor twice.
    return Graph(tensors, ops, _places(graph.InputsAsNumpy(), len(tensors)), 10 * len(data))


def _limited(count: int, most: int = _MOST_ENDS, what: str = "kinds of operators") -> int:
    if count > most:
        raise Damaged(f"it claims {count} {what}")
    return count


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if name.isupper()}


def _vector(found: Any, dtype: type) -> np.ndarray:
    """What the reader gives for a vector, which is the number 0 for one that is not there."""
    return np.zeros(0, dtype) if isinstance(found, int) else np.asarray(found, dtype)


def _places(found: Any, count: int) -> tuple[int, ...]:
    places = _vector(found, np.int64)
    _limited(places.size, _MOST_ENDS, "tensors of one operator")
    if not ((places >= -1) & (places < count)).all():
        raise Damaged("an operator uses a tensor that is not there")
    return tuple(map(int, places))


def _buffer(buffer: Any) -> np.ndarray | None:
    if buffer.Offset() > 1:
        raise Unread("it keeps its values outside of the flatbuffer, as files above 2 GB do")
    data = _vector(buffer.DataAsNumpy(), np.uint8)
    return data if data.size else None


def _tensor(tensor: Any, types: dict[int, str], buffers: list[np.ndarray | None]) -> Tensor:
    name = (tensor.Name() or b"").decode("utf-8", "replace")[:200]
    if tensor.Sparsity() is not None:
        raise Unread(f"tensor {name} is sparse, which is not read")
    shape = _vector(tensor.ShapeAsNumpy(), np.int64)
    _limited(shape.size, 8, "dimensions")
    scale, zero, axis = np.zeros(0, np.float32), np.zeros(0, np.int64), 0
    quantization = tensor.Quantization()
    if quantization is not None:
        scale = _vector(quantization.ScaleAsNumpy(), np.float32)
        zero = _vector(quantization.ZeroPointAsNumpy(), np.int64)
        axis = quantization.QuantizedDimension()
        if zero.size not in (0, scale.size):
            raise Damaged(f"tensor {name} has {scale.size} scales and {zero.size} zero points")
    dtype = types.get(tensor.Type(), "UNKNOWN")
    known = ("FLOAT16", "FLOAT32", "FLOAT64", "INT8", "INT16", "INT32", "INT64", "UINT8", "BOOL")
    dtype = dtype.lower() if dtype in known else dtype
    data = buffers[tensor.Buffer()]
    if data is None and tensor.ShapeSignatureLength() == shape.size:
        shape = _vector(tensor.ShapeSignatureAsNumpy(), np.int64)  # -1 where `shape` has a 1
    return Tensor(name, tuple(map(int, shape)), dtype, scale, zero, axis, data)


def _options(op: Any, kind: str) -> dict[str, int]:
    """What the operators that matter are told."""
    import tflite

    tables: dict[str, type[Any]] = {
        "CONV_2D": tflite.Conv2DOptions, "DEPTHWISE_CONV_2D": tflite.DepthwiseConv2DOptions,
        "FULLY_CONNECTED": tflite.FullyConnectedOptions, "ADD": tflite.AddOptions,
        "SUB": tflite.SubOptions, "MUL": tflite.MulOptions, "DIV": tflite.DivOptions,
    }  # fmt: skip
    table, found = tables.get(kind), op.BuiltinOptions()
    if table is None or found is None:
        return {"activation": 0}
    options = table()
    options.Init(found.Bytes, found.Pos)
    names = {
        "activation": "FusedActivationFunction", "padding": "Padding", "stride_h": "StrideH",
        "stride_w": "StrideW", "dilation_h": "DilationHFactor", "dilation_w": "DilationWFactor",
    }  # fmt: skip
    read: dict[str, Callable[[], int]] = {
        ours: getattr(options, theirs) for ours, theirs in names.items() if hasattr(options, theirs)
    }
    return {name: get() for name, get in read.items()}
