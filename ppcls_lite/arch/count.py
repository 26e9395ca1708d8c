"""Parameters and multiply-adds of a model, counted as papers and torchvision count them."""

from typing import Any

import paddle
from paddle import Tensor, nn


def count_parameters(model: nn.Layer) -> int:
    """Number of trainable values."""
    return sum(p.size for p in model.parameters() if not p.stop_gradient)


def count_parameters_with_bn_stats(model: nn.Layer) -> int:
    """Number of values in a checkpoint: running means and variances of batch norm included."""
    return sum(p.size for p in model.state_dict().values())


def count_macs(model: nn.Layer, image_size: int = 224) -> int:
    """Multiply-adds of convolutions and linear layers for one image [1, 3, image_size, image_size].

    Bias, batch norm, activations and pooling are free, as in the papers. The model is left as it
    was: nothing is trained and no statistics move.
    """
    macs = 0

    def add(layer: nn.Layer, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs
        # Every output value is one dot product over the weights that lead to it.
        outputs = layer.weight.shape[1 if isinstance(layer, nn.Linear) else 0]
        macs += output.size * (layer.weight.size // outputs)

    modes = [(layer, layer.training) for layer in model.sublayers(include_self=True)]
    hooks: list[Any] = [
        layer.register_forward_post_hook(add)
        for layer, _ in modes
        if isinstance(layer, (nn.Conv2D, nn.Linear))
    ]
    model.eval()
    try:
        with paddle.no_grad():
            model(paddle.zeros([1, 3, image_size, image_size]))
    finally:
        for hook in hooks:
            hook.remove()
        for layer, training in modes:
            layer.training = training
    return macs
