"""How many epochs a run has: those asked for, those that fit into a time, those that gain."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from ppcls_lite.engine.checkpoint import Progress
from ppcls_lite.engine.distributed import sum_over_ranks
from ppcls_lite.engine.run import Run
from ppcls_lite.engine.settings import TrainConfig


def total_epochs(config: TrainConfig, progress: Progress) -> int:
    """Returns the epochs of the run; with --epochs 0 one, which evaluates and saves."""
    return progress.epochs or max(config.epochs, 1)


def schedule_epoch(epochs_done: float, config: TrainConfig, progress: Progress) -> float:
    """Returns where the schedule of `epochs` stands, which is drawn together when fewer fit."""
    return epochs_done * config.epochs / progress.epochs if progress.epochs else epochs_done


def goes_on(run: Run) -> bool:
    """Tells whether another epoch is due; all that decides is in the checkpoint."""
    config, progress = run.config, run.progress
    waited = progress.epoch - 1 - progress.gain_epoch
    if config.early_stop and progress.gain_epoch >= 0 and waited >= config.early_stop:
        run.log.line(
            f"no better val {run.score_name} in {waited} epochs (--early-stop): the run ends here"
        )
        return False
    return progress.epoch < total_epochs(config, progress)


@contextmanager
def counted(progress: Progress) -> Iterator[None]:
    """Counts seconds that the command spends outside of its epochs."""
    start = time.perf_counter()
    yield
    progress.setup += time.perf_counter() - start


@contextmanager
def timed(progress: Progress) -> Iterator[Callable[[], float]]:
    """Gives the seconds of an epoch so far, those before a stop included, which are kept."""
    start = time.perf_counter() - progress.seconds
    try:
        yield lambda: time.perf_counter() - start
    except BaseException:
        progress.seconds = time.perf_counter() - start
        raise


def fix_length(run: Run, seconds: float, evaluation: float) -> None:
    """Fixes the number of epochs by what the first one took, once, the same on every rank.

    Args:
        seconds: of the first epoch, evaluation included, on this rank.
        evaluation: seconds of its evaluation; one more is left for what `best` gets at the end.
    """
    config, progress = run.config, run.progress
    if not config.max_minutes or progress.epochs:
        return
    finishing = evaluation if config.calibrate or config.unknown else 0.0
    here = np.array([seconds, progress.setup + finishing]) * run.world.is_main
    taken, beside = sum_over_ranks(here, run.world)
    fit = progress.epoch + int((60 * config.max_minutes - beside) / max(taken, 1e-9))
    progress.epochs = max(progress.epoch + 1, min(config.epochs, fit))
    run.log.line(
        f"[Epoch {progress.epoch}] took {taken:.1f} s, what comes before and after all epochs"
        f" {beside:.1f}: {progress.epochs} epochs in --max-minutes {config.max_minutes:g};"
        " the schedule is drawn together to fit"
    )
