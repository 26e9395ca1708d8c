"""`train.py --test-only`: weights against the validation pictures."""

import dataclasses
from pathlib import Path
from typing import Any

from ppcls_lite.data.dataset import ImageDataset, check_same_classes
from ppcls_lite.data.named import open_val
from ppcls_lite.engine import checkpoint
from ppcls_lite.engine.distributed import World
from ppcls_lite.engine.evaluate import build_evaluation
from ppcls_lite.engine.log import RunLog
from ppcls_lite.engine.settings import ValidateConfig
from ppcls_lite.errors import UserError
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.report import write_confusion_matrix
from ppcls_lite.slim.network import network_of
from ppcls_lite.weights.load import load_weights
from ppcls_lite.weights.published import pretrained_file


def run(config: ValidateConfig, world: World) -> int:
    """Evaluates weights on the validation pictures; returns the exit status."""
    asked = config.model if config.given("model") else None
    if config.resume == "auto":
        weights = Path(config.output_dir) / "latest.pdparams"
    else:
        weights = pretrained_file(config.pretrained or config.resume or "", asked)
    data = open_val(config)
    info = tested_model(config, weights, data)
    model = network_of(info)
    report = load_weights(model, weights)
    log = RunLog(None, world.is_main)
    log.line(
        f"{weights}{report.choice}: {info.name}, {info.num_classes} classes; {len(data)} pictures"
        f" of {config.data_path}; {info.preprocess}"
    )
    evaluate = build_evaluation(model, data, info, config, world, log)
    try:
        accuracy = evaluate()
    finally:
        evaluate.loader.close()
    for path, cause in evaluate.loader.broken.items():
        log.line(f"skipped broken picture {path}: {cause}")
    if config.confusion_matrix and world.is_main:
        folder = Path(config.output_dir) if config.given("output_dir") else weights.parent
        for written in write_confusion_matrix(folder, accuracy, info):
            log.line(f"wrote {written}")
    return 0


def tested_model(config: ValidateConfig, weights: Path, data: ImageDataset) -> ModelInfo:
    """Returns what the weights say of themselves, with the user's own flags on top."""
    asked = config.model if config.given("model") else None
    info = checkpoint.read_model_info(weights, asked, config.num_classes)
    if asked not in (None, info.name):
        raise UserError(f"--model {config.model}: {weights} holds {info.name}", "leave it out")
    if info.classes:
        try:
            check_same_classes(info.classes, data.classes)
        except UserError as error:
            raise UserError(
                f"{config.data_path} has other classes than {weights} was trained on:"
                f" {error.message}",
                "evaluate on the data set of the training",
            ) from None
    if len(data.classes) > info.num_classes:
        raise UserError(
            f"{weights} knows {info.num_classes} classes, the data has {len(data.classes)}",
            "--pretrained without --test-only fine-tunes the weights to new classes",
        )
    own: dict[str, Any] = {}
    for key, flag, value in (
        ("resize_size", "val_resize_size", config.val_resize_size),
        ("crop_size", "val_crop_size", config.val_crop_size),
        ("interpolation", "interpolation", config.interpolation),
    ):
        if config.given(flag):
            own[key] = value
    return dataclasses.replace(info, preprocess=dataclasses.replace(info.preprocess, **own))
