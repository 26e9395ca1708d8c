"""Paddle's dygraph behind the call of every engine, see `runtimes`; it looks into layers, too."""

import copy
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from ppcls_lite.engines import paddle_uses_gpu
from ppcls_lite.environment import load_paddle
from ppcls_lite.errors import UserError, nearest, some

if TYPE_CHECKING:
    import paddle


class DygraphRuntime:
    """The network as it was trained, run layer by layer: the yardstick for the others.

    Threads share it: a forward pass keeps nothing in the network, and Paddle's `no_grad` is of the
    thread that asks for it.

    Args:
        model: the network; put into evaluation mode and moved to the device.
        device: auto, cpu or gpu.
    """

    batch: int | None = None

    def __init__(self, model: "paddle.nn.Layer", device: str = "cpu") -> None:
        self._paddle = load_paddle()
        on_gpu = paddle_uses_gpu(self._paddle, device)
        self._place = self._paddle.CUDAPlace(0) if on_gpu else self._paddle.CPUPlace()
        self._model = model
        self._model.to(device=self._place)
        self._model.eval()
        self._watching = threading.Lock()

    def __call__(self, images: np.ndarray) -> np.ndarray:
        with self._paddle.no_grad():
            return self._model(self._paddle.to_tensor(images, place=self._place)).numpy()

    @functools.cached_property
    def _twin(self) -> "paddle.nn.Layer":
        """The network again, on the same weights: a hook changes a network for all who run it."""
        values = [*self._model.parameters(), *self._model.buffers()]
        return copy.deepcopy(self._model, {id(value): value for value in values})

    def with_features(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """float32 [N, 3, H, W] -> logits [N, K], and what the last layer reads, float32 [N, D]."""
        with self._watching, self._features_caught() as caught, self._paddle.no_grad():
            logits = self._twin(self._paddle.to_tensor(images, place=self._place))
        return logits.numpy(), caught[-1].numpy()

    @contextmanager
    def _features_caught(self) -> "Iterator[list[paddle.Tensor]]":
        """Gives a list that gets what the twin's last layer reads."""
        caught: list[paddle.Tensor] = []
        last = list(self._twin.classifier.children())[-1]
        hook = last.register_forward_pre_hook(lambda layer, inputs: caught.append(inputs[0]))
        try:
            yield caught
        finally:
            hook.remove()

    def gradients(
        self,
        images: np.ndarray,
        choose: Callable[[np.ndarray], np.ndarray],
        layer: str | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool, np.ndarray]:
        """Runs the network once: what a layer gives, and how a logit of each image hangs on it.

        Only what follows the layer is gone through backwards.

        Args:
            images: float32 [N, 3, H, W].
            choose: logits [N, K] -> the class of each image, int64 [N].
            layer: by its name in the network; None takes the last before the pooling.

        Returns:
            logits [N, K]; the layer's output [N, C, h, w]; the logit's gradients [N, C, h, w];
            whether only a pooling and one linear layer follow; the features [N, D], what the last
            layer reads.

        Raises:
            UserError: there is no such layer, or what it gives is no map.
        """
        to_tensor = functools.partial(self._paddle.to_tensor, place=self._place)
        with self._watching:
            last = _before_pooling(self._twin)
            caught: list[paddle.Tensor] = []

            def catch(
                watched: "paddle.nn.Layer", inputs: object, output: "paddle.Tensor"
            ) -> "paddle.Tensor":
                caught.append(output.detach())
                caught[-1].stop_gradient = False
                self._paddle.set_grad_enabled(True)  # from here on; `no_grad` below sets it back
                return caught[-1]

            hook = _layer_named(self._twin, layer or last).register_forward_post_hook(catch)
            try:
                with self._features_caught() as features, self._paddle.no_grad():
                    logits = self._twin(to_tensor(images))
            finally:
                hook.remove()
        if not caught or caught[-1].ndim != 4:
            gives = f"gives {list(caught[-1].shape)}" if caught else "is not run"
            raise UserError(
                f"layer {layer!r} {gives}; allowed: one that gives [N, C, H, W], as {last!r} does",
                f"--explain-layer {last}",
            )
        ids = to_tensor(choose(logits.numpy()))
        score = self._paddle.take_along_axis(logits, ids.unsqueeze(1), axis=1).sum()
        (gradients,) = self._paddle.grad(score, caught[-1])
        plain = layer in (None, last) and _has_linear_head(self._twin)
        return (logits.numpy(), caught[-1].numpy(), gradients.numpy(), plain,
                features[-1].numpy())  # fmt: skip


def _before_pooling(network: "paddle.nn.Layer") -> str:
    names = [name for name, _ in network.named_children()]
    return names[names.index("avgpool") - 1]


def _layer_named(network: "paddle.nn.Layer", name: str) -> "paddle.nn.Layer":
    layers = dict(network.named_sublayers())
    if name not in layers:
        raise UserError(
            f"the model has no layer {name!r}{nearest(name, layers)}; allowed:"
            f" {some(list(layers))}",
            "leave the layer out: then it is the last convolution",
        )
    return layers[name]


def _has_linear_head(network: "paddle.nn.Layer") -> bool:
    """Tells whether one linear layer is all that follows the pooling and computes."""
    kinds = [type(layer).__name__ for layer in network.classifier.sublayers()]
    return [kind for kind in kinds if kind != "Dropout"] == ["Linear"]
