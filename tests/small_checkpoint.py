"""A checkpoint of a small network whose weights come from a formula, and its own answers."""

from pathlib import Path

import numpy as np
import paddle

from ppcls_lite import create_model
from ppcls_lite.data.decode import load_image
from ppcls_lite.data.preprocess import Preprocess, find_images
from ppcls_lite.engine.checkpoint import Progress, save_checkpoint
from ppcls_lite.engine.evaluate import dygraph_forward
from ppcls_lite.model_info import ModelInfo

CLASSES = tuple(f"kind {i}" for i in range(10))
# mean and std differ from the defaults, so that a forgotten specification shows.
SPEC = Preprocess(72, 64, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
INFO = ModelInfo("mobilenet_v3_small", 10, {"width": 0.5}, CLASSES, SPEC)


def trained_like_state(model: paddle.nn.Layer, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights and statistics by formula, large enough for clearly different logits."""
    random = np.random.RandomState(seed)
    state = {}
    for name, tensor in model.state_dict().items():
        shape = tensor.shape
        if name.endswith("_variance"):
            value = random.uniform(0.5, 1.5, shape)
        elif len(shape) > 1:
            fan_in = np.prod(shape[1:]) if len(shape) == 4 else shape[0]
            value = random.randn(*shape) * np.sqrt(2 / fan_in)
        else:
            value = 0.1 * random.randn(*shape) + name.endswith(".weight")
        state[name] = value.astype("float32")
    return state


def checkpoint(folder: Path, seed: int = 0) -> Path:
    model = create_model(INFO.name, INFO.num_classes, **INFO.overrides)
    model.set_state_dict(trained_like_state(model, seed))
    path = folder / "best.pdparams"
    optimizer = paddle.optimizer.SGD(parameters=model.parameters())
    save_checkpoint(path, model.state_dict(), optimizer.state_dict(), INFO, Progress(), {})
    return path


def network_by_formula(name: str, folder: Path, spec: Preprocess, **overrides) -> paddle.nn.Layer:
    """Weights by formula, the pictures' batch statistics and a centred last layer, so that the
    answers differ: after a training of seconds they would not.
    """
    model = create_model(name, 3, dropout=0.0, **overrides)
    model.set_state_dict(trained_like_state(model))
    files = find_images(str(folder))
    images = spec([load_image(path) for path in files])
    for layer in model.sublayers():
        if isinstance(layer, paddle.nn.BatchNorm2D):
            layer._momentum = 0.1  # with none of the old statistics, the logits blow up
    model.train()
    model(paddle.to_tensor(images))
    logits = dygraph_forward(model)(images)
    last = model.sublayers()[-1]
    last.bias.set_value(20 * (last.bias.numpy() - logits.mean(axis=0)))
    last.weight.set_value(20 * last.weight.numpy())
    return model


def network(folder: Path) -> paddle.nn.Layer:
    model = create_model(INFO.name, INFO.num_classes, **INFO.overrides)
    model.set_state_dict(paddle.load(str(folder / "best.pdparams")))
    model.eval()
    return model


def trained_probabilities(folder: Path, images: np.ndarray) -> np.ndarray:
    return paddle.nn.functional.softmax(network(folder)(paddle.to_tensor(images))).numpy()
