"""The last layer fitted to features before the first step: logistic regression, in seconds.

A fresh last layer behind good features sends back noise in the first steps, which spoils what is
below it. Fitted first, it starts where a linear probe ends, and with `--epochs 0` that is all.
"""

import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from paddle.autograd import PyLayer, PyLayerContext

from ppcls_lite.data.image_dataset import ImageDataset
from ppcls_lite.data.loader import Batch, Loader
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.data.recipe import train_loader
from ppcls_lite.engine.balance import Balance, balance, balanced_weights
from ppcls_lite.engine.freezing import last_linear
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.environment import kernel_threads
from ppcls_lite.kernels.accelerate import accelerate
from ppcls_lite.kernels.calls import Kernels
from ppcls_lite.loss import multi_label_loss
from ppcls_lite.native import Unavailable

# Of the squared weights, whose inputs have a standard deviation of 1.
DECAY = 3e-2
STEPS = 100  # of L-BFGS


class Fitted(NamedTuple):
    """What a fit did, in words, and what the network answers now to the training pictures as they
    are evaluated: logits float32 [N, K], labels int64 [N] or uint8 [N, K]."""

    words: str
    answers: tuple[np.ndarray, np.ndarray]


def fit_head(
    model: nn.Layer, data: ImageDataset, preprocess: Preprocess, config: TrainConfig, device: str
) -> Fitted:
    """Fits the last layer to `fit_head` views of every training picture.

    The views are: as evaluated; that mirrored; from the third on, as training sees the picture.

    Args:
        model: the network, whose last layer changes.
        data: the training pictures; those of no known class are passed over.
        preprocess: of evaluation.
        device: cpu or gpu.

    Raises:
        UserError: a broken picture, with `on_error` stop.
    """
    head, features, labels, indices = last_linear(model), [], [], []
    caught: list[Tensor] = []
    # Before the network is wrapped: the kernels leave a layer with a hook to Paddle.
    hook = head.register_forward_pre_hook(lambda layer, inputs: caught.append(inputs[0]))
    run = fastest(model, config, device)
    model.eval()
    model.training = True  # the kernels run; every layer answers as in evaluation
    for batch in views(data, preprocess, config):
        known = batch.labels.reshape(len(batch.labels), -1).max(axis=1) >= 0
        if known.any():
            with paddle.no_grad():
                run(paddle.to_tensor(preprocess.normalize(batch.images[known])))
            features.append(caught.pop().astype("float32").numpy())
            labels.append(batch.labels[known])
            indices.append(batch.indices[known])
    hook.remove()
    model.train()
    x, y = np.concatenate(features), np.concatenate(labels)
    classes = head.bias.shape[0]
    found = balance(config, data.labels, classes)
    if config.sampler == "balanced":
        found = Balance(balanced_weights(np.bincount(y, minlength=classes)))
    weight, bias = logistic_regression(x, y, classes, found)
    head.weight.set_value(weight)
    head.bias.set_value(bias)
    logits = x @ weight + bias
    right = ((logits > 0) == y).mean() if y.ndim == 2 else (logits.argmax(axis=1) == y).mean()
    of = "of their labels" if y.ndim == 2 else "of them"
    words = (
        f"; the last layer fitted to the features of {len(data)} training images,"
        f" {config.fit_head} views each, {right:.4f} {of} right"
    )
    _, first = np.unique(np.concatenate(indices), return_index=True)  # views as evaluated
    return Fitted(words, (logits[first], y[first]))


def fastest(model: nn.Layer, config: TrainConfig, device: str) -> nn.Layer:
    """Returns what runs a network fastest: our kernels on a CPU, where they may and can."""
    if device != "cpu" or config.cpu_kernels == "off":
        return model
    try:
        return accelerate(model, Kernels(kernel_threads()))
    except Unavailable:
        return model


def views(data: ImageDataset, preprocess: Preprocess, config: TrainConfig) -> Iterator[Batch]:
    """Yields `fit_head` views of every training picture, batch by batch."""
    loader = Loader(
        data,
        preprocess,
        config.batch_size,
        training=False,
        workers=config.workers,
        on_error=config.on_error,
    )
    try:
        for batch in loader.epoch(0):
            yield batch
            if config.fit_head > 1:
                mirrored = np.ascontiguousarray(batch.images[:, :, ::-1])
                yield Batch(mirrored, batch.labels, batch.indices)
    finally:
        loader.close()
    if config.fit_head > 2:
        loader = train_loader(data, config, preprocess, config.seed or 0, 0, 1)
        try:
            for view in range(config.fit_head - 2):
                yield from loader.epoch(view)
        finally:
            loader.close()


class Product(PyLayer):
    """Inputs [N, in], float32 of numpy, times weight [in, K]: logits [N, K].

    By numpy, since Paddle 3.3.1 takes 3 to 11 times as long for a narrow weight on some CPUs
    (docs/measurements/few_pictures.md).
    """

    @staticmethod
    def forward(ctx: PyLayerContext, weight: Tensor, inputs: np.ndarray) -> Tensor:
        """Returns the logits."""
        ctx.inputs = inputs
        return paddle.to_tensor(inputs @ weight.numpy())

    @staticmethod
    def backward(ctx: PyLayerContext, gradient: Tensor) -> Tensor:
        """Returns the weight's gradient."""
        return paddle.to_tensor(ctx.inputs.T @ gradient.numpy())


def logistic_regression(
    x: np.ndarray,
    y: np.ndarray,
    classes: int,
    balanced: Balance | None = None,
    decay: float = DECAY,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns weight [in, K] and bias [K] of the regression of labels on features.

    Args:
        x: float32 [N, in]; brought to mean 0 and standard deviation 1 for the fit.
        y: int64 [N]; or several labels a picture, uint8 [N, K]: a regression for each class.
        classes: K.
        balanced: weights of the classes, or what is added to their logits in the loss.
        decay: of the squared weights.
    """
    balanced = balanced or Balance()
    mean, deviation = x.mean(axis=0), x.std(axis=0) + 1e-6
    if y.ndim == 1:
        weights = np.ones(classes, np.float32) if balanced.weights is None else balanced.weights
        shares = paddle.to_tensor(weights[y] / weights[y].sum())  # [N]
    inputs, labels = (x - mean) / deviation, paddle.to_tensor(y)
    weight = paddle.zeros([x.shape[1], classes])
    bias = paddle.zeros([classes])
    weight.stop_gradient = bias.stop_gradient = False
    optimizer = paddle.optimizer.LBFGS(
        max_iter=STEPS, history_size=10, line_search_fn="strong_wolfe", parameters=[weight, bias]
    )

    def loss() -> Tensor:
        optimizer.clear_grad()
        logits = balanced.logits(Product.apply(weight, inputs) + bias)
        if y.ndim == 2:
            targets = labels.astype("float32")
            value = classes * multi_label_loss(logits, targets, 0.0, balanced.positives)
        else:
            losses = F.cross_entropy(logits, labels, reduction="none").flatten()
            value = (losses * shares).sum()
        value = value + decay * (weight * weight).sum()
        value.backward()
        return value

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Paddle's own, about its copies of tensors
        optimizer.step(loss)
    scaled = weight.numpy() / deviation[:, None]
    return scaled, bias.numpy() - mean @ scaled
