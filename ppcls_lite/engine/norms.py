"""Batch norm's statistics for weights that come without, because it was folded into convolutions.

Evaluated, such a network computes what it should: its batch norms add their bias and do no more.
In training they divide by what they see, and the gain that would make up for it is in the
convolutions: MobileNetV3-small of ImageNet then gives 1 of 200 photographs its class, not 169.
"""

from collections.abc import Sequence

import numpy as np
import paddle
from paddle import Tensor, nn

from ppcls_lite.arch.count import watch_forward
from ppcls_lite.arch.layers import evaluation_mode
from ppcls_lite.data.decode import ImageError, load_image
from ppcls_lite.data.image_dataset import ImageDataset
from ppcls_lite.data.packed import read_source
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.errors import UserError

# With 32 or 64 the same network in training gives 166 of 200 their class, with 128 170.
PICTURES = 64


def unfold_norms(model: nn.Layer, data: ImageDataset, preprocess: Preprocess) -> str:
    """Makes a network whose batch norm was folded one that can be trained; says so, else ""."""
    if not is_folded(model):
        return ""
    images = spread_pictures(data, preprocess)
    if len(images):
        estimate_norms(model, images)
    return f"; batch norm, which was folded, from {len(images)} training images"


def is_folded(model: nn.Layer) -> bool:
    """Tells whether every batch norm of a network adds its bias and does no more."""
    norms = [layer for layer in model.sublayers() if isinstance(layer, nn.BatchNorm2D)]
    return all(
        not layer._mean.numpy().any()
        and (layer.weight.numpy() == 1).all()
        # A fresh network has a variance of 1.
        and (layer._variance.numpy() == np.float32(1) - np.float32(layer._epsilon)).all()
        for layer in norms
    )


def spread_pictures(data: ImageDataset, preprocess: Preprocess) -> np.ndarray:
    """PICTURES of a data set from its whole length, those that can be decoded: [N, 3, H, W]."""
    places = np.linspace(0, len(data) - 1, PICTURES).astype(int)
    images = []
    for index in dict.fromkeys(places.tolist()):
        try:
            images.append(load_image(read_source(data.source(index))))
        except ImageError:
            continue  # training names it, too
    return preprocess(images) if images else np.zeros((0, 3, 32, 32), np.float32)


def estimate_norms(model: nn.Layer, images: np.ndarray) -> None:
    """Gives batch norms the statistics of pictures, and the gain and bias that keep every output.

    The convolution before a batch norm gets the norm of a fresh one, channel by channel. Behind a
    batch norm the size of a weight does not change an answer, but a gradient grows as it shrinks:
    folded weights have a hundredth of that norm in one layer and a hundred times it in another,
    so no learning rate would suit both.

    Args:
        images: [N, 3, H, W], prepared as for the network's evaluation.
    """
    last: list[tuple[nn.Conv2D, Tensor]] = []

    def see(layer: nn.Conv2D, inputs: tuple[Tensor], output: Tensor) -> None:
        last[:] = [(layer, output)]

    def take(layer: nn.BatchNorm2D, inputs: tuple[Tensor]) -> tuple[Tensor]:
        scale = paddle.ones_like(layer.weight)
        if last and last[0][1] is inputs[0]:
            scale = _rescale(last[0][0])
        # By numpy: of 13 million values, Paddle 3.3.1 takes 12 times as long for the mean and 90
        # times for the variance on a CPU.
        values = inputs[0].astype("float32").numpy()
        mean = paddle.to_tensor(values.mean(axis=(0, 2, 3)))
        variance = paddle.to_tensor(values.var(axis=(0, 2, 3)))
        gain = layer.weight / (layer._variance + layer._epsilon).sqrt()
        bias = layer.bias + gain * (mean - layer._mean)
        variance = variance * scale**2
        layer.weight.set_value(gain / scale * (variance + layer._epsilon).sqrt())
        layer.bias.set_value(bias)
        layer._mean.set_value(mean * scale)
        layer._variance.set_value(variance)
        return (inputs[0] * scale.reshape([-1, 1, 1]),)  # as the convolution answers from now on

    layers = model.sublayers()
    hooks = [x.register_forward_pre_hook(take) for x in layers if isinstance(x, nn.BatchNorm2D)]
    hooks += [x.register_forward_post_hook(see) for x in layers if isinstance(x, nn.Conv2D)]
    with evaluation_mode(model), paddle.no_grad():
        model(paddle.to_tensor(images))
    for hook in hooks:
        hook.remove()


def _rescale(layer: nn.Conv2D) -> Tensor:
    """Gives each output channel of a convolution without bias the norm that Kaiming's rule (fan
    out) gives it; returns the factors, [O]. A channel of zeros stays.
    """
    weight = layer.weight  # [O, I / groups, k, k]
    outputs, inputs, *kernel = weight.shape
    fan_out = outputs * int(np.prod(kernel)) / layer._groups
    wanted = (2 * inputs * int(np.prod(kernel)) / fan_out) ** 0.5
    norms = weight.astype("float32").square().sum([1, 2, 3]).sqrt()
    scale = paddle.where(norms > 0, wanted / norms.clip(1e-30), paddle.ones_like(norms))
    weight.set_value(weight * scale.reshape([-1, 1, 1, 1]))
    return scale


def check_norms(models: Sequence[nn.Layer], crop_size: int, batch: int) -> None:
    """Checks that batch norm has a variance to train with.

    Of one value per channel torch refuses to train, Paddle's own layers hand the value on as it is,
    and the formula, which our kernels follow, gives the bias. None of that is a normalisation.

    Args:
        models: what is trained.
        crop_size: of the training pictures, pixels.
        batch: pictures of the smallest batch of a process.

    Raises:
        UserError: a batch norm would see one value per channel.
    """
    if batch > 1:
        return
    lone: list[str] = []

    def look(layer: nn.Layer, inputs: tuple[paddle.Tensor, ...], output: paddle.Tensor) -> None:
        if output.size == output.shape[1]:
            lone.append(layer.full_name())

    for model in models:
        norms = [x for x in model.sublayers() if isinstance(x, nn.BatchNorm2D)]
        watch_forward(model, norms, look, crop_size)
    if lone:
        raise UserError(
            f"one image a batch at --train-crop-size {crop_size}: {len(lone)} batch norms would"
            " see one value per channel, which has no variance",
            "--batch-size 2  # or larger images, with --train-crop-size 64",
        )
