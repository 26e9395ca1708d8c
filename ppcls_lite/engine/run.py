"""What a training is made of."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paddle

from ppcls_lite.data.loader import Loader
from ppcls_lite.engine.balance import Balance
from ppcls_lite.engine.checkpoint import Progress
from ppcls_lite.engine.distributed import World
from ppcls_lite.engine.evaluate import Evaluation
from ppcls_lite.engine.log import RunLog
from ppcls_lite.engine.mutual import MutualStudent
from ppcls_lite.engine.safe_points import GroupStart, SaveEvery
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.engine.signals import StopRequest
from ppcls_lite.engine.teacher import Teacher
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.optimizer.ema import Ema
from ppcls_lite.optimizer.schedule import peak_lr
from ppcls_lite.weights.load import LoadReport


class Diverged(Exception):
    """The loss is no longer a number."""


@dataclass(frozen=True)
class Run:
    """Everything a training needs, built whole by `build.build_run`.

    Attributes:
        config: the settings as `resolve.resolve` left them.
        info: the network.
        whole: the network before filters were pruned; the same as `info` where none were.
        model: its layers.
        loaded: which of its weights came from somewhere.
        parallel: what trains it: `model`, or a wrapper for our kernels or several processes.
        kernels: what of it our own CPU kernels run, in words.
        evaluate: runs the validation set through the model.
        progress: where the run stands; all that changes here as it goes on.
        ema: the moving average of the model that is evaluated and saved in its place, if asked for.
        teacher: what the model learns from beside the labels, if anything.
        remarks: lines of the plan on the data.
        resumed_from: the checkpoint that the run goes on from, if any.
        description: settings, versions and command, stored with every checkpoint.
        balance: what is done about classes of unequal size.
        save_every: when to save inside of an epoch.
        group: where to go back to when an accumulation group is left unfinished.
    """

    config: TrainConfig
    info: ModelInfo
    whole: ModelInfo
    model: paddle.nn.Layer
    loaded: LoadReport
    parallel: paddle.nn.Layer
    kernels: str
    optimizer: paddle.optimizer.Optimizer
    scaler: paddle.amp.GradScaler
    loader: Loader
    evaluate: Evaluation
    progress: Progress
    world: World
    log: RunLog
    stop: StopRequest
    folder: Path
    remarks: tuple[str, ...] = ()
    ema: Ema | None = None
    teacher: Teacher | MutualStudent | None = None
    resumed_from: Path | None = None
    description: dict[str, Any] = field(default_factory=dict)
    balance: Balance = field(default_factory=Balance)
    save_every: SaveEvery = field(default_factory=SaveEvery)
    group: GroupStart = field(default_factory=GroupStart)

    @property
    def models(self) -> tuple[paddle.nn.Layer, ...]:
        """The networks that learn."""
        peer = (self.teacher.model,) if isinstance(self.teacher, MutualStudent) else ()
        return (self.model, *peer)

    @property
    def score_name(self) -> str:
        """What `best` goes by: of several labels a picture mAP in the place of top-1."""
        is_map = self.info.multi_label and self.config.best_metric == "top1"
        return "mAP" if is_map else self.config.best_metric

    @property
    def effective_batch(self) -> int:
        """Pictures of one optimizer step."""
        return effective_batch(self.config, self.world)

    @property
    def peak_lr(self) -> float:
        """The learning rate at full height."""
        return peak_lr(self.config, self.effective_batch)

    def close(self) -> None:
        """Ends the workers and closes the files."""
        self.loader.close()
        self.evaluate.loader.close()
        self.log.close()


def effective_batch(config: TrainConfig, world: World) -> int:
    """Returns the pictures of one optimizer step, over all devices and accumulated batches."""
    return config.batch_size * world.size * config.gradient_accumulation_steps
