"""Weights prepared for a compiler whose steps are 128ths of the largest, clipped at 127 of them.

It makes the largest weight of every output channel wrong by a whole step, and takes weights that
stand on a grid of 127 steps off it. A largest weight that is longer by 128 / 127 is clipped to just
what it was, and the steps of all others are 127ths of that.
"""

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from ppcls_lite.int8.calibrate import INT8_STEPS
from ppcls_lite.int8.qdq import WEIGHTED_OPS, output_channel_axis

WHOLE_STEPS = INT8_STEPS - 1  # what int8 holds above 0
KEY = "stretched"  # of a graph's metadata: names of the layers, separated by commas


def stretch_weights(model: onnx.ModelProto, float_layers: Collection[str] = ()) -> None:
    """Makes the largest weight of each output channel longer by 128 / 127, in place.

    The float answers are no longer those of the network: the graph is for such a compiler alone,
    and says so in its metadata.

    Args:
        model: the float graph.
        float_layers: nodes that stay float, and as they are.
    """
    names = [node.name for node in _weighted(model) if node.name not in float_layers]
    _scale_largest(model, names, INT8_STEPS / WHOLE_STEPS)
    onnx.helper.set_model_props(model, {KEY: ",".join(names)})


def unstretched(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with the weights that it had before `stretch_weights`, to float32's rounding."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    named = {entry.key: entry.value for entry in model.metadata_props}.get(KEY, "")
    _scale_largest(result, named.split(","), WHOLE_STEPS / INT8_STEPS)
    del result.metadata_props[:]
    return result


def save_unstretched(file: Path) -> str:
    """Writes NAME_fp16.onnx beside a stretched NAME.onnx, whose weights are for int8 alone.

    Returns:
        The name of the file for half precision: the new one, or the one that was there.
    """
    model = onnx.load(str(file))
    if not is_stretched(model):
        return file.name
    plain = file.with_name(f"{file.stem}_fp16.onnx")
    onnx.save(unstretched(model), str(plain))
    return plain.name


def is_stretched(model: onnx.ModelProto) -> bool:
    """Tells whether a graph was made by `stretch_weights`."""
    return any(entry.key == KEY for entry in model.metadata_props)


def _weighted(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    constants = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in WEIGHTED_OPS and node.input[1] in constants:
            yield node


def _scale_largest(model: onnx.ModelProto, names: Collection[str], factor: float) -> None:
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in _weighted(model):
        if node.name not in names:
            continue
        tensor = tensors[node.input[1]]
        weights = np.moveaxis(numpy_helper.to_array(tensor), output_channel_axis(node), 0).copy()
        rows = weights.reshape(len(weights), -1)
        rows[np.arange(len(rows)), np.abs(rows).argmax(axis=1)] *= np.float32(factor)
        whole = np.moveaxis(weights, 0, output_channel_axis(node))
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(whole), tensor.name))
