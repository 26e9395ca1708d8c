"""Resolved settings and data become a run: network, optimizer, batches and what goes with them."""

import dataclasses
from pathlib import Path

import paddle
from paddle import nn

from ppcls_lite.arch.layers import set_drop_path, set_zero_gamma
from ppcls_lite.data.image_dataset import ImageDataset
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.data.recipe import train_loader
from ppcls_lite.engine import agreement, plan
from ppcls_lite.engine.balance import balance
from ppcls_lite.engine.checkpoint import Checkpoint
from ppcls_lite.engine.distributed import World, share_weights, wait_for_all
from ppcls_lite.engine.evaluate import build_evaluation, cache_of, watch_of
from ppcls_lite.engine.freezing import freeze
from ppcls_lite.engine.head import fit_head
from ppcls_lite.engine.log import RunLog
from ppcls_lite.engine.mutual import MutualStudent, build_mutual
from ppcls_lite.engine.norms import check_norms, unfold_norms
from ppcls_lite.engine.resolve import Resolved, find_place
from ppcls_lite.engine.run import Run, effective_batch
from ppcls_lite.engine.safe_points import SaveEvery
from ppcls_lite.engine.sets import Sets, class_count, head_rows, open_sets
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.engine.signals import StopRequest
from ppcls_lite.engine.statistics import set_bn_momentum
from ppcls_lite.engine.teacher import Teacher, build_teacher
from ppcls_lite.engine.tracking import tracker
from ppcls_lite.environment import kernel_threads
from ppcls_lite.errors import UserError
from ppcls_lite.kernels.accelerate import accelerate
from ppcls_lite.kernels.calls import Kernels, bf16_words, multiplies_bf16
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.native import Unavailable
from ppcls_lite.optimizer.ema import Ema, ema_decay
from ppcls_lite.optimizer.optimizers import build_optimizer, load_named_state
from ppcls_lite.slim.fpgm import prune
from ppcls_lite.slim.network import network_of
from ppcls_lite.weights.load import LoadReport, load_weights


def build_run(resolved: Resolved, world: World) -> Run:
    """Returns the run that the settings ask for, whole; its folder is ready, nothing is trained.

    Raises:
        UserError: data, weights, the checkpoint or the teacher do not go with the settings.
    """
    config, before = resolved.config, resolved.checkpoint
    sets = open_sets(config, *((before.info, str(before.path)) if before else ()))
    whole = describe_model(config, sets.train, resolved.start)
    checkpoint, progress, remarks = find_place(resolved, sets, whole, world)
    if world.ranks:
        same = agreement.found(sets, progress, whole, checkpoint)
        world.agree(same, agreement.SAME_DATA)
    teacher = find_teacher(resolved, whole, world, sets)
    model, info, loaded = build_network(resolved, whole, world, sets)
    learning = [model, *([teacher.model] if isinstance(teacher, MutualStudent) else [])]
    check_norms(learning, config.train_crop_size, min(config.batch_size, len(sets.train)))
    model, optimizer, scaler = build_optimizers(model, resolved, world)
    parallel, kernels = training_model(model, config, world)

    log = open_log(resolved, world, sets, checkpoint)
    stop = StopRequest()
    return Run(
        config=config,
        info=info,
        whole=whole,
        model=model,
        loaded=loaded,
        parallel=parallel,
        kernels=kernels,
        optimizer=optimizer,
        scaler=scaler,
        ema=build_ema(model, config, checkpoint, world),
        teacher=teacher,
        remarks=remarks,
        loader=train_loader(
            sets.train, config, info.preprocess, resolved.seed, world.rank, world.size,
            watch_of(config, world, log, stop), cache_of(sets.train, config),
        ),
        evaluate=build_evaluation(
            model, sets.val, info, config, world, log, stop, parallel, cache_of(sets.val, config)
        ),
        progress=progress,
        world=world,
        log=log,
        stop=stop,
        folder=Path(config.output_dir),
        resumed_from=checkpoint.path if checkpoint else None,
        description=plan.description(resolved.asked or config),
        balance=balance(config, sets.train.labels, info.num_classes),
        save_every=SaveEvery(config.save_every),
    )  # fmt: skip


def open_log(resolved: Resolved, world: World, sets: Sets, checkpoint: Checkpoint | None) -> RunLog:
    """Makes the run's folder ready, unless it is a dry run, and returns what writes to it."""
    config, folder = resolved.config, Path(resolved.config.output_dir)
    wait_for_all(world)  # another rank may still read weights that are moved now
    if world.is_main and not config.dry_run:
        plan.prepare_folder(folder, resolved.asked or config, checkpoint)
        sets.keep_split(folder)
    track = tracker(config.track, config) if config.track else None
    return RunLog(None if config.dry_run else folder, world.is_main, config.visualdl, track)


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
        "same_padding": config.same_padding or None,
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
            fit=config.fit,
            mean=config.mean or before.mean,
            std=config.std or before.std,
        ),
        quant_skip=config.quant_skip if config.pact_quant else None,
        multi_label=data.labels.ndim == 2,
    )


def find_teacher(
    resolved: Resolved, student: ModelInfo, world: World, sets: Sets
) -> Teacher | MutualStudent | None:
    """Returns what the network learns from beside the labels, if anything."""
    config, checkpoint = resolved.config, resolved.checkpoint
    if config.teacher and config.distill_loss == "dml":
        state = checkpoint.mutual if checkpoint else {}
        return build_mutual(config, student, resolved.seed, world, state)
    if config.teacher and config.teacher_pretrained:
        pictures = sets.train.class_set("train").pictures
        return build_teacher(
            config.teacher, config.teacher_pretrained, student, config, world, pictures
        )
    return None


def build_network(
    resolved: Resolved, info: ModelInfo, world: World, sets: Sets | None = None
) -> tuple[nn.Layer, ModelInfo, LoadReport]:
    """Returns the network with its weights, its description, which is another one when filters were
    pruned, and what was loaded. Of a trained last layer the rows of the classes of `sets` are taken
    over; weights without batch norm's statistics get those of its pictures."""
    config, checkpoint = resolved.config, resolved.checkpoint
    paddle.seed(resolved.seed)  # of the initial weights
    model = network_of(info)
    if config.zero_gamma:
        set_zero_gamma(model)
    report = LoadReport((), tuple(model.state_dict()))
    if checkpoint:
        report = load_weights(model, checkpoint.trained)
    elif resolved.weights and not resolved.weights.absent:
        rows, words = None, ""
        if sets and resolved.start:
            rows, words = head_rows(resolved.start, sets.classes, info.num_classes)
        report = load_weights(model, resolved.weights, replace_head=True, rows=rows)
        if report.reinitialised:
            words = ""  # of rows of a layer that is not there
        if sets:
            words += unfold_norms(model, sets.train, info.preprocess)
            if config.fit_head and not config.dry_run:
                fitted = fit_head(model, sets.train, info.preprocess, config, world.device)
                words += fitted.words
                report = dataclasses.replace(report, reinitialised=(), answers=fitted.answers)
        report = dataclasses.replace(report, choice=report.choice + words)
    if config.fpgm_ratio and not checkpoint:
        model, info = prune(model, info, config.fpgm_ratio)
    set_drop_path(model, config.drop_path)
    if config.bn_momentum is not None:
        set_bn_momentum(model, config.bn_momentum)
    if config.sync_bn:
        if world.device == "cpu":
            raise UserError(
                "--sync-bn: paddle has no synchronised batch norm on a CPU", "leave it out"
            )
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return model, info, report


def build_optimizers(
    model: nn.Layer, resolved: Resolved, world: World
) -> tuple[nn.Layer, paddle.optimizer.Optimizer, paddle.amp.GradScaler]:
    """Returns the optimizer and the loss scaler, where the resumed run has left them, and the
    network in the precision that they train."""
    config, checkpoint = resolved.config, resolved.checkpoint
    freeze(model, config)
    optimizer = build_optimizer(model, config)
    amp = config.amp_level != "O0" and world.device == "gpu"
    if amp and config.amp_level == "O2":
        model, optimizer = paddle.amp.decorate(
            model, optimizer, level="O2", master_weight=True, save_dtype="float32"
        )
    scale = 0.0
    if checkpoint:
        load_named_state(optimizer, model, checkpoint.accumulators)
        scale = checkpoint.progress.loss_scale
    return model, optimizer, paddle.amp.GradScaler(amp, scale or 1024.0)  # Step6's


def training_model(model: nn.Layer, config: TrainConfig, world: World) -> tuple[nn.Layer, str]:
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
            bf16 = config.cpu_kernels == "bf16" or (config.amp_level != "O0" and multiplies_bf16())
            trained = accelerate(model, Kernels(threads, bf16))
            words = f"{trained.summary()}; {threads} threads{bf16_words(bf16)}"
    except Unavailable as reason:
        if config.cpu_kernels in ("on", "bf16"):
            raise UserError(
                f"--cpu-kernels {config.cpu_kernels}: the kernels cannot run: {reason}",
                "leave it out: Paddle's own layers train the same model, slower on a CPU",
            ) from None
        words = f"none, Paddle's own layers: {reason}"
    if config.to_static:
        # to_static replaces `forward` of the layer it is given: give it one of our own.
        trained = paddle.jit.to_static(nn.Sequential(model), full_graph=True)
    if world.size > 1 and world.device == "gpu":
        return paddle.DataParallel(trained), words
    share_weights(model, world)
    return trained, words


def build_ema(
    model: nn.Layer, config: TrainConfig, checkpoint: Checkpoint | None, world: World
) -> Ema | None:
    """Returns the moving average that the settings ask for, where the resumed run has left it."""
    if not config.model_ema:
        return None
    updates = checkpoint.progress.ema_updates if checkpoint else 0
    ema = Ema(model, ema_decay(config, effective_batch(config, world)), updates)
    if checkpoint:
        for name, tensor in ema.average.items():
            tensor.set_value(checkpoint.params[name])
    return ema
