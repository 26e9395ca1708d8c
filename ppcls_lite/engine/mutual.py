"""A second student: deep mutual learning (Zhang et al. 2018), the way PaddleClas does it.

Both networks learn from the labels and from each other, in one backward pass, each with an
optimizer of its own. The first one is evaluated and exported.
"""

import numpy as np
import paddle

from ppcls_lite.arch.zoo import build_model
from ppcls_lite.data.mixing import Mix
from ppcls_lite.engine.distributed import World
from ppcls_lite.engine.norms import estimate_norms, is_folded
from ppcls_lite.engine.sets import head_rows
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.errors import UserError
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.optimizer.optimizers import build_optimizer, load_named_state, named_state
from ppcls_lite.weights.find import find_weights
from ppcls_lite.weights.load import load_weights

WEIGHTS, OPTIMIZER = "weights.", "optimizer."


class MutualStudent:
    """The second student; takes the place of a `Teacher`.

    Attributes:
        info: the network.
        weights: where they come from, for the plan.
        model: its layers.
    """

    def __init__(self, info: ModelInfo, config: TrainConfig, seed: int) -> None:
        self.info = info
        self.weights = config.teacher_pretrained or "initialised; learns, too"
        paddle.seed(seed + 1)  # not the first one's weights, should they be the same network
        self.model = build_model(info.name, info.num_classes)
        if config.teacher_pretrained:
            download = not config.dry_run
            weights = find_weights(config.teacher_pretrained, info.name, download=download)
            if weights.absent:
                self.weights += ", not downloaded in a dry run: random"
            else:
                rows, words = head_rows(weights.info, info.class_set("the data"), info.num_classes)
                report = load_weights(self.model, weights, replace_head=True, rows=rows)
                fresh = report.fresh_layers()
                self.weights += f"; {fresh}" if fresh else words
        self._folded = is_folded(self.model)
        self._optimizer = build_optimizer(self.model, config)
        self._clip = config.clip_grad_norm

    def logits(self, pixels: np.ndarray, mix: Mix) -> paddle.Tensor:
        """Its forward pass, with gradients: uint8 [N, H, W, 3] -> logits [N, K]."""
        if self._folded:
            estimate_norms(self.model, self.info.preprocess.normalize(pixels))
            self._folded = False
        self.model.train()
        images = mix.images(self.info.preprocess.normalize(pixels))
        return self.model(paddle.to_tensor(images))

    def step(self, scaler: paddle.amp.GradScaler, lr: float) -> None:
        """Its optimizer step, after the backward pass of both."""
        self._optimizer.set_lr(lr)
        if self._clip:
            scaler.unscale_(self._optimizer)
            trained = [p for p in self.model.parameters() if not p.stop_gradient]
            paddle.nn.utils.clip_grad_norm_(trained, self._clip)
        scaler.step(self._optimizer)
        self._optimizer.clear_grad()

    def state(self) -> dict[str, np.ndarray]:
        """Returns all of it as arrays."""
        weights = {WEIGHTS + k: v.numpy() for k, v in self.model.state_dict().items()}
        accumulators = named_state(self._optimizer, self.model)
        return weights | {OPTIMIZER + key: value for key, value in accumulators.items()}

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Puts back what `state` returned."""
        parts: dict[str, dict[str, np.ndarray]] = {WEIGHTS: {}, OPTIMIZER: {}}
        for key, value in state.items():
            kind = WEIGHTS if key.startswith(WEIGHTS) else OPTIMIZER
            parts[kind][key.removeprefix(kind)] = value
        load_weights(self.model, parts[WEIGHTS])
        self._folded = False
        load_named_state(self._optimizer, self.model, parts[OPTIMIZER])


def build_mutual(
    config: TrainConfig, student: ModelInfo, seed: int, world: World, state: dict[str, np.ndarray]
) -> MutualStudent:
    """Returns the second student that --distill-loss dml asks for, where the resumed run left it.

    Args:
        config: the settings.
        student: the first one; both have the same classes and see the same numbers.
        seed: of the run.
        world: of one process.
        state: of the run to go on with; empty for a new one.

    Raises:
        UserError: several processes train.
    """
    if world.size > 1:
        raise UserError("--distill-loss dml trains in one process", "start train.py alone")
    info = ModelInfo(
        str(config.teacher), student.num_classes, classes=student.classes,
        preprocess=student.preprocess,
    )  # fmt: skip
    peer = MutualStudent(info, config, seed)
    if state:
        peer.load(state)
    return peer
