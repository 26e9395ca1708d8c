"""Quantization-aware training: weights and biases learn to live with a target's own rounding."""

import math
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import onnx
import paddle
from onnx import numpy_helper
from paddle import Tensor

from ppcls_lite.errors import UserError
from ppcls_lite.int8.calibrate import INT8_STEPS, Activations
from ppcls_lite.int8.qdq import (
    EXACT,
    WEIGHTED_OPS,
    output_channel_axis,
    quantize_weights,
)
from ppcls_lite.quantize.autograd import PaddleGraph

EPOCHS = 3
BATCH = 32
# Of Adam, in steps of int8, for a network whose answers are lost in noise; a better one has less
# far to go. It falls to 0 along a cosine.
RATE = 0.4
EPSILON = 1e-10  # the gradient of one step of one weight may be that small
TINY = 1e-30


def batches(
    pictures: Sequence[np.ndarray], size: int, random: np.random.Generator
) -> Iterator[list[np.ndarray]]:
    """Yields an epoch's batches in random order, half of the pictures mirrored.

    Args:
        pictures: float32 [1, 3, H, W] each.
        size: of a batch; pictures that fill none are left out.
        random: draws the order and what is mirrored.
    """
    order = random.permutation(len(pictures))
    for step in range(len(pictures) // size):
        chosen = [pictures[i] for i in order[step * size : (step + 1) * size]]
        yield [np.flip(x, 3) if random.integers(2) else x for x in chosen]


def fine_tune(
    model: onnx.ModelProto,
    reference: onnx.ModelProto,
    pictures: Sequence[np.ndarray],
    int8_of: Callable[[onnx.ModelProto], onnx.ModelProto],
    log: Callable[[str], None],
    weight_steps: int = INT8_STEPS,
) -> None:
    """Trains a float graph until its int8 graph answers as the reference does, in place.

    What is trained is the int8 graph itself: the same tensors are rounded with the same steps.
    Gradients pass through the rounding (Bengio et al. 2013, arXiv 1308.3432), but not through
    what is clipped. The loss is the mean square error of the logits, so no labels are needed.
    Thresholds are not learned, as in TQT or LSQ: whoever compiles the graph calibrates it, and that
    is done here too, before every epoch.

    Args:
        model: the float graph; its weights and biases change.
        reference: the graph to come near to.
        pictures: float32 [1, 3, H, W] each; half of them are mirrored.
        int8_of: calibrates a float graph and writes int8 into it.
        log: takes a line for each epoch.
        weight_steps: `qdq.Arithmetic.weight_steps`.

    Raises:
        UserError: the graph has an operator that `PaddleGraph` does not know, or there is no
            picture.
    """
    if not len(pictures):
        raise UserError(
            "there is no image to train with", "give --data-path a folder whose train/ holds images"
        )
    trained = Trained(model, weight_steps)
    name = reference.graph.output[0].name
    teacher = Activations(reference, [name], pictures, EXACT)
    random = np.random.default_rng(0)
    size = min(BATCH, len(pictures))
    steps = len(pictures) // size
    rate = 0.0
    for epoch in range(EPOCHS):
        begin, noise, signal = time.perf_counter(), 0.0, 0.0
        small = int8_of(model)
        network = PaddleGraph(small)
        for step, batch in enumerate(batches(pictures, size, random)):
            teacher.images = batch
            teacher_logits = np.concatenate([values[name] for values in teacher])
            images = paddle.to_tensor(np.concatenate(batch))
            answers = network(images, trained.values_in(small))
            loss = ((answers - paddle.to_tensor(teacher_logits)) ** 2).mean()
            noise, signal = noise + float(loss), signal + float(teacher_logits.var())
            rate = rate or RATE * min(1.0, math.sqrt(noise / signal))
            progress = (epoch * steps + step) / (EPOCHS * steps)
            trained.step(loss, rate * 0.5 * (1 + math.cos(math.pi * progress)))
        trained.write()
        ratio = 10 * math.log10(signal / max(noise, TINY))
        log(
            f"train: epoch {epoch + 1} of {EPOCHS}, {steps * size} images, {ratio:.1f} dB,"
            f" {time.perf_counter() - begin:.0f} s"
        )


class Trained:
    """Weights and biases of a float graph as parameters, and their optimizer.

    They are counted in steps of int8, each output channel in its own: Adam moves every parameter
    by about its rate, whatever its size, and an outlier channel has to move as far as the others.

    Args:
        model: the float graph; changed by `write`.
        weight_steps: `qdq.Arithmetic.weight_steps`.
    """

    def __init__(self, model: onnx.ModelProto, weight_steps: int = INT8_STEPS) -> None:
        self._weight_steps = weight_steps
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self._nodes = [
            node
            for node in model.graph.node
            if node.op_type in WEIGHTED_OPS and node.input[1] in self._tensors
        ]
        self._steps: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}
        for node in self._nodes:
            axis = output_channel_axis(node)
            weights = numpy_helper.to_array(self._tensors[node.input[1]])
            scales = quantize_weights(weights, axis, steps=weight_steps)[1]
            self._add(node.input[1], scales.reshape(_along(axis, weights.ndim)))
            for name in node.input[2:]:
                self._add(name, scales)
        parameters = list(self._counts.values())
        self._optimizer = paddle.optimizer.Adam(
            learning_rate=RATE, parameters=parameters, epsilon=EPSILON
        )

    def _add(self, name: str, step: np.ndarray) -> None:
        value = numpy_helper.to_array(self._tensors[name])
        self._steps[name] = paddle.to_tensor(step)
        self._counts[name] = paddle.to_tensor(value / step, stop_gradient=False)

    def values(self) -> dict[str, Tensor]:
        """The weights and biases by name, with gradients."""
        return {name: count * self._steps[name] for name, count in self._counts.items()}

    def values_in(self, small: onnx.ModelProto) -> dict[str, Tensor]:
        """The same, and beside them the rounded weights under their names in an int8 graph."""
        names = {node.name: node.input[1] for node in small.graph.node if len(node.input) > 1}
        given = self.values()
        for node in self._nodes:
            name = names[node.name]
            if name not in given:
                axis = output_channel_axis(node)
                given[name] = _rounded(given[node.input[1]], axis, self._weight_steps)
        return given

    def step(self, loss: Tensor, rate: float) -> None:
        """Moves the parameters down the gradient of a loss."""
        loss.backward()
        self._optimizer.set_lr(rate)
        self._optimizer.step()
        self._optimizer.clear_grad()

    def write(self) -> None:
        """Puts the weights and biases into the float graph."""
        for name, value in self.values().items():
            self._tensors[name].CopyFrom(numpy_helper.from_array(value.numpy(), name))


def _rounded(weights: Tensor, axis: int, weight_steps: int) -> Tensor:
    """Weights as `quantize_weights` rounds them, with the gradient of those that are not."""
    steps, scales = quantize_weights(weights.numpy(), axis, steps=weight_steps)
    nearest = paddle.to_tensor(steps * scales.reshape(_along(axis, steps.ndim)))
    return weights + (nearest - weights).detach()


def _along(axis: int, ndim: int) -> list[int]:
    """The shape in which a vector of channels multiplies along an axis."""
    return [-1 if i == axis else 1 for i in range(ndim)]
