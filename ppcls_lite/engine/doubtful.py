"""Labels that a person should look at: what a regression on an ImageNet network's features doubts.

Each picture is judged by regressions that never saw it (out of fold, as confident learning does:
Northcutt et al. 2021, arXiv 1911.00068), so a network need not be trained on the data first.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import paddle
from paddle import Tensor

from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.engine.freezing import last_linear
from ppcls_lite.engine.head import fastest, logistic_regression
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.runtimes import load_network
from ppcls_lite.weights.find import find_weights

NETWORK = "tf_mobilenetv3_small_100.imagenet"  # comes with the package
FOLDS = 5
# Stronger than where a network is made: a weak regression that learns no wrong labels tells them
# apart. Of 153 labels of clothing10 that were drawn anew, 120 are among the first 153: 0.78.
DECAY = 0.07


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


def out_of_fold(x: np.ndarray, y: np.ndarray, classes: int) -> np.ndarray:
    """Gives each picture probabilities by a regression that did not see it, float32 [N, K].

    Args:
        x: features, float32 [N, D].
        y: int64 [N], from 0 to K - 1.
        classes: K.
    """
    order = np.random.default_rng(0).permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]  # each class is spread over the folds
    folds = np.empty(len(y), int)
    folds[order] = np.arange(len(y)) % FOLDS
    probabilities = np.empty((len(y), classes), np.float32)
    for fold in range(FOLDS):
        held = folds == fold
        weight, bias = logistic_regression(x[~held], y[~held], classes, decay=DECAY)
        logits = x[held] @ weight + bias
        exp = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities[held] = exp / exp.sum(axis=1, keepdims=True)
    return probabilities


def doubtful(probabilities: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Positions of labels to look at, the most doubtful first.

    Had a picture's label been drawn from its probabilities, so and so many labels would have one
    below any limit. Where there are more, the excess is wrong labels. Of the limits below which at
    least half are excess, that with the largest counts. Listed are the labels below it, and as many
    again, since the regressions are less sure than they are right; without such a limit, none.

    Args:
        probabilities: out of fold, [N, K].
        y: int64 [N].
    """
    own = probabilities[np.arange(len(y)), y]
    order = np.argsort(own, kind="stable")
    every = np.sort(probabilities.ravel().astype(np.float64))
    below = np.concatenate([[0.0], np.cumsum(every)])
    expected = below[np.searchsorted(every, own[order], side="right")]
    found = np.arange(1, len(y) + 1)
    excess = np.where(expected <= found / 2, found - expected, 0)
    most = int(excess.argmax())
    return order[: 2 * (most + 1)] if excess[most] >= 1 else order[:0]
