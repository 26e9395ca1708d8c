"""A trained network that says of each training picture what it sees."""

from dataclasses import dataclass

import numpy as np
import paddle

from ppcls_lite.data.mixing import Mix
from ppcls_lite.engine.evaluate import Forward
from ppcls_lite.errors import UserError
from ppcls_lite.model_info import ModelInfo


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
