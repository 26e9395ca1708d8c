"""A graph half way to TFLite: its tensors by name, in float or in integers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from ppcls_lite.deploy.tflite_int8 import Int8Graph, Steps
from ppcls_lite.deploy.tflite_writer import NONE, RELU, RELU6, Writer
from ppcls_lite.int8.qdq import WEIGHTED_OPS, output_channel_axis


class Conversion:
    """A graph half way to TFLite: which of its tensors have which number in the file."""

    def __init__(self, model: onnx.ModelProto, side: int) -> None:
        self.writer = Writer()
        self.graph = model.graph
        self.constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.int8 = Int8Graph(model, self.constants, self.readers)
        name = model.graph.input[0].name
        self.known = {name: self.writer.tensor([1, side, side, 3], name=name)}
        self.steps: dict[str, Steps] = {}  # of those that are integers
        self.floats: dict[str, int] = {}  # what those are in float, where somebody asked

    def file(self) -> bytes:
        """The bytes of the file, with the input and the output of the graph."""
        names = [self.graph.input[0].name, self.graph.output[0].name]
        entry, output = (self.known[name] for name in names)
        return self.writer.file([entry], [output])

    def shape(self, name: str) -> list[int]:
        """The shape that a tensor of the graph has in the file, channels last."""
        return self.writer.tensors[self.known[name]]["shape"]

    def given(self, name: str) -> int:
        """The number of a tensor in float; a constant with channels comes with them last."""
        if name in self.steps:
            if name not in self.floats:
                number = self.known[name]
                self.floats[name] = self.between("DEQUANTIZE", [number], self.shape(name))
            return self.floats[name]
        if name not in self.known:
            value = self.constants[name].astype(np.float32)
            if value.ndim >= 3:
                value = np.moveaxis(value, -3, -1)
            self.known[name] = self.writer.constant(value)
        return self.known[name]

    def made(self, node: onnx.NodeProto, shape: Sequence[int], steps: Steps | None = None) -> int:
        """A new tensor for what a node computes, under its name; in integers where it has steps."""
        name = node.output[0]
        self.known[name] = self.writer.tensor(shape, **_kind(steps), name=name)
        if steps:
            self.steps[name] = steps
        return self.known[name]

    def integers(self, node: onnx.NodeProto, last: onnx.NodeProto) -> Steps | None:
        """The steps of what an operator makes, where it computes with integers."""
        activations = node.input[:1] if node.op_type in WEIGHTED_OPS else node.input
        return self.int8.integers(node, last, [self.steps.get(name) for name in activations])

    def inputs(self, node: onnx.NodeProto, steps: Steps | None) -> list[int]:
        """The numbers of what an operator without weights reads."""
        return [self.known[name] if steps else self.given(name) for name in node.input]

    def parameters(
        self, node: onnx.NodeProto, order: Sequence[int], steps: Steps | None
    ) -> list[int]:
        """The numbers of a layer's weights, their axes in this order, and of its bias.

        Weights that are int8 in the graph are so in the file, whatever the layer computes with.
        """
        found, axis = self.int8.weights(node), output_channel_axis(node)
        values = found.values.transpose(order)
        bias = np.zeros(found.values.shape[axis], np.float32)
        if len(node.input) > 2:
            bias = self.constants[node.input[2]]
        if found.scales is None:
            return [self.writer.constant(values), self.writer.constant(bias)]
        zeros = np.zeros_like(found.scales, np.int64)
        place = list(order).index(axis)
        weights = self.writer.constant(values, scale=found.scales, zero=zeros, axis=place)
        if not steps:
            weights = self.between("DEQUANTIZE", [weights], list(values.shape))
            return [weights, self.writer.constant(bias)]
        scales = np.float32(self.steps[node.input[0]].scale) * found.scales
        whole = np.round((bias - steps.offset) / scales).astype(np.int32)
        return [weights, self.writer.constant(whole, scale=scales, zero=zeros)]

    def between(
        self, kind: str, inputs: list[int], shape: list[int], steps: Steps | None = None,
        **options: Any,
    ) -> int:  # fmt: skip
        """An operator whose output has no name in the graph."""
        return self.writer.op(kind, inputs, self.writer.tensor(shape, **_kind(steps)), **options)

    def along(self, kind: str, x: int, values: np.ndarray) -> int:
        """ADD, SUB or MUL of a float tensor with a number for all or one a channel, [] or [C]."""
        constant = self.writer.constant(values.astype(np.float32))
        shape = self.writer.tensors[x]["shape"]
        return self.between(kind, [x, constant], shape, FusedActivationFunction=NONE)

    def fused(self, node: onnx.NodeProto) -> tuple[onnx.NodeProto, int]:
        """Whose output a layer makes: its own, or that of a ReLU, its only reader; and which."""
        readers = self.readers.get(node.output[0], [])
        if len(readers) == 1 and node.output[0] != self.graph.output[0].name:
            if readers[0].op_type == "Relu":
                return readers[0], RELU
            if readers[0].op_type == "Clip" and self.limits(readers[0]) == (0.0, 6.0):
                return readers[0], RELU6
        return node, NONE

    def limits(self, node: onnx.NodeProto) -> tuple[float, float]:
        """Between which a Clip lets values by."""
        low, high = (float(self.constants[name]) for name in node.input[1:3])
        return low, high


def _kind(steps: Steps | None) -> dict[str, Any]:
    """The type of a tensor, and its steps, as `Writer` takes them."""
    if steps is None:
        return {}
    return {"dtype": "int8", "scale": steps.scale, "zero": steps.zero}
