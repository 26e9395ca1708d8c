"""Labels that a person should look at: what a regression on an ImageNet network's features doubts.

Each image is judged by a regression that never saw it (out of fold, as confident learning does:
Northcutt et al. 2021, arXiv 1911.00068), so a network need not be trained on the data first.

Differs from confident learning: how many labels are wrong is not counted above the mean confidence
of each class, but fitted, as a share of labels that are drawn at random.
"""

import dataclasses
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor

from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.engine.freezing import last_linear
from ppcls_lite.engine.head import STEPS, fastest
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.runtimes import load_network
from ppcls_lite.weights.find import find_weights

NETWORK = "tf_mobilenetv3_small_100.imagenet"  # comes with the package
# Of the ridge regression's squared weights, for an image, whose features have a deviation of 1.
RIDGE = 2.0
# Of what bends scores into probabilities, more where more is free to bend for an image: 81 classes
# would learn their labels by heart. Both were chosen by other draws than docs/measurements has.
DECAY = 0.2
STEEP = 8.0  # how many logits a score is where nothing says otherwise
# Chance from which on a label is listed. With 0.2 fewer were listed than had been drawn anew, in
# draws apart from those of docs/measurements.
LISTED = 0.15


class Probabilities(NamedTuple):
    """What a regression that never saw an image says of its class.

    Attributes:
        each: float32 [N, K].
        drawn: share of all labels that are as if drawn at random.
    """

    each: np.ndarray
    drawn: float


class Features:
    """An ImageNet network without its last layer, on whole pictures and on their centres.

    Attributes:
        specs: the ways in which each picture is shown, [V].
    """

    def __init__(self) -> None:
        weights = find_weights(NETWORK)
        self._network, _ = load_network(weights, weights.info)
        self._caught: list[Tensor] = []
        # Before the network is wrapped: the kernels leave a layer with a hook to Paddle.
        last_linear(self._network).register_forward_pre_hook(
            lambda layer, inputs: self._caught.append(inputs[0])
        )
        device = "gpu" if paddle.is_compiled_with_cuda() else "cpu"
        self._run = fastest(self._network, TrainConfig(), device)
        self._network.training = True  # the kernels run; every layer answers as in evaluation
        centre = weights.info.preprocess
        whole = dataclasses.replace(centre, fit="squash", resize_size=centre.crop_size)
        self.specs: Sequence[Preprocess] = (centre, whole)

    def __call__(self, views: np.ndarray) -> np.ndarray:
        """Pictures as `specs` show them, uint8 [N, V, H, W, 3] -> features, float32 [N, D]."""
        found = []
        for i, spec in enumerate(self.specs):
            with paddle.no_grad():
                self._run(paddle.to_tensor(spec.normalize(views[:, i])))
            found.append(self._caught.pop().numpy())
        return np.concatenate(found, axis=1)


def out_of_fold(x: np.ndarray, y: np.ndarray, classes: int) -> Probabilities:
    """Gives each image probabilities by a regression that did not see it.

    A ridge regression that leaves one image out gives scores [N, K]. They become probabilities by a
    softmax of scores (t + C) + b, fitted together with the share of labels that are drawn at
    random: those do not bend it then, and the share says how many there are.

    Args:
        x: features, float32 [N, D].
        y: int64 [N], from 0 to K - 1.
        classes: K.
    """
    scores = paddle.to_tensor(_left_out(np.sign(x) * np.sqrt(np.abs(x)), np.eye(classes)[y]))
    labels, eye = paddle.to_tensor(y), paddle.eye(classes)
    t, drawn = paddle.zeros([1]), paddle.full([1], -4.0)  # log of t / STEEP; the share's logit
    c, bias = paddle.zeros([classes, classes]), paddle.zeros([classes])
    parts = [t, drawn, c, bias]
    for part in parts:
        part.stop_gradient = False
    optimizer = paddle.optimizer.LBFGS(
        max_iter=STEPS, history_size=10, line_search_fn="strong_wolfe", parameters=parts
    )

    def answers() -> Tensor:
        return F.softmax(scores @ (STEEP * paddle.exp(t) * eye + STEEP * c) + bias)

    def loss() -> Tensor:
        optimizer.clear_grad()
        share = F.sigmoid(drawn)
        own = paddle.take_along_axis(answers(), labels[:, None], 1)
        value = -paddle.log((1 - share) * own + share / classes).mean()
        bent = classes**2 * (c * c).sum() + classes * (bias * bias).sum() + t * t
        value = value + DECAY / len(y) * bent
        value.backward()
        return value

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Paddle's own, about its copies of tensors
        optimizer.step(loss)
    return Probabilities(answers().numpy(), float(F.sigmoid(drawn)))


def _left_out(x: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Ridge regression of targets [N, K] on x [N, D] -> what it says of each row without it.

    In closed form, by one regression of all rows (Allen 1974, PRESS).
    """
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-6)
    x = np.hstack([x, np.full((len(x), 1), 10)]).astype(np.float32)  # a constant, hardly shrunk
    squares = x.T @ x + RIDGE * len(x) * np.eye(x.shape[1], dtype=np.float32)
    solved = np.linalg.solve(squares, x.T).T  # [N, D + 1]
    own = (solved * x).sum(axis=1, keepdims=True)  # what a target counts in its own answer
    fitted = solved @ (x.T @ targets.astype(np.float32))
    return (fitted - own * targets.astype(np.float32)) / (1 - own)


def doubtful(probabilities: Probabilities, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds labels to look at, the most doubtful first.

    Args:
        probabilities: `out_of_fold`.
        y: int64 [N].

    Returns:
        Their positions, and the chances that they were drawn at random, LISTED or more.
    """
    p, share = probabilities
    at_random = share / p.shape[1]
    chances = at_random / ((1 - share) * p[np.arange(len(y)), y] + max(at_random, 1e-12))
    order = np.argsort(-chances, kind="stable")[: int((chances >= LISTED).sum())]
    return order, chances[order]
