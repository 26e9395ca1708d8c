"""`train.py`: turns settings into a run, then trains or evaluates it."""

import time
from contextlib import closing

from ppcls_lite.commands.folds import run_all, runs_all
from ppcls_lite.engine import agreement, plan
from ppcls_lite.engine.build import build_run
from ppcls_lite.engine.distributed import World, accounted, pick_device, start_world
from ppcls_lite.engine.finish import finish_best
from ppcls_lite.engine.lock import locked
from ppcls_lite.engine.resolve import resolve, run_folder
from ppcls_lite.engine.run import Diverged, Run
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.engine.signals import Stopped
from ppcls_lite.engine.train import fit
from ppcls_lite.program import command


def run(config: TrainConfig) -> int:
    """Trains; returns the exit status. With `test_only` it is `validate` that runs."""
    return run_all(config, run_one) if runs_all(config) else run_one(config)


def run_one(config: TrainConfig) -> int:
    """Trains once; returns the exit status."""
    world = start_world(pick_device(config.device, config.use_gpu), config.rank_timeout)
    with accounted(world):
        world.agree(agreement.given(config) if world.ranks else {}, agreement.SAME_SETTINGS)
        if config.dry_run:
            return dry_run(config, world)
        with locked(run_folder(config), world), closing(planned_run(config, world)) as run:
            return fit_and_report(run)


def planned_run(config: TrainConfig, world: World) -> Run:
    """Returns the run that the settings ask for, after printing its plan."""
    begin = time.perf_counter()
    run = build_run(resolve(config, world), world)
    run.loader.start()  # which takes as long as the plan, on another core
    for line in plan.lines(run):
        run.log.line(line)
    run.progress.setup += time.perf_counter() - begin
    return run


def dry_run(config: TrainConfig, world: World) -> int:
    """Takes a real step or two and says what an epoch will take; returns the exit status."""
    with closing(planned_run(config, world)) as run:
        run.stop.restore()  # there is nothing to save
        for line in plan.dry_run(run):
            run.log.line(line)
    return 0


def fit_and_report(run: Run) -> int:
    """Fits, then says how to go on, whatever the end was; returns the exit status."""
    latest = run.folder / "latest.pdparams"
    again = command("train", "--resume", latest)
    if 0 < (epochs := run.config.epochs) <= run.progress.epoch:  # 0 only fits the last layer
        run.log.line(
            f"all {epochs} epochs are done, nothing is left to train"
            f"\n  next: {again} --epochs {epochs + 1}"
        )
    try:
        best = fit(run)
    except Stopped as stopped:
        run.world.farewell(f"stopped by {stopped}", stopped.exit_status)
        run.log.line(f"stopped by {stopped}; saved {latest}\n  next: {again}")
        return stopped.exit_status
    except Diverged as diverged:
        run.world.farewell(str(diverged), 1)
        lower = f"--lr {run.config.lr / 10:g}"
        kept = f"; {latest} is kept, from before" * latest.is_file()
        run.log.line(
            f"stopped: {diverged}. The learning rate {run.config.lr:g} is too high for this"
            f" data{kept}"
            f"\n  next: {again if latest.is_file() else 'run the same command with'} {lower}"
            "  # or --lr-warmup-epochs 5, or --clip-grad-norm 1"
        )
        return 1
    finally:
        for path, cause in (run.loader.broken | run.evaluate.loader.broken).items():
            run.log.line(f"skipped broken image {path}: {cause}")
    weights = run.folder / "best.pdparams"
    for line in finish_best(run, weights):
        run.log.line(line)
    predict = command("predict", "--pretrained", weights, "--img-path", "IMAGE")
    export = command("export", "--pretrained", weights, "--save-inference-dir", "inference")
    run.log.line(
        f"best val {run.score_name} {abs(best):.4f}: {weights}"
        f"\n  next: {predict}\n        {export}"
        f"\n        {command('report', '--run', run.folder)}"
    )
    if run.config.report and run.world.is_main:
        from ppcls_lite.commands.report import report_on  # loads matplotlib

        run.log.line(report_on(run.folder))
    return 0
