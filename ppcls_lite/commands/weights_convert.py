"""`weights convert`: weights from one framework's file into another's."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from paddle import nn

from ppcls_lite.data.dataset import open_split
from ppcls_lite.data.image_dataset import ImageDataset
from ppcls_lite.data.loader import Loader
from ppcls_lite.data.shares import Shares
from ppcls_lite.engine.balance import log_prior
from ppcls_lite.engine.calibration import WHEN, answers, calibrate
from ppcls_lite.engine.calibration import said as calibration_lines
from ppcls_lite.engine.freezing import last_linear
from ppcls_lite.engine.unknown import said as limits_line
from ppcls_lite.engine.unknown import some_of_each, with_limits
from ppcls_lite.errors import UserError
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.program import command
from ppcls_lite.report import draw_reliability
from ppcls_lite.slim.network import network_of
from ppcls_lite.weights.description import DESCRIBED, save_weights
from ppcls_lite.weights.find import find_weights
from ppcls_lite.weights.mapping import from_ours, to_ours
from ppcls_lite.weights.settings import ConvertConfig
from ppcls_lite.weights.writing import SUFFIXES, write_weights


def run(config: ConvertConfig) -> int:
    """Reads, maps and writes weights, and says what was mapped."""
    config.require("weights", "out")
    out = Path(config.out)
    described = config.to == "ours" and out.suffix in DESCRIBED
    is_for_torch = config.to in ("torchvision", "timm")
    if out.suffix not in SUFFIXES or (is_for_torch and out.suffix == ".pdparams"):
        raise UserError(
            f"--out {out} with --to {config.to}: .pdparams is for Paddle's layouts, .safetensors"
            " and .npz for any; .pth is not written, because reading one may run code",
            f"--out {out.with_suffix('.safetensors' if is_for_torch else '.pdparams')}",
        )
    if config.unknown and not described:
        raise UserError(
            f"--unknown with --out {out} and --to {config.to}: its limits go into the JSON that"
            f" {' or '.join(DESCRIBED)} with our names have beside them",
            f"--out {out.with_suffix('.pdparams')}",
        )
    weights = find_weights(config.weights, config.model)
    path = weights.path
    says_what_it_is = weights.tag is not None or weights.description is not None
    if config.model is None and not says_what_it_is and weights.file.network is None:
        raise UserError(
            f"{path}: of which model?", f"{command('list_models')}  # then --model NAME"
        )
    info = weights.info
    model = network_of(info)
    ours, layout = to_ours(
        weights.arrays, model, label=str(path), network=weights.file.network, flags=weights.flags
    )
    if config.logit_adjustment:
        ours = adjusted(ours, model, info, config, path)
        info = replace(info, known_limits=())  # they are of other answers
    extra: dict[str, Any] = {}
    if config.calibrate:
        ours, info, extra = calibrated(ours, model, info, config, path)
    if config.unknown:
        info, extra = limited(ours, model, info, config, path, extra)
    if described:
        save_weights(out, ours, info, extra)
        print(f"assuming {info.preprocess}; written to {out.stem}.json")
    else:
        write_weights(out, from_ours(ours, model, config.to))
    print(
        f"{path}{weights.file.choice()}: {len(ours)} tensors of {info.name}, {info.num_classes}"
        f" classes, in the layout {layout}"
    )
    print(f"wrote {out} in the layout {config.to}")
    if described:
        print(f"next: {command('predict', '--pretrained', out, '--img-path', 'IMAGE')}")
    return 0


def adjusted(
    arrays: dict[str, np.ndarray],
    model: nn.Layer,
    info: ModelInfo,
    config: ConvertConfig,
    path: Path,
) -> dict[str, np.ndarray]:
    """Returns weights whose answers are for classes of equal size (Menon et al. 2021, post hoc).

    Raises:
        UserError: the data is not there, or of other classes.
    """
    train = known_split("train", info, config, path)
    counts = np.bincount(train.labels[train.labels >= 0], minlength=info.num_classes)
    bias = last_linear(model).bias
    name = next(name for name, tensor in model.state_dict().items() if tensor is bias)
    offsets = config.logit_adjustment * log_prior(counts)
    print(
        f"{name}: minus {config.logit_adjustment:g} log(share of the class) of {len(train)}"
        f" training images of {config.data_path}, {counts.min()} to {counts.max()} of a class"
    )
    return arrays | {name: (arrays[name] - offsets).astype(arrays[name].dtype)}


def calibrated(
    arrays: dict[str, np.ndarray],
    model: nn.Layer,
    info: ModelInfo,
    config: ConvertConfig,
    path: Path,
) -> tuple[dict[str, np.ndarray], ModelInfo, dict[str, Any]]:
    """Returns weights whose logits are divided by a fitted temperature, and what that changed.

    Raises:
        UserError: the data is not there or of other classes, or the network gives no numbers.
    """
    val = known_split("val", info, config, path)
    model.set_state_dict(arrays)
    scaled, report = calibrate(model, *answers_to(model, info, val))
    for line in calibration_lines(report):
        print(line)
    picture = Path(config.out).with_suffix(".reliability.png")
    bins = {when.replace("_", " "): np.array(report[when]["bins"]) for when in WHEN}
    draw_reliability(bins, f"{info.name}: {path.name}", picture)
    print(f"wrote {picture}")
    arrays = arrays | {n: x.astype(arrays[n].dtype) for n, x in scaled.items()}
    return arrays, replace(info, known_limits=()), {"calibration": report}


def limited(
    arrays: dict[str, np.ndarray],
    model: nn.Layer,
    info: ModelInfo,
    config: ConvertConfig,
    path: Path,
    extra: dict[str, Any],
) -> tuple[ModelInfo, dict[str, Any]]:
    """Returns what travels with weights, with the limits of the known, and `extra` with a report.

    Raises:
        UserError: the data is not there or of other classes, or the network gives no numbers.
    """
    model.set_state_dict(arrays)
    train, val = (known_split(split, info, config, path) for split in ("train", "val"))
    few = train.subset(some_of_each(train.labels))
    of_train, (logits, _) = (answers_to(model, info, data) for data in (few, val))
    info, report = with_limits(info, of_train, logits, config.keep_known)
    print(limits_line(report))
    return info, extra | {"unknown": report}


def answers_to(
    model: nn.Layer, info: ModelInfo, data: ImageDataset
) -> tuple[np.ndarray, np.ndarray]:
    """Returns what a network answers to each picture of a known class, see `answers`."""
    return answers(model, info, Loader(data, info.preprocess, 32, training=False))


def known_split(split: str, info: ModelInfo, config: ConvertConfig, path: Path) -> ImageDataset:
    """Opens a split of --data-path, by the classes of the network.

    Raises:
        UserError: the data is not there, or of other classes, or has several labels a picture.
    """
    config.require("data_path")
    if info.multi_label:
        raise UserError(
            f"{path} gives several labels an image; --calibrate, --unknown and --logit-adjustment"
            " are of one label",
            "leave them out: each class has a threshold of its own",
        )
    data = open_split(str(config.data_path), split, shares=Shares(run=str(path)))
    return data.matched(info.class_set(str(path)), split, "give the data it was trained on")[0]
