"""`tools/validate.py`, MindCV's name, and `train.py --test-only`: weights against the pictures."""

import dataclasses
from pathlib import Path
from typing import Any

import paddle

from ppcls_lite.data.classes import ClassMatch
from ppcls_lite.data.image_dataset import ImageDataset
from ppcls_lite.data.imagenet import spoken_name
from ppcls_lite.data.named import open_val
from ppcls_lite.deploy.choose import find_model, is_export
from ppcls_lite.deploy.predictor import Predictor
from ppcls_lite.engine.distributed import World, accounted, pick_device, start_world
from ppcls_lite.engine.evaluate import FEWEST, Forward, build_evaluation
from ppcls_lite.engine.log import RunLog
from ppcls_lite.engine.settings import ValidateConfig
from ppcls_lite.environment import kernel_threads
from ppcls_lite.errors import UserError, some
from ppcls_lite.kernels.accelerate import AcceleratedModel, accelerate
from ppcls_lite.kernels.calls import Kernels
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.native import Unavailable
from ppcls_lite.program import command
from ppcls_lite.report import metric_lines, write_confusion_matrix
from ppcls_lite.slim.network import network_of
from ppcls_lite.weights.find import Weights, find_weights
from ppcls_lite.weights.load import load_weights


def run(config: ValidateConfig) -> int:
    """Evaluates weights on the validation pictures; returns the exit status."""
    if not config.resume:
        config.require("pretrained")
    world = start_world(pick_device(config.device, config.use_gpu), config.rank_timeout)
    with accounted(world):
        return measure(config, world)


def measure(config: ValidateConfig, world: World) -> int:
    """Evaluates and prints; returns the exit status."""
    asked = config.model if config.given("model") else None
    named = config.pretrained or config.resume or ""
    if config.resume == "auto":
        named = str(Path(config.output_dir) / "latest.pdparams")
    weights = find_weights(named, asked, config.num_classes)
    log = RunLog(None, world.is_main)
    network: paddle.nn.Layer | Forward
    if is_export(weights.path):
        predictor = open_export(config, weights, world, log)
        info = tested_model(config, predictor.info, weights.path)
        network, choice = predictor.logits, f" in {predictor.engine}"
    else:
        find_model(weights.path, config.engine)  # says when the engine asked for cannot run it
        info = tested_model(config, weights.info, weights.path)
        network = network_of(info)
        choice = load_weights(network, weights).choice
    info = dataclasses.replace(info, thresholds=info.cuts if info.multi_label else ())
    # What fine-tunes it to classes that it does not know.
    tune = command("train", *weights.flags, "--data-path", config.data_path)
    data, match = tested_data(config, info, weights.path).matched(
        info.class_set("the model"), "val", tune
    )
    log.line(
        f"{weights.path}{choice}: {info.name}, {info.num_classes} classes;"
        f" {len(data)} images of {config.data_path}; {info.preprocess}"
    )
    for line in remarks(data, match):
        log.line(line)
    many = config.eval_engine == "auto" and len(data) >= FEWEST
    evaluate = build_evaluation(
        network, data, info, config, world, log, tta=config.tta,
        trained=in_kernels(network, info, world) if many else None,
    )  # fmt: skip
    try:
        accuracy = evaluate(lambda accuracy: metric_lines(accuracy, info))
    finally:
        evaluate.loader.close()
    for path, cause in evaluate.loader.broken.items():
        log.line(f"skipped broken image {path}: {cause}")
    if config.confusion_matrix and world.is_main:
        beside = weights.path if weights.path.is_dir() else weights.path.parent
        folder = Path(config.output_dir) if config.given("output_dir") else beside
        for written in write_confusion_matrix(folder, accuracy, info):
            log.line(f"wrote {written}")
    return 0


def in_kernels(network: Any, info: ModelInfo, world: World) -> AcceleratedModel | None:
    """Returns a network in our kernels, which begin sooner than an exported graph does.

    None where they do not run all of it. On a new machine they are compiled first, in 10 s.
    """
    is_plain = isinstance(network, paddle.nn.Layer) and info.quant_skip is None
    if not is_plain or world.device != "cpu":
        return None
    try:
        accelerated = accelerate(network, Kernels(kernel_threads()))
    except Unavailable:
        return None
    return accelerated if all(piece.fused for piece in accelerated.pieces) else None


def tested_data(config: ValidateConfig, info: ModelInfo, path: Path) -> ImageDataset:
    """Opens the pictures; a network with several labels a picture reads every list that way.

    Raises:
        UserError: they are not there, or have several labels, of which the network gives one.
    """
    if info.multi_label:
        config = dataclasses.replace(config, labels="several")
    data = open_val(config, run=str(path))
    if data.labels.ndim == 2 and not info.multi_label:
        raise UserError(
            f"{data.place} lists several labels an image, and {path} gives one",
            "give lists with one label an image, or a model that was trained with several",
        )
    return data


def remarks(data: ImageDataset, match: ClassMatch) -> list[str]:
    """Says how the data was read, how its classes were matched, and which have no picture."""
    lines = list(data.remarks)
    if match.known.names != match.data.names:
        lines.append(f"classes: {match.how}")
    lacking = len(match.lacking)
    if lacking:
        lines.append(
            f"no image of {lacking} of the model's {match.known.count} classes, which may be"
            f" predicted all the same: {some([spoken_name(name) for name in match.lacking])}"
        )
    return lines


def open_export(config: ValidateConfig, weights: Weights, world: World, log: RunLog) -> Predictor:
    """Opens an export folder, or a file in one, and says what had to be assumed or chosen.

    Raises:
        UserError: it cannot be run, or a flag asks for what an export has settled.
    """
    if config.changed("eval_engine"):
        raise UserError(
            f"--eval-engine {config.eval_engine} is of weights; {weights.path} is an export",
            "name what is to run it with --engine",
        )
    predictor = Predictor(weights, config.engine, world.device, config.batch_size)
    size = predictor.info.preprocess.crop_size
    if config.given("val_crop_size") and config.val_crop_size != size:
        raise UserError(
            f"--val-crop-size {config.val_crop_size}: {weights.path} is for {size} pixels",
            "leave it out; exporting with --img-size writes another size",
        )
    for line in filter(None, (predictor.note, predictor.choice)):
        log.line(line)
    return predictor


def tested_model(config: ValidateConfig, info: ModelInfo, path: Path) -> ModelInfo:
    """Returns what the weights say of themselves, with the user's own flags on top."""
    asked = config.model if config.given("model") else None
    if asked not in (None, info.name) and info.name != "unknown":
        raise UserError(f"--model {config.model}: {path} holds {info.name}", "leave it out")
    own: dict[str, Any] = {}
    for key, flag, value in (
        ("resize_size", "val_resize_size", config.val_resize_size),
        ("crop_size", "val_crop_size", config.val_crop_size),
        ("interpolation", "interpolation", config.interpolation),
        ("fit", "fit", config.fit),
    ):
        if config.given(flag):
            own[key] = value
    return dataclasses.replace(info, preprocess=dataclasses.replace(info.preprocess, **own))
