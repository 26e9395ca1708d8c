"""`train.py --test-only`: weights against the validation pictures."""

import dataclasses
from pathlib import Path
from typing import Any

from ppcls_lite.data.classes import ClassMatch
from ppcls_lite.data.dataset import ImageDataset
from ppcls_lite.data.imagenet import spoken_name
from ppcls_lite.data.named import open_val
from ppcls_lite.engine.distributed import World
from ppcls_lite.engine.evaluate import build_evaluation
from ppcls_lite.engine.log import RunLog
from ppcls_lite.engine.settings import ValidateConfig
from ppcls_lite.errors import UserError, some
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.program import command
from ppcls_lite.report import write_confusion_matrix
from ppcls_lite.slim.network import network_of
from ppcls_lite.weights.find import Weights, find_weights
from ppcls_lite.weights.load import load_weights


def run(config: ValidateConfig, world: World) -> int:
    """Evaluates weights on the validation pictures; returns the exit status."""
    asked = config.model if config.given("model") else None
    named = config.pretrained or config.resume or ""
    if config.resume == "auto":
        named = str(Path(config.output_dir) / "latest.pdparams")
    weights = find_weights(named, asked, config.num_classes)
    info = tested_model(config, weights)
    # What fine-tunes it to classes that it does not know.
    tune = command("train", "--pretrained", weights.path, "--data-path", config.data_path)
    data, match = open_val(config).matched(info.class_set("the network"), "val", tune)
    model = network_of(info)
    report = load_weights(model, weights)
    log = RunLog(None, world.is_main)
    log.line(
        f"{weights.path}{report.choice}: {info.name}, {info.num_classes} classes;"
        f" {len(data)} pictures of {config.data_path}; {info.preprocess}"
    )
    for line in remarks(data, match):
        log.line(line)
    evaluate = build_evaluation(model, data, info, config, world, log)
    try:
        accuracy = evaluate()
    finally:
        evaluate.loader.close()
    for path, cause in evaluate.loader.broken.items():
        log.line(f"skipped broken picture {path}: {cause}")
    if config.confusion_matrix and world.is_main:
        folder = Path(config.output_dir) if config.given("output_dir") else weights.path.parent
        for written in write_confusion_matrix(folder, accuracy, info):
            log.line(f"wrote {written}")
    return 0


def remarks(data: ImageDataset, match: ClassMatch) -> list[str]:
    """Says how the data was read, how its classes were matched, and which have no picture."""
    lines = list(data.remarks)
    if match.known.names != match.data.names:
        lines.append(f"classes: {match.how}")
    lacking = len(match.lacking)
    if lacking:
        lines.append(
            f"no picture of {lacking} of the network's {match.known.count} classes, which are among"
            f" the answers all the same: {some([spoken_name(name) for name in match.lacking])}"
        )
    return lines


def tested_model(config: ValidateConfig, weights: Weights) -> ModelInfo:
    """Returns what the weights say of themselves, with the user's own flags on top."""
    asked = config.model if config.given("model") else None
    info, path = weights.info, weights.path
    if asked not in (None, info.name):
        raise UserError(f"--model {config.model}: {path} holds {info.name}", "leave it out")
    own: dict[str, Any] = {}
    for key, flag, value in (
        ("resize_size", "val_resize_size", config.val_resize_size),
        ("crop_size", "val_crop_size", config.val_crop_size),
        ("interpolation", "interpolation", config.interpolation),
    ):
        if config.given(flag):
            own[key] = value
    return dataclasses.replace(info, preprocess=dataclasses.replace(info.preprocess, **own))
