"""Brings a teacher to life: any network and weights of the zoo, on a CPU as an exported graph."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ppcls_lite.engine.checkpoint import read_model_info
from ppcls_lite.engine.distributed import World
from ppcls_lite.engine.evaluate import Forward, checked, dygraph_forward
from ppcls_lite.engine.evaluation import exported_forward
from ppcls_lite.engine.log import RunLog
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.engine.teacher import Teacher
from ppcls_lite.environment import set_threads
from ppcls_lite.errors import UserError
from ppcls_lite.graph import StaticGraph
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.slim.network import network_of
from ppcls_lite.weights.load import load_weights
from ppcls_lite.weights.published import pretrained_file
from ppcls_lite.weights.tags import tag_of_file


@contextmanager
def open_teacher(config: TrainConfig, world: World) -> Iterator[Teacher | None]:
    """The teacher that the settings ask for, None when they ask for none.

    On a CPU its forward pass runs through its exported graph, several times as fast as dygraph,
    after a comparison of the two on the first pictures.

    Raises:
        UserError: the weights cannot be had, or are of another network.
    """
    if not config.teacher or not config.teacher_pretrained or config.distill_loss == "dml":
        yield None
        return
    file, info = teacher_weights(config.teacher, config.teacher_pretrained, config.dry_run)
    model = network_of(info)
    if file:
        load_weights(model, file)
    weights = str(file or f"{config.teacher_pretrained}, not downloaded in a dry run: random")
    slow = dygraph_forward(model)
    if world.device == "gpu":
        yield Teacher(info, slow, weights)
        return
    with exported_forward(StaticGraph(model, config.train_crop_size)) as fast:
        log = RunLog(None, world.is_main)
        yield Teacher(info, checked(with_threads(fast), slow, log), weights)


def with_threads(forward: Forward) -> Forward:
    """Returns a forward pass of Paddle Inference that leaves training's threads as they are."""

    def run(images: np.ndarray) -> np.ndarray:
        logits = forward(images)
        set_threads()
        return logits

    return run


def teacher_weights(name: str, text: str, dry_run: bool) -> tuple[Path | None, ModelInfo]:
    """Finds weights given as a file or as a published tag, and how to feed their network.

    Returns:
        The file, None when a dry run would have to download it, and the network.
    """
    file = pretrained_file(text, name, download=not dry_run)
    missing = not file.is_file() and tag_of_file(file) is not None
    info = read_model_info(file, name, 1000 if missing else None)  # published ones are ImageNet's
    if info.name != name:
        raise UserError(f"--teacher {name}: {file} holds {info.name}", f"--teacher {info.name}")
    return None if missing else file, info
