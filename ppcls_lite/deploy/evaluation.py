"""Evaluating a live network through its own exported graph."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import paddle

from ppcls_lite.deploy.export import save_static
from ppcls_lite.deploy.runtimes import PaddleInferenceRuntime
from ppcls_lite.environment import set_threads


@contextmanager
def exported_forward(
    model: paddle.nn.Layer, image_size: int
) -> Iterator[Callable[[np.ndarray], np.ndarray]]:
    """Exports the network as it stands to a temporary folder and gives the graph as a function.

    Args:
        model: images [N, 3, H, W] to logits [N, K]; it is left unchanged.
        image_size: H and W, pixels.
    """
    with tempfile.TemporaryDirectory(prefix="ppcls-eval-") as folder:
        prefix = Path(folder) / "inference"
        save_static(model, prefix, image_size, softmax_inside=False)
        # Under FLAGS_enable_pir_api=0, which old chains set, Paddle writes the other format.
        files = [
            f for f in (prefix.with_suffix(".json"), prefix.with_suffix(".pdmodel")) if f.exists()
        ]
        try:
            yield PaddleInferenceRuntime(files[0])
        finally:
            set_threads()  # an inference run changes them
