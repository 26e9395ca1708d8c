"""`weights convert`: weights from one framework's file into another's."""

from pathlib import Path
from typing import Any

import numpy as np
from paddle import nn

from ppcls_lite.data.dataset import open_split
from ppcls_lite.data.loader import Loader
from ppcls_lite.data.shares import Shares
from ppcls_lite.engine.balance import log_prior
from ppcls_lite.engine.calibration import calibrate, said
from ppcls_lite.engine.freezing import last_linear
from ppcls_lite.errors import UserError
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.program import command
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
    is_for_torch = config.to in ("torchvision", "timm")
    if out.suffix not in SUFFIXES or (is_for_torch and out.suffix == ".pdparams"):
        raise UserError(
            f"--out {out} with --to {config.to}: .pdparams is for Paddle's layouts, .safetensors"
            " and .npz for any; .pth is not written, because reading one may run code",
            f"--out {out.with_suffix('.safetensors' if is_for_torch else '.pdparams')}",
        )
    weights = find_weights(config.weights, config.model)
    path = weights.path
    says_what_it_is = weights.tag is not None or weights.description is not None
    if config.model is None and not says_what_it_is and weights.file.network is None:
        raise UserError(
            f"{path}: of which network?", f"{command('list_models')}  # then --model NAME"
        )
    info = weights.info
    model = network_of(info)
    ours, layout = to_ours(
        weights.arrays, model, label=str(path), network=weights.file.network, flags=weights.flags
    )
    if config.logit_adjustment:
        ours = adjusted(ours, model, info, config, path)
    elif config.data_path and not config.calibrate:
        raise UserError(
            "--data-path is for --logit-adjustment and --calibrate", "--logit-adjustment 1"
        )
    extra: dict[str, Any] = {}
    if config.calibrate:
        ours, extra = calibrated(ours, model, info, config, path)
    described = config.to == "ours" and out.suffix in DESCRIBED
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
        print(f"next: {command('predict', '--pretrained', out, '--img-path', 'PICTURE')}")
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
    config.require("data_path")
    train = open_split(str(config.data_path), "train", shares=Shares(run=str(path)))
    train, _ = train.matched(info.class_set(str(path)), "train", "give the data it was trained on")
    counts = np.bincount(train.labels[train.labels >= 0], minlength=info.num_classes)
    bias = last_linear(model).bias
    name = next(name for name, tensor in model.state_dict().items() if tensor is bias)
    offsets = config.logit_adjustment * log_prior(counts)
    print(
        f"{name}: minus {config.logit_adjustment:g} log(share of the class) of {len(train)}"
        f" training pictures of {config.data_path}, {counts.min()} to {counts.max()} of a class"
    )
    return arrays | {name: (arrays[name] - offsets).astype(arrays[name].dtype)}


def calibrated(
    arrays: dict[str, np.ndarray],
    model: nn.Layer,
    info: ModelInfo,
    config: ConvertConfig,
    path: Path,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Returns weights whose logits are divided by a fitted temperature, and what that changed.

    Raises:
        UserError: the data is not there or of other classes, or the network gives no numbers.
    """
    config.require("data_path")
    val = open_split(str(config.data_path), "val", shares=Shares(run=str(path)))
    val, _ = val.matched(info.class_set(str(path)), "val", "give the data it was trained on")
    model.set_state_dict(arrays)
    scaled, report = calibrate(model, info, Loader(val, info.preprocess, 32, training=False))
    for line in said(report):
        print(line)
    return arrays | {n: x.astype(arrays[n].dtype) for n, x in scaled.items()}, {
        "calibration": report
    }
