"""Weights for the chains where no trained ones can be had: `python -m ppcls_lite.tipc.weights`.

Frozen random numbers, the same on every machine, and batch-norm statistics measured on the first
pictures of the lite data, so that the network answers differently to different pictures.
"""

import sys
from pathlib import Path

import numpy as np

from ppcls_lite.arch.writing import write_weights
from ppcls_lite.data.dataset import open_split
from ppcls_lite.data.preprocess import Preprocess, load_image
from ppcls_lite.environment import load_paddle

PICTURES = 200
SIZE = 32  # test_tipc/lite.yaml's


def make_weights(model: str, data_path: str, out: Path) -> None:
    """Writes the weights of a network for the classes of a data folder."""
    paddle = load_paddle()
    from ppcls_lite.arch.zoo import create_model

    data = open_split(data_path, "train")
    network = create_model(model, num_classes=len(data.classes))
    draws = np.random.RandomState(0)  # its stream is frozen
    for tensor in network.parameters():
        shape = tuple(tensor.shape)
        if len(shape) > 1:
            fan_in = shape[0] if len(shape) == 2 else int(np.prod(shape[1:]))
            tensor.set_value((draws.standard_normal(shape) * np.sqrt(2 / fan_in)).astype("float32"))
    for layer in network.sublayers():
        if hasattr(layer, "_momentum"):
            layer._momentum = 0.0  # statistics of the last batch
    spec = Preprocess(SIZE, SIZE)
    chosen = np.linspace(0, len(data) - 1, PICTURES).astype(int)
    pixels = np.stack([spec.pixels(load_image(data.path(int(i)))) for i in chosen])
    network.train()
    with paddle.no_grad():
        network(paddle.to_tensor(spec.normalize(pixels)))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_weights(out, {name: value.numpy() for name, value in network.state_dict().items()})


if __name__ == "__main__":
    make_weights(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
