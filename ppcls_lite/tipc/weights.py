"""Weights for the chains where no trained ones can be had: `python -m ppcls_lite.tipc.weights`.

Frozen random numbers, the same on every machine, and batch-norm statistics measured on the first
pictures of the lite data, so that the network answers differently to different pictures.
"""

import sys
from pathlib import Path

import numpy as np

from ppcls_lite.data.dataset import open_split
from ppcls_lite.data.decode import load_image
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.environment import load_paddle
from ppcls_lite.model_info import ModelInfo

PICTURES = 200
SIZE = 32  # test_tipc/lite.yaml's
BRANCH = 0.2  # gain of the last batch norm of a block with a shortcut


def make_weights(model: str, data_path: str, out: Path) -> None:
    """Writes the weights of a network for the classes of a data folder."""
    paddle = load_paddle()
    from ppcls_lite.arch.layers import InvertedResidual
    from ppcls_lite.arch.zoo import build_model
    from ppcls_lite.weights.description import save_weights

    data = open_split(data_path, "train")
    network = build_model(model, num_classes=len(data.classes))
    draws = np.random.RandomState(0)  # its stream is frozen
    for tensor in network.parameters():
        shape = tuple(tensor.shape)
        if len(shape) > 1:
            fan_in = shape[0] if len(shape) == 2 else int(np.prod(shape[1:]))
            tensor.set_value((draws.standard_normal(shape) * np.sqrt(2 / fan_in)).astype("float32"))
    for layer in network.sublayers():
        if isinstance(layer, InvertedResidual) and layer.shortcut:
            # With whole branches a random MnasNet's gradient grows a thousandfold to its stem.
            gain = [m for m in layer.sublayers() if isinstance(m, paddle.nn.BatchNorm2D)][-1].weight
            gain.set_value(paddle.full_like(gain, BRANCH))
        if hasattr(layer, "_momentum"):
            layer._momentum = 0.0  # statistics of the last batch
    spec = Preprocess(SIZE, SIZE)
    chosen = np.linspace(0, len(data) - 1, PICTURES).astype(int)
    pixels = np.stack([spec.pixels(load_image(data.path(int(i)))) for i in chosen])
    network.train()
    with paddle.no_grad():
        network(paddle.to_tensor(spec.normalize(pixels)))
    out.parent.mkdir(parents=True, exist_ok=True)
    # Said beside them, so that the chains answer at the size that the statistics are of.
    info = ModelInfo(model, len(data.classes), classes=tuple(data.classes), preprocess=spec)
    save_weights(out, {name: value.numpy() for name, value in network.state_dict().items()}, info)


if __name__ == "__main__":
    make_weights(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
