"""A trained network that says of each training picture what it sees; any of the zoo will do."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import paddle

from ppcls_lite.data.classes import NONE, ClassMatch, match_classes
from ppcls_lite.data.mixing import Mix
from ppcls_lite.engine.distributed import World
from ppcls_lite.engine.evaluate import Forward, checked, dygraph_forward, exported_forward
from ppcls_lite.engine.log import RunLog
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.errors import UserError
from ppcls_lite.graph import StaticGraph
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.program import command
from ppcls_lite.slim.network import network_of
from ppcls_lite.weights.find import find_weights
from ppcls_lite.weights.load import load_weights


@dataclass(frozen=True)
class Teacher:
    """A frozen network in evaluation mode.

    Attributes:
        info: the network, its classes, and the mean and std it was trained with.
        forward: float32 [N, 3, H, W] -> logits float32 [N, K], without gradients, of the student's
            classes.
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
    name: str,
    pretrained: str,
    student: ModelInfo,
    config: TrainConfig,
    world: World,
    pictures: tuple[int, ...] = (),
) -> Teacher:
    """Returns the teacher that --teacher and --teacher-pretrained name.

    On a CPU its forward pass runs through its exported graph, several times as fast as dygraph,
    after a comparison of the two on the first pictures.

    Args:
        pictures: of each class of the student, in training; empty where nobody counted.

    Raises:
        UserError: the weights cannot be had, or are of another network or other classes.
    """
    weights = find_weights(pretrained, name, download=not config.dry_run)
    info, origin = weights.info, str(weights.path)
    if info.name != name:
        raise UserError(f"--teacher {name}: {origin} holds {info.name}", f"--teacher {info.name}")
    # Fine-tunes the teacher to the student's classes.
    tune = ("--model", name, "--pretrained", pretrained, "--data-path", config.data_path)
    labels_count = config.distill_weight < 1
    match = answers_of(info, student, command("train", *tune), labels_count, pictures)
    model = network_of(info)
    if weights.absent:
        origin = f"{pretrained}, not downloaded in a dry run: random"
    else:
        load_weights(model, weights)
    forward = dygraph_forward(model)
    if world.device == "cpu":
        exported = exported_forward(StaticGraph(model, config.train_crop_size))
        forward = checked(exported, forward, RunLog(None, world.is_main))
    if match.is_identity:
        return Teacher(info, forward, origin)
    ids = list(match.ids)
    if ids == list(range(info.num_classes)):
        return Teacher(info, forward, f"{origin}; {match.how}")
    return Teacher(info, lambda images: columns(forward(images), ids), f"{origin}; {match.how}")


def columns(logits: paddle.Tensor, ids: Sequence[int]) -> paddle.Tensor:
    """Picks logits [N, K] of the classes `ids`; of NONE, the lowest of each row."""
    known = logits[:, [max(i, 0) for i in ids]]
    if NONE not in ids:
        return known
    unknown = paddle.to_tensor([i == NONE for i in ids]).unsqueeze(0)
    return paddle.where(unknown, logits.min(axis=1, keepdim=True), known)


def answers_of(
    teacher: ModelInfo,
    student: ModelInfo,
    hint: str,
    labels_count: bool = True,
    pictures: tuple[int, ...] = (),
) -> ClassMatch:
    """Finds for each class of the student which of the teacher's logits it is.

    Where labels do not count and no class is called alike, a student with as many outputs learns
    the teacher's, in their order, whatever is on the pictures.

    A class that no picture is of, as the ids that a list leaves out, need not be the teacher's.

    Raises:
        UserError: the teacher does not know a class (with `hint`), or two readings fit.
    """
    known = teacher.class_set(f"the teacher {teacher.name}")
    if pictures:  # a student may have more outputs than there are names in the data
        pictures += (0,) * (student.num_classes - len(pictures))
    classes = replace(student.class_set("the student"), pictures=pictures)
    match = match_classes(known, classes)
    if not labels_count and set(match.ids) == {NONE} and student.num_classes == known.count:
        how = f"labels do not count: the {known.count} answers of {known.who}, in their order"
        return ClassMatch(known, match.data, tuple(range(known.count)), how)
    return match.complete(hint)
