"""What int8 does to weights, made up for with calibration pictures: biases and rounding."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import onnx

from ppcls_lite.int8.calibrate import INT8_STEPS, Activations, Threshold
from ppcls_lite.int8.qdq import EXACT, insert_qdq, output_channel_axis
from ppcls_lite.quantize.scaling import Layers, groups_of

PICTURES = 32  # means and moments need no more, and every layer runs them
POSITIONS = 64  # of each picture, that the least squares look at
DAMPING = 0.01  # of the mean diagonal, against directions the pictures do not show


def correct_biases(
    model: onnx.ModelProto,
    reference: onnx.ModelProto,
    thresholds: Mapping[str, Threshold],
    images: Sequence[np.ndarray],
    float_layers: Collection[str] = (),
    weight_steps: int = INT8_STEPS,
) -> None:
    """Shifts each bias so that int8 makes no error on average, in place.

    Layer by layer from the input (Nagel et al. 2019, arXiv 1906.04721, section 4.2, empirically):
    what earlier layers do wrong is made up for, too. Afterwards the mean over pictures and
    positions of every channel of every layer's output is what it is in float.

    Args:
        model: the float graph whose biases change.
        reference: the graph to come near to, with the same tensors.
        thresholds: of int8, as `insert_qdq` takes them.
        images: calibration pictures, float32 [1, 3, H, W] each.
        float_layers: nodes that stay float; they are corrected, too.
        weight_steps: `qdq.Arithmetic.weight_steps`.
    """
    layers, images = Layers(model), images[:PICTURES]
    names = [node.output[0] for node in layers.nodes]
    wanted = mean_outputs(Activations(reference, names, images))
    small = insert_qdq(model, thresholds, float_layers, weight_steps)
    small_layers = {node.name: node for node in small.graph.node}
    biases = {tensor.name: tensor for tensor in small.graph.initializer}
    for node, name in zip(layers.nodes, names, strict=True):
        got = mean_outputs(Activations(_until(small, name), [name], images, EXACT))
        shifted = layers.bias(node) + (wanted[name] - got[name]).astype(np.float32)
        layers.write(node, layers.weights(node), shifted)
        bias = biases[small_layers[node.name].input[2]]
        bias.CopyFrom(onnx.numpy_helper.from_array(shifted, bias.name))


def mean_outputs(activations: Activations) -> dict[str, np.ndarray]:
    """The mean of each channel of each tensor over pictures and positions, float64 [C]."""
    sums: dict[str, np.ndarray] = {}
    for values in activations:
        for name, value in values.items():
            flat = value.reshape(*value.shape[:2], -1).astype(np.float64)
            sums[name] = sums.get(name, 0) + flat.mean(axis=(0, 2))
    return {name: total / len(activations) for name, total in sums.items()}


def _until(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The part of a graph that a tensor depends on."""
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    wanted, kept = {name}, []
    for node in reversed(model.graph.node):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
    del cut.graph.node[:]
    cut.graph.node.extend(kept[::-1])
    return cut


def round_by_least_squares(
    model: onnx.ModelProto,
    images: Sequence[np.ndarray],
    float_layers: Collection[str] = (),
    weight_steps: int = INT8_STEPS,
) -> None:
    """Moves weights to the steps of int8 so that the layers' outputs change least, in place.

    Rounding each weight to the nearest step is best only for inputs that know nothing of each
    other. Here weights are rounded one input after the other, and those still to come make up for
    the error, in the least-squares sense over the calibration pictures (OBQ, Frantar et al. 2022,
    arXiv 2208.11580, in GPTQ's fixed order, arXiv 2210.17323).
    Differs from AdaRound (Nagel et al. 2020): no training, and more than the two nearest steps.

    The graph stays float. The largest weight of each output channel stays as it is, so whoever
    rounds with scale = max |w| / weight_steps finds these very steps.

    Args:
        model: what `float_graph` returned.
        images: calibration pictures, float32 [1, 3, H, W] each.
        float_layers: nodes that stay float.
        weight_steps: `qdq.Arithmetic.weight_steps`.
    """
    layers = Layers(model)
    nodes = [node for node in layers.nodes if node.name not in float_layers]
    moments: dict[str, np.ndarray] = {}
    random = np.random.default_rng(0)
    inputs = sorted({node.input[0] for node in nodes})
    for values in Activations(model, inputs, images[:PICTURES]):
        for node in nodes:
            columns = _columns(node, layers.weights(node), values[node.input[0]], random)
            moments[node.name] = moments.get(node.name, 0) + np.einsum(
                "pgi,pgj->gij", columns, columns, optimize=True
            )
    for node in nodes:
        weights, axis = layers.weights(node), output_channel_axis(node)
        rows = np.moveaxis(weights, axis, 0)  # [O, I, ...]
        grouped = rows.reshape(groups_of(node), -1, rows[0].size)  # [groups, O / groups, n]
        rounded = [
            least_squares_rows(part, moment, weight_steps)
            for part, moment in zip(grouped, moments[node.name], strict=True)
        ]
        result = np.moveaxis(np.stack(rounded).reshape(rows.shape), 0, axis)
        layers.write(node, result, layers.bias(node))


def _columns(
    node: onnx.NodeProto, weights: np.ndarray, x: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """What a layer multiplies its weights by, at some positions: float32 [P, groups, n]."""
    if node.op_type == "Gemm":
        return x[:, None, :]
    attributes = {a.name: list(a.ints) for a in node.attribute if a.ints}
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    steps = attributes.get("strides", [1, 1])
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (1, 1, *weights.shape[2:]))
    windows = windows[0, :, :: steps[0], :: steps[1], 0, 0]  # [I, H, W, k, k]
    height, width = windows.shape[1:3]
    count = min(POSITIONS, height * width)
    rows, cols = np.divmod(random.permutation(height * width)[:count], width)
    chosen = np.moveaxis(windows[:, rows, cols], 1, 0)  # [P, I, k, k]
    return chosen.reshape(count, groups_of(node), -1)


def least_squares_rows(
    weights: np.ndarray, moment: np.ndarray, weight_steps: int = INT8_STEPS
) -> np.ndarray:
    """Rounds rows of weights to steps of max |w| / weight_steps: their products change least.

    Args:
        weights: float32 [O, n].
        moment: sum over the inputs x [n] of the products x x', [n, n].
        weight_steps: `qdq.Arithmetic.weight_steps`.

    Returns:
        float32 [O, n]: whole steps, but for the largest of each row, which stays.
    """
    left = weights.astype(np.float64)
    peak = np.abs(left).max(axis=1)
    step = np.where(peak > 0, peak, 1) / weight_steps
    largest = np.abs(left).argmax(axis=1)
    damped = moment.astype(np.float64)
    damped += np.eye(len(moment)) * (DAMPING * np.trace(moment) / len(moment) + 1e-12)
    # Upper factor of the inverse: row i tells how those after i make up for an error in i.
    factor = np.linalg.cholesky(np.linalg.inv(damped)).T
    result = np.empty_like(left)
    for i in range(left.shape[1]):
        steps = np.clip(np.round(left[:, i] / step), 1 - INT8_STEPS, INT8_STEPS - 1)
        keep = largest == i
        steps[keep] = np.sign(weights[keep, i]) * (INT8_STEPS - 1)
        result[:, i] = np.where(keep, weights[:, i], steps * step)
        error = (left[:, i] - steps * step) / factor[i, i]
        left[:, i + 1 :] -= error[:, None] * factor[i, i + 1 :]
    return result.astype(np.float32)
