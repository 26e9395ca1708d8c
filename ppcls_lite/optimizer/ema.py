"""Moving average of weights and batch-norm statistics."""

from collections.abc import Iterator
from contextlib import contextmanager

import paddle
from paddle import nn

from ppcls_lite.optimizer.settings import EmaSettings


class Ema:
    """Keeps `average = decay x average + (1 - decay) x model` of every tensor of a model.

    The first update copies the model, and so does the next one after a restart.

    Attributes:
        average: named tensors, as in `model.state_dict()`.
        updates: how many there were since the last restart.
    """

    def __init__(self, model: nn.Layer, decay: float, updates: int = 0) -> None:
        self._model = model
        self._decay = decay
        self.average = _copy(model)
        self.updates = updates

    @paddle.no_grad()
    def update(self, restart: bool = False) -> None:
        """Takes in the model as it stands; with `restart` the next update copies again."""
        decay = self._decay if self.updates else 0.0
        for name, value in self._model.state_dict().items():
            self.average[name].scale_(decay).add_(value * (1 - decay))
        self.updates = 0 if restart else self.updates + 1

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Gives the model the averaged values, and its own ones back afterwards."""
        trained = _copy(self._model)
        self._model.set_state_dict(self.average)
        try:
            yield
        finally:
            self._model.set_state_dict(trained)


@paddle.no_grad()
def _copy(model: nn.Layer) -> dict[str, paddle.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def ema_start(config: EmaSettings) -> float:
    """Returns the epoch before which every update is told to restart."""
    return config.lr_warmup_epochs if config.model_ema_rule == "torchvision" else 0.0


def ema_decay(config: EmaSettings, effective_batch: int) -> float:
    """Returns the share of the average that an update keeps.

    torchvision's rule multiplies what an update takes in by effective batch x steps between two
    updates / epochs, so that the average spans the same part of a run whatever its batch and
    length.
    """
    if config.model_ema_rule == "plain":
        return config.model_ema_decay
    factor = effective_batch * config.model_ema_steps / max(config.epochs, 1)
    return 1 - min(1.0, (1 - config.model_ema_decay) * factor)
