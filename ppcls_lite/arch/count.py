"""Parameters and multiply-adds of a model, counted as papers and torchvision count them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import paddle
from paddle import Tensor, nn

from ppcls_lite.arch.layers import evaluation_mode

# (layer, its inputs, its output) -> nothing
Hook = Callable[[nn.Layer, tuple[Tensor, ...], Tensor], None]


def count_parameters(model: nn.Layer) -> int:
    """Number of trainable values."""
    return sum(p.size for p in model.parameters() if not p.stop_gradient)


def count_parameters_with_bn_stats(model: nn.Layer) -> int:
    """Number of values in a checkpoint: running means and variances of batch norm included."""
    return sum(p.size for p in model.state_dict().values())


@dataclass(frozen=True)
class Operations:
    """What one image costs, in the units that counting rules put together.

    Args:
        macs: multiply-adds of convolutions and linear layers, without their biases.
        bias_adds: values a bias is added to.
        normalised: values that batch norm scales and shifts.
        pooled: values that average pooling reads and writes.
    """

    macs: int
    bias_adds: int
    normalised: int
    pooled: int

    @property
    def paddle_flops(self) -> int:
        """As PaddleClas' FLOPs: nothing but activations and shortcuts is free."""
        return self.macs + self.bias_adds + 2 * self.normalised + self.pooled

    @property
    def thop_flops(self) -> int:
        """As the package thop counts: four operations to normalise a value, biases free."""
        return self.macs + 4 * self.normalised + self.pooled


def count_macs(model: nn.Layer, image_size: int = 224) -> int:
    """Multiply-adds of convolutions and linear layers for one image [1, 3, image_size, image_size].

    Bias, batch norm, activations and pooling are free, as in the papers. The model is left as it
    was: nothing is trained and no statistics move.
    """
    return count_operations(model, image_size).macs


def count_operations(model: nn.Layer, image_size: int = 224) -> Operations:
    """Counts for one image; the model is left as it was, see `count_macs`."""
    totals = dict.fromkeys(("macs", "bias_adds", "normalised", "pooled"), 0)

    def add(layer: nn.Layer, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(layer, nn.BatchNorm2D):
            totals["normalised"] += output.size
        elif isinstance(layer, nn.AdaptiveAvgPool2D):
            totals["pooled"] += inputs[0].size + output.size
        else:
            totals["macs"] += layer_macs(layer, output)
            totals["bias_adds"] += output.size if layer.bias is not None else 0

    counted = (nn.Conv2D, nn.Linear, nn.BatchNorm2D, nn.AdaptiveAvgPool2D)
    layers = [x for x in model.sublayers(include_self=True) if isinstance(x, counted)]
    watch_forward(model, layers, add, image_size)
    return Operations(**totals)


def layer_macs(layer: nn.Conv2D | nn.Linear, output: Tensor) -> int:
    """Multiply-adds of one layer that gave `output`."""
    # Every output value is one dot product over the weights that lead to it.
    outputs = layer.weight.shape[1 if isinstance(layer, nn.Linear) else 0]
    return output.size * (layer.weight.size // outputs)


def watch_forward(model: nn.Layer, layers: list[Any], hook: Hook, image_size: int) -> None:
    """Runs one blank image through a model and shows `hook` what each of `layers` does.

    Nothing is trained and no statistics move; every layer is left in the mode it was in.
    """
    hooks: list[Any] = [layer.register_forward_post_hook(hook) for layer in layers]
    try:
        with evaluation_mode(model), paddle.no_grad():
            model(paddle.zeros([1, 3, image_size, image_size]))
    finally:
        for handle in hooks:
            handle.remove()
