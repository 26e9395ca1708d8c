"""What a training is made of."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paddle

from ppcls_lite.config import TrainConfig
from ppcls_lite.data.loader import Loader
from ppcls_lite.engine.checkpoint import Progress
from ppcls_lite.engine.distributed import World
from ppcls_lite.engine.log import RunLog
from ppcls_lite.engine.signals import StopRequest
from ppcls_lite.engine.teacher import Teacher
from ppcls_lite.metric import Accuracy
from ppcls_lite.model_info import ModelInfo


class Diverged(Exception):
    """The loss is no longer a number."""


@dataclass
class Run:
    """Everything a training needs, built once by `commands.train`.

    Attributes:
        model: the network; `parallel` wraps it when there are several processes.
        evaluate: runs the validation set through the model.
        teacher: what the model learns from beside the labels, if anything.
        resumed_from: the checkpoint that the run goes on from, if any.
        description: settings, versions and command, stored with every checkpoint.
    """

    config: TrainConfig
    info: ModelInfo
    model: paddle.nn.Layer
    parallel: paddle.nn.Layer
    optimizer: paddle.optimizer.Optimizer
    scaler: paddle.amp.GradScaler
    loader: Loader
    evaluate: Callable[[], Accuracy]
    progress: Progress
    world: World
    log: RunLog
    stop: StopRequest
    folder: Path
    teacher: Teacher | None = None
    resumed_from: Path | None = None
    description: dict[str, Any] = field(default_factory=dict)
