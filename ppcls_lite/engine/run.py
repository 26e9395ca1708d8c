"""What a training is made of."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paddle

from ppcls_lite.data.loader import Loader
from ppcls_lite.engine.checkpoint import Progress
from ppcls_lite.engine.distributed import World
from ppcls_lite.engine.log import RunLog
from ppcls_lite.engine.peer import Peer
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.engine.signals import StopRequest
from ppcls_lite.engine.teacher import Teacher
from ppcls_lite.metric import Accuracy
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.optimizer.ema import Ema
from ppcls_lite.optimizer.schedule import peak_lr


class Diverged(Exception):
    """The loss is no longer a number."""


@dataclass
class Run:
    """Everything a training needs, built once by `commands.train`.

    Attributes:
        model: the network.
        parallel: what trains it: `model`, or a wrapper for our kernels or several processes.
        kernels: what of it our own CPU kernels run, in words.
        evaluate: runs the validation set through the model.
        ema: the moving average of the model that is evaluated and saved in its place, if asked for.
        teacher: what the model learns from beside the labels, if anything.
        resumed_from: the checkpoint that the run goes on from, if any.
        description: settings, versions and command, stored with every checkpoint.
    """

    config: TrainConfig
    info: ModelInfo
    model: paddle.nn.Layer
    parallel: paddle.nn.Layer
    kernels: str
    optimizer: paddle.optimizer.Optimizer
    scaler: paddle.amp.GradScaler
    loader: Loader
    evaluate: Callable[[], Accuracy]
    progress: Progress
    world: World
    log: RunLog
    stop: StopRequest
    folder: Path
    ema: Ema | None = None
    teacher: Teacher | Peer | None = None
    resumed_from: Path | None = None
    description: dict[str, Any] = field(default_factory=dict)

    @property
    def effective_batch(self) -> int:
        """Pictures of one optimizer step, over all devices and accumulated batches."""
        config = self.config
        return config.batch_size * self.world.size * config.gradient_accumulation_steps

    @property
    def peak_lr(self) -> float:
        """The learning rate at full height."""
        return peak_lr(self.config, self.effective_batch)
