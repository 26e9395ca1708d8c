"""`train.py`: turns settings into a run, then trains or evaluates it."""

import dataclasses
from pathlib import Path

from ppcls_lite.data.dataset import ImageDataset, check_same_classes
from ppcls_lite.data.loader import Loader
from ppcls_lite.data.named import open_train, open_val
from ppcls_lite.data.unlabelled import WithUnlabelled
from ppcls_lite.engine import checkpoint, plan
from ppcls_lite.engine.build import (
    build_ema,
    build_network,
    common_seed,
    describe_model,
    train_loader,
    training_model,
    with_network_of,
)
from ppcls_lite.engine.checkpoint import Checkpoint, Progress
from ppcls_lite.engine.distributed import (
    World,
    pick_device,
    start_world,
    wait_for_all,
)
from ppcls_lite.engine.evaluation import Evaluation, eval_loader
from ppcls_lite.engine.log import RunLog
from ppcls_lite.engine.open_teacher import open_teacher
from ppcls_lite.engine.peer import build_peer
from ppcls_lite.engine.resume import (
    check_same_layout,
    check_same_model,
    epoch_layout,
    resume,
)
from ppcls_lite.engine.run import Diverged, Run
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.engine.signals import Stopped, StopRequest
from ppcls_lite.engine.teacher import Teacher, check_same_outputs
from ppcls_lite.engine.train import fit
from ppcls_lite.files import write_atomically
from ppcls_lite.program import command
from ppcls_lite.slim import fpgm
from ppcls_lite.yaml_files import to_yaml


def run(config: TrainConfig) -> int:
    """Trains; returns the exit status. With `test_only` it is `validate` that runs."""
    world = start_world(pick_device(config.device, config.use_gpu))
    config, resumed = resume(config, world)
    with open_teacher(config, world) as teacher:
        return train(config, resumed, world, teacher)


def open_sets(config: TrainConfig) -> tuple[ImageDataset, ImageDataset]:
    """Returns the pictures to train on, unlabelled ones at their end, and those to validate on."""
    train_set, val_set = open_train(config, config.dry_run), open_val(config, config.dry_run)
    check_same_classes(train_set.classes, val_set.classes)
    if config.unlabelled_path:
        train_set = WithUnlabelled(train_set, config.unlabelled_path)
    return train_set, val_set


def train(
    config: TrainConfig, resumed: Checkpoint | None, world: World, teacher: Teacher | None
) -> int:
    """Builds everything, prints the plan and fits; returns the exit status."""
    train_set, val_set = open_sets(config)
    start = resumed.info if resumed else None
    if config.pretrained and not resumed:
        config, start = with_network_of(config)
    info = describe_model(config, train_set, start)
    if teacher:
        check_same_outputs(teacher.info, info)
    layout = epoch_layout(config, len(train_set), world)
    if resumed:
        check_same_model(resumed, info)
        check_same_layout(resumed, layout)
    elif config.seed is None:
        config = dataclasses.replace(config, seed=common_seed(world))
    progress = resumed.progress if resumed else Progress(config.start_epoch, seed=config.seed or 0)
    progress.layout = layout
    whole = info
    model, info, optimizer, scaler, report = build_network(config, info, resumed, progress, world)

    folder = Path(config.output_dir)
    wait_for_all(world)  # another rank may still read weights that are moved now
    if world.is_main and not config.dry_run:
        folder.mkdir(parents=True, exist_ok=True)
        plan.make_room(folder, resumed)
    log = RunLog(None if config.dry_run else folder, world.is_main, config.visualdl)
    stop = StopRequest()
    val_loader = eval_loader(val_set, info.preprocess, config, world)
    parallel, kernels = training_model(model, config, world)
    run = Run(
        config=config,
        info=info,
        model=model,
        parallel=parallel,
        kernels=kernels,
        optimizer=optimizer,
        scaler=scaler,
        loader=train_loader(train_set, config, info.preprocess, progress.seed, world),
        evaluate=Evaluation(model, val_loader, info, config, world, log, stop),
        progress=progress,
        world=world,
        log=log,
        stop=stop,
        folder=folder,
        resumed_from=resumed.path if resumed else None,
        description=plan.description(config),
    )
    run.teacher = teacher or build_peer(
        config, info, progress.seed, world, resumed.peer if resumed else {}
    )
    run.ema = build_ema(model, config, resumed, run.effective_batch)
    for line in plan.lines(run, len(val_set), report):
        log.line(line)
    if info != whole:
        for line in fpgm.report(whole, info, config.train_crop_size):
            log.line(line)
    try:
        return dry_run_or_fit(run, resumed, val_loader)
    finally:
        run.loader.close()
        val_loader.close()
        log.close()


def dry_run_or_fit(run: Run, resumed: Checkpoint | None, val_loader: Loader) -> int:
    """Takes the steps of a dry run, or keeps the settings and fits; returns the exit status."""
    if run.config.dry_run:
        run.stop.restore()  # there is nothing to save
        for line in plan.dry_run(run):
            run.log.line(line)
        return 0
    if run.world.is_main:
        if not resumed or not (run.folder / "config.yaml").is_file():
            write_atomically(run.folder / "config.yaml", to_yaml(run.config).encode())
        if resumed and resumed.metrics.get("top1") == run.progress.best_top1:
            # A kill between saving the best epoch and naming it so must not lose the name.
            checkpoint.link_checkpoint(resumed.path, run.folder / "best.pdparams")
    return fit_and_report(run, val_loader)


def fit_and_report(run: Run, val_loader: Loader) -> int:
    """Fits, then says how to go on, whatever the end was; returns the exit status."""
    latest = run.folder / "latest.pdparams"
    again = command("train", "--resume", latest)
    try:
        best = fit(run)
    except Stopped as stopped:
        run.log.line(f"stopped by {stopped}; saved {latest}\n  next: {again}")
        return stopped.exit_status
    except Diverged as diverged:
        lower = f"--lr {run.config.lr / 10:g}"
        run.log.line(
            f"stopped: {diverged}. The learning rate {run.config.lr:g} is too high for this data"
            f"\n  next: {lower}, or --lr-warmup-epochs 5, or --clip-grad-norm 1"
        )
        if latest.is_file():
            run.log.line(f"  the last good checkpoint is kept: {again} {lower}")
        return 1
    finally:
        for path, cause in (run.loader.broken | val_loader.broken).items():
            run.log.line(f"skipped broken picture {path}: {cause}")
    weights = run.folder / "best.pdparams"
    predict = command("predict", "--pretrained", weights, "--img-path", "PICTURE")
    export = command(
        "export", "--pretrained", weights, "--save-inference-dir", run.folder / "inference"
    )
    run.log.line(
        f"best val top1 {best:.4f}: {weights}\n  next: {predict}\n        {export}"
        f"\n        {command('plot_run', '--run', run.folder)}"
    )
    return 0
