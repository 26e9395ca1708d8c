"""What an ONNX file computes from its last maps on: gradients of its head without a framework.

A network's head is what follows the last global average pooling: a linear layer, or two with an
activation between them. It is small, so it is gone through in NumPy, forwards and backwards; the
maps come from ONNX Runtime in the same run as the answer.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ppcls_lite.deploy.features import features_name
from ppcls_lite.engines import import_engine
from ppcls_lite.runtimes import OnnxRuntime, every_in_batches

Array = np.ndarray
# What leaves a value [N, D] as it is.
UNCHANGED = {"Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"}
ANSWERS = {"Softmax", "LogSoftmax", "Sigmoid"}  # what may follow the logits
LAYERS = {"MatMul", "Gemm", "Conv"}
ROUNDINGS = {"QuantizeLinear", "DequantizeLinear"}  # of int8 files
DEEPEST = 8  # operators in a row that a constant may be made by


class OnnxMaps:
    """The last maps of an ONNX file, and how a logit hangs on them.

    Takes the place of `DygraphRuntime.gradients` where there is a file alone. The maps and the
    features are two outputs more, asked for in memory: files need not carry them.

    Args:
        path: the file, of any origin, in float or int8.
        device: auto, cpu or gpu.
        answer: images [N, 3, H, W] and the file's own output [N, K] -> logits [N, K].

    Raises:
        NoHeadError: its head is none that is known here.
        UserError: onnx or ONNX Runtime is not installed, or cannot read the file.
    """

    def __init__(self, path: Path, device: str, answer: Callable[[Array, Array], Array]) -> None:
        onnx = import_engine("onnx", "onnx")
        model = onnx.load(str(path))
        self._head = Head(onnx, model.graph)
        kind, features = onnx.TensorProto.FLOAT, features_name(model.graph)
        del model.graph.output[1:]
        model.graph.output.extend(
            onnx.helper.make_tensor_value_info(name, kind, None)
            for name in (self._head.maps, features)
        )
        self._run = OnnxRuntime(model.SerializeToString(), device)
        self._answer = answer

    def gradients(
        self, images: Array, choose: Callable[[Array], Array]
    ) -> tuple[Array, Array, Array, bool, Array]:
        """Runs the file once: what the pooling reads, and how a logit of each image hangs on it.

        Args:
            images: float32 [N, 3, H, W].
            choose: logits [N, K] -> the class of each image, int64 [N].

        Returns:
            logits [N, K]; maps [N, C, h, w]; the logit's gradients [N, C, 1, 1], the same at every
            place of a map; whether the head is linear; the features [N, D], what the last layer
            reads.
        """
        output, maps, features = every_in_batches(self._run.every, self._run.batch, images)
        logits = self._answer(images, output)
        pooled = maps.mean(axis=(2, 3))  # [N, C]
        slopes = self._head.slopes(pooled, choose(logits)) / (maps.shape[2] * maps.shape[3])
        slopes = slopes[:, :, None, None]
        return logits, maps, slopes, self._head.is_linear, features.reshape(len(images), -1)


class NoHeadError(ValueError):
    """What follows the last pooling is none of the heads that are known here."""


class Head:
    """The nodes between the last global average pooling and the logits.

    Args:
        onnx: the package.
        graph: of the file.

    Attributes:
        maps: name of what the pooling reads, [N, C, h, w].
        is_linear: there is no activation in it.

    Raises:
        NoHeadError: there is no such pooling, or an operator that is not known here.
    """

    def __init__(self, onnx: Any, graph: Any) -> None:
        pools = [i for i, node in enumerate(graph.node) if node.op_type == "GlobalAveragePool"]
        if not pools:
            raise NoHeadError("no global average pooling")
        pool = graph.node[pools[-1]]
        self.maps, self._pooled = pool.input[0], pool.output[0]
        constant = Constants(onnx, graph)
        self._hang = {self._pooled}  # names of values that hang on the image
        self._nodes = list[tuple[Any, list[Any]]]()  # with attributes and inputs
        for node in graph.node[pools[-1] + 1 :]:
            if self._hang.isdisjoint(node.input):
                continue
            if node.op_type in ANSWERS:
                break
            self._nodes.append((node, self._read(onnx, node, constant)))
            self._hang.add(node.output[0])
        if not any(node.op_type in LAYERS for node, _ in self._nodes):
            raise NoHeadError("no linear layer in its head")
        self.is_linear = all(
            node.op_type in LAYERS | UNCHANGED | ROUNDINGS | {"Add", "Sub"}
            or (node.op_type in ("Mul", "Div") and len(self._hang & {*node.input}) == 1)
            for node, _ in self._nodes
        )

    def _read(self, onnx: Any, node: Any, constant: "Constants") -> list[Any]:
        """A node's attributes, then its inputs: arrays, or names of what hangs on the image."""
        kind, names = node.op_type, [name for name in node.input if name]
        if kind not in OPERATORS and kind not in UNCHANGED:
            raise NoHeadError(f"{kind} in its head")
        both = kind in ("Add", "Mul")  # others hang on the image by their first input alone
        if not both and [name in self._hang for name in names] != [True] + [False] * len(names[1:]):
            raise NoHeadError(f"{kind} whose second input is no constant")
        if kind in UNCHANGED:
            return [{}, names[0]]
        given = [name if name in self._hang else constant(name) for name in names]
        if kind == "Conv" and (given[1].ndim != 4 or given[1].shape[1] != given[1][0].size):
            raise NoHeadError(f"a convolution {list(given[1].shape)} in its head")
        if kind not in LAYERS:  # [1, D], [1, D, 1, 1] or one number
            given = [each if isinstance(each, str) else np.ravel(each) for each in given]
        return [{a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}, *given]

    def slopes(self, pooled: Array, ids: Array) -> Array:
        """Returns how each image's logit of a class hangs on what was pooled.

        Args:
            pooled: float32 [N, C].
            ids: the classes, int64 [N].

        Returns:
            float32 [N, C].
        """
        values = {self._pooled: pooled}  # each [N, D]
        back = list[tuple[str, list[tuple[str, Callable[[Array], Array]]]]]()
        for node, (fields, *given) in self._nodes:
            read = [values[each] if isinstance(each, str) else each for each in given]
            step = OPERATORS.get(node.op_type, _unchanged)
            values[node.output[0]], pulls = step(fields, *read)
            sources = [each for each in given if isinstance(each, str)]
            back.append((node.output[0], list(zip(sources, pulls, strict=False))))
        last = back[-1][0]
        slopes = {last: np.eye(values[last].shape[1], dtype=np.float32)[ids]}
        for name, sources in reversed(back):
            for source, pull in sources:
                slopes[source] = slopes.get(source, 0) + pull(slopes[name])
        return slopes[self._pooled]


class Constants:
    """What a graph knows without an image, by name.

    Args:
        onnx: the package.
        graph: of the file.
    """

    def __init__(self, onnx: Any, graph: Any) -> None:
        self._evaluate = import_engine("onnx.reference", "onnx").ReferenceEvaluator
        self._to_array = onnx.numpy_helper.to_array
        self._stored = {each.name: each for each in graph.initializer}
        self._makers = {name: node for node in graph.node for name in node.output}

    def __call__(self, name: str) -> Array:
        """Returns a constant.

        Raises:
            NoHeadError: there is none of that name.
        """
        return self._value(name, DEEPEST)

    def _value(self, name: str, depth: int) -> Array:
        if name in self._stored:
            return self._to_array(self._stored[name])
        if name not in self._makers or not depth:
            raise NoHeadError(f"{name} is no constant")
        node = self._makers[name]
        given = {each: self._value(each, depth - 1) for each in node.input if each}
        return self._evaluate(node).run(None, given)[0]


def _same(slopes: Array) -> Array:
    return slopes


# Each: attributes and inputs -> the value [N, D], and for every input that hangs on the image what
# makes its slopes of the value's. Constants are [D], or [in, out] for a layer.
Step = tuple[Array, list[Callable[[Array], Array]]]


def _unchanged(fields: dict[str, Any], x: Array) -> Step:
    return x, [_same]


def _layer(x: Array, weights: Array, bias: Array | float = 0.0) -> Step:
    # einsum keeps to this thread: BLAS would wake others for half a million products.
    value = np.einsum("ni,io->no", x, weights) + np.ravel(bias)
    return value, [lambda slopes: np.einsum("no,io->ni", slopes, weights)]


def _gemm(fields: dict[str, Any], x: Array, weights: Array, bias: Array | float = 0.0) -> Step:
    matrix = weights.T if fields.get("transB") else weights
    scaled = np.ravel(bias) * fields.get("beta", 1.0)
    return _layer(x, fields.get("alpha", 1.0) * matrix, scaled)


def _conv(fields: dict[str, Any], x: Array, weights: Array, bias: Array | float = 0.0) -> Step:
    return _layer(x, weights[:, :, 0, 0].T, bias)


def _add(fields: dict[str, Any], x: Array, y: Array) -> Step:
    return x + y, [_same, _same]


def _sub(fields: dict[str, Any], x: Array, y: Array) -> Step:
    return x - y, [_same]


def _mul(fields: dict[str, Any], x: Array, y: Array) -> Step:
    pulls = [lambda slopes: slopes * y, lambda slopes: slopes * x]
    return x * y, pulls if x.ndim == 2 else pulls[1:]


def _div(fields: dict[str, Any], x: Array, y: Array) -> Step:
    return _mul(fields, x, 1 / y)


def _clip(
    fields: dict[str, Any], x: Array, low: Array | None = None, high: Array | None = None
) -> Step:
    least = fields.get("min", -np.inf) if low is None else low
    most = fields.get("max", np.inf) if high is None else high
    return np.clip(x, least, most), [lambda slopes: slopes * ((x > least) & (x < most))]


def _quantize(fields: dict[str, Any], x: Array, scale: Array, zero: Array | None = None) -> Step:
    """Backwards as if nothing were rounded: the straight-through estimator, arXiv 1308.3432."""
    zero = np.zeros(1, np.uint8) if zero is None else zero
    steps, range_ = np.rint(x / scale) + np.float32(zero), np.iinfo(zero.dtype)
    inside = (steps >= range_.min) & (steps <= range_.max)
    return np.clip(steps, range_.min, range_.max), [lambda slopes: slopes * inside / scale]


def _dequantize(fields: dict[str, Any], x: Array, scale: Array, zero: Array | int = 0) -> Step:
    return (x - np.float32(zero)) * scale, [lambda slopes: slopes * scale]


def _hard_sigmoid(fields: dict[str, Any], x: Array) -> Step:
    alpha = fields.get("alpha", 0.2)
    value = alpha * x + fields.get("beta", 0.5)
    inside = (value > 0) & (value < 1)
    return np.clip(value, 0, 1), [lambda slopes: slopes * alpha * inside]


def _hard_swish(fields: dict[str, Any], x: Array) -> Step:
    gate, (pull,) = _hard_sigmoid({"alpha": 1 / 6}, x)
    return x * gate, [lambda slopes: slopes * gate + pull(slopes * x)]


OPERATORS: dict[str, Callable[..., Step]] = {
    "MatMul": lambda fields, x, weights: _layer(x, weights),
    "Gemm": _gemm,
    "Conv": _conv,
    "Add": _add,
    "Sub": _sub,
    "Mul": _mul,
    "Div": _div,
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "Clip": _clip,
    "Relu": lambda fields, x: _clip({"min": 0.0}, x),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
}
