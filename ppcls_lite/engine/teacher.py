"""A trained network that says of each training picture what it sees; any of the zoo will do."""

from dataclasses import dataclass

import numpy as np
import paddle

from ppcls_lite.data.mixing import Mix
from ppcls_lite.engine.distributed import World
from ppcls_lite.engine.evaluate import Forward, checked, dygraph_forward, exported_forward
from ppcls_lite.engine.log import RunLog
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.errors import UserError
from ppcls_lite.graph import StaticGraph
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.slim.network import network_of
from ppcls_lite.weights.find import find_weights
from ppcls_lite.weights.load import load_weights


@dataclass(frozen=True)
class Teacher:
    """A frozen network in evaluation mode.

    Attributes:
        info: the network, its classes, and the mean and std it was trained with.
        forward: float32 [N, 3, H, W] -> logits float32 [N, K], without gradients.
        weights: where they come from, for the plan.
    """

    info: ModelInfo
    forward: Forward
    weights: str

    def logits(self, pixels: np.ndarray, mix: Mix) -> paddle.Tensor:
        """What it makes of the student's own crops, mixed alike: uint8 [N, H, W, 3] -> [N, K]."""
        images = mix.images(self.info.preprocess.normalize(pixels))
        return paddle.to_tensor(self.forward(images))


def build_teacher(
    name: str, pretrained: str, student: ModelInfo, config: TrainConfig, world: World
) -> Teacher:
    """Returns the teacher that --teacher and --teacher-pretrained name.

    On a CPU its forward pass runs through its exported graph, several times as fast as dygraph,
    after a comparison of the two on the first pictures.

    Raises:
        UserError: the weights cannot be had, or are of another network or other classes.
    """
    weights = find_weights(pretrained, name, download=not config.dry_run)
    info, origin = weights.info, str(weights.path)
    if info.name != name:
        raise UserError(f"--teacher {name}: {origin} holds {info.name}", f"--teacher {info.name}")
    check_same_outputs(info, student)
    model = network_of(info)
    if weights.absent:
        origin = f"{pretrained}, not downloaded in a dry run: random"
    else:
        load_weights(model, weights)
    forward = dygraph_forward(model)
    if world.device == "cpu":
        exported = exported_forward(StaticGraph(model, config.train_crop_size))
        forward = checked(exported, forward, RunLog(None, world.is_main))
    return Teacher(info, forward, origin)


def check_same_outputs(teacher: ModelInfo, student: ModelInfo) -> None:
    """Raises UserError when the logits of teacher and student do not mean the same classes."""
    if teacher.num_classes != student.num_classes:
        raise UserError(
            f"the teacher {teacher.name} knows {teacher.num_classes} classes, the student"
            f" {student.num_classes}",
            f"fine-tune it on this data first: train.py --model {teacher.name} --pretrained ...",
        )
    # No common name is no proof: folders carry WordNet's numbers, published weights names.
    if set(teacher.classes) & set(student.classes) and teacher.classes != student.classes:
        raise UserError(
            f"the teacher {teacher.name} was trained on other classes, or in another order: "
            f"{', '.join(teacher.classes[:5])} ... against {', '.join(student.classes[:5])} ...",
            "train both on the same class folders",
        )
