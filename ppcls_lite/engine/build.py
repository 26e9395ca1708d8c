"""Settings and data become a network, its optimizer and its batches."""

import dataclasses
import secrets
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from ppcls_lite.arch.layers import set_drop_path, set_zero_gamma
from ppcls_lite.data.augment import Motion
from ppcls_lite.data.dataset import ImageDataset
from ppcls_lite.data.loader import Loader
from ppcls_lite.data.policies import Policy
from ppcls_lite.data.preprocess import INTERPOLATIONS, Preprocess
from ppcls_lite.data.settings import TrainBatches, TrainPictures
from ppcls_lite.data.transforms import TrainTransform
from ppcls_lite.engine import checkpoint
from ppcls_lite.engine.checkpoint import Checkpoint, Progress
from ppcls_lite.engine.distributed import World, sum_over_ranks
from ppcls_lite.engine.norms import estimate_norms, is_folded, spread_pictures
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.environment import kernel_threads
from ppcls_lite.errors import UserError
from ppcls_lite.kernels.accelerate import accelerate
from ppcls_lite.kernels.calls import Kernels
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.native import Unavailable
from ppcls_lite.optimizer.ema import Ema, ema_decay
from ppcls_lite.optimizer.optimizers import build_optimizer, load_named_state
from ppcls_lite.slim.fpgm import prune
from ppcls_lite.slim.network import network_of
from ppcls_lite.weights.load import LoadReport, load_weights
from ppcls_lite.weights.published import pretrained_file
from ppcls_lite.weights.tags import tag_of_file


def with_network_of(config: TrainConfig) -> tuple[TrainConfig, ModelInfo]:
    """Returns the settings with the network and the interpolation of --pretrained, where others
    are not asked for, and what is known of those weights."""
    asked = config.model if config.given("model") else None
    weights = pretrained_file(config.pretrained or "", asked, download=not config.dry_run)
    classes = 1000 if is_unfetched(weights, config) else None
    info = checkpoint.read_model_info(weights, asked, classes)
    known: dict[str, Any] = {"model": info.name} | info.overrides
    known["interpolation"] = info.preprocess.interpolation
    if "expanded" in known:
        known["expanded"] = tuple(known["expanded"])
    if info.quant_skip is not None:
        known |= {"pact_quant": True, "quant_skip": info.quant_skip}
    known = {key: value for key, value in known.items() if not config.given(key)}
    return dataclasses.replace(config, **known), info


def is_unfetched(weights: Path, config: TrainConfig) -> bool:
    """Tells whether this is a dry run that would have to download these weights."""
    return config.dry_run and not weights.is_file() and tag_of_file(weights) is not None


def common_seed(world: World) -> int:
    """Returns a random seed, the same on every rank."""
    drawn = secrets.randbelow(2**31) if world.is_main else 0
    return int(sum_over_ranks(np.array([drawn]), world)[0])


def describe_model(
    config: TrainConfig, data: ImageDataset, start: ModelInfo | None = None
) -> ModelInfo:
    """Returns the network that settings and data ask for.

    Args:
        start: of the weights to start from; the network goes on with their mean and std, unless
            others are asked for.
    """
    before = start.preprocess if start else Preprocess()
    overrides = {
        "width": config.width,
        "dropout": config.dropout,
        "small_input": config.small_input or None,
        "expanded": list(config.expanded) or None,
    }
    return ModelInfo(
        name=config.model,
        num_classes=class_count(config, data),
        overrides={key: value for key, value in overrides.items() if value is not None},
        classes=tuple(data.classes),
        preprocess=Preprocess(
            resize_size=config.val_resize_size,
            crop_size=config.val_crop_size,
            interpolation=config.interpolation,
            mean=config.mean or before.mean,
            std=config.std or before.std,
        ),
        quant_skip=config.quant_skip if config.pact_quant else None,
    )


def class_count(config: TrainConfig, data: ImageDataset) -> int:
    """Returns K: as asked for, or as found in the data."""
    found = len(data.classes)
    if found < 2:
        raise UserError(
            f"{config.data_path} has one class, {data.classes[0]}; telling apart needs two",
            "add the class folders of the other kinds to train/ and val/",
        )
    if config.num_classes is not None and config.num_classes < found:
        raise UserError(
            f"--num-classes {config.num_classes}: the data has {found} classes",
            "leave --num-classes out to take the number from the data",
        )
    return config.num_classes or found


def build_network(
    config: TrainConfig,
    info: ModelInfo,
    resumed: Checkpoint | None,
    progress: Progress,
    world: World,
    pictures: ImageDataset | None = None,
) -> tuple[
    paddle.nn.Layer, ModelInfo, paddle.optimizer.Optimizer, paddle.amp.GradScaler, LoadReport
]:
    """Returns the network with its weights, its description, which is another one when filters were
    pruned, its optimizer, the loss scaler and what was loaded. Weights without batch norm's
    statistics get those of `pictures`."""
    paddle.seed(progress.seed)  # of the initial weights
    model = network_of(info)
    if config.zero_gamma:
        set_zero_gamma(model)
    report = LoadReport((), tuple(model.state_dict()))
    if resumed:
        report = load_weights(model, resumed.trained)
    elif config.pretrained:
        weights = pretrained_file(config.pretrained, info.name, download=not config.dry_run)
        if not is_unfetched(weights, config):
            report = load_weights(model, weights, replace_head=True)
        if pictures is not None and is_folded(model):
            report = with_norms(report, model, info, pictures)
    if config.fpgm_ratio and not resumed:
        model, info = prune(model, info, config.fpgm_ratio)
    set_drop_path(model, config.drop_path)
    if config.sync_bn:
        if world.device == "cpu":
            raise UserError(
                "--sync-bn: paddle has no synchronised batch norm on a CPU", "leave it out"
            )
        model = paddle.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    optimizer = build_optimizer(model, config)
    amp = config.amp_level != "O0" and world.device == "gpu"
    if amp and config.amp_level == "O2":
        model, optimizer = paddle.amp.decorate(
            model, optimizer, level="O2", master_weight=True, save_dtype="float32"
        )
    if resumed:
        load_named_state(optimizer, model, resumed.accumulators)
    first_scale = progress.loss_scale or 1024.0  # document 002's
    return model, info, optimizer, paddle.amp.GradScaler(amp, first_scale), report


def with_norms(
    report: LoadReport, model: paddle.nn.Layer, info: ModelInfo, pictures: ImageDataset
) -> LoadReport:
    """Makes a network whose batch norm was folded one that can be trained, and says so."""
    images = spread_pictures(pictures, info.preprocess)
    if len(images):
        estimate_norms(model, images)
    words = f"; batch norm, which was folded, from {len(images)} training pictures"
    return dataclasses.replace(report, choice=report.choice + words)


def training_model(
    model: paddle.nn.Layer, config: TrainConfig, world: World
) -> tuple[paddle.nn.Layer, str]:
    """Returns what trains the network, wrapped as kernels and processes want it, and the former."""
    threads = kernel_threads()
    trained, words = model, "off: Paddle's own layers"
    try:
        if world.device != "cpu":
            raise Unavailable("they are for a CPU")
        if config.pact_quant:
            raise Unavailable("they do not round to 8 bits")
        if config.to_static:
            raise Unavailable("--to-static traces those")
        if config.cpu_kernels != "off":
            bf16 = config.cpu_kernels == "bf16"
            trained = accelerate(model, Kernels(threads, bf16))
            words = f"{trained.summary()}; {threads} threads" + (", bf16 kept" if bf16 else "")
    except Unavailable as reason:
        if config.cpu_kernels in ("on", "bf16"):
            raise UserError(
                f"--cpu-kernels {config.cpu_kernels}: the kernels cannot run: {reason}",
                "leave it out: Paddle's own layers train the same network, slower on a CPU",
            ) from None
        words = f"none, Paddle's own layers: {reason}"
    if config.to_static:
        # to_static replaces `forward` of the layer it is given: give it one of our own.
        trained = paddle.jit.to_static(paddle.nn.Sequential(model), full_graph=True)
    return paddle.DataParallel(trained) if world.size > 1 else trained, words


def build_ema(
    model: paddle.nn.Layer, config: TrainConfig, resumed: Checkpoint | None, effective_batch: int
) -> Ema | None:
    """Returns the moving average that the settings ask for, where the resumed run has left it."""
    if not config.model_ema:
        return None
    updates = resumed.progress.ema_updates if resumed else 0
    ema = Ema(model, ema_decay(config, effective_batch), updates)
    if resumed:
        for name, tensor in ema.average.items():
            tensor.set_value(resumed.params[name])
    return ema


def train_transform(config: TrainPictures, preprocess: Preprocess) -> TrainTransform:
    """Returns what happens to a training picture before it is normalised with `preprocess`."""
    red, green, blue = (round(255 * value) for value in preprocess.mean)
    policy = Policy(
        name=config.auto_augment or "",
        motion=Motion(
            INTERPOLATIONS[config.augment_interpolation],
            # timm fills with the mean colour, all others with black.
            (red, green, blue) if config.auto_augment == "ra_timm" else (0, 0, 0),
        ),
        magnitude=config.ra_magnitude,
        magnitude_std=config.ra_magnitude_std,
        num_ops=config.ra_num_ops,
        severity=config.augmix_severity,
    )
    return TrainTransform(
        crop_size=config.train_crop_size,
        interpolation=config.interpolation,
        scale=config.crop_scale,
        ratio=config.crop_ratio,
        padding=config.crop_padding,
        flip_prob=config.hflip,
        auto_augment=policy if policy.name else None,
        jitter=config.color_jitter,
        erase_prob=config.random_erase,
        erase_mode=config.random_erase_mode,
        mean=preprocess.mean,
        std=preprocess.std,
    )


def train_loader(
    data: ImageDataset, config: TrainBatches, preprocess: Preprocess, seed: int, world: World
) -> Loader:
    """Returns the shuffled, augmented training batches of this process."""
    return Loader(
        data,
        train_transform(config, preprocess),
        config.batch_size,
        training=True,
        workers=config.workers,
        seed=seed,
        rank=world.rank,
        world_size=world.size,
        on_error=config.on_error,
        reps=config.ra_reps,
        decode=config.decode,
    )
