"""Every way out of a training: what of it is saved, and what is said about going on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ppcls_lite.engine.run import Run
from ppcls_lite.engine.signals import Stopped
from ppcls_lite.errors import UserError
from ppcls_lite.program import command


@contextmanager
def saved(run: Run, save: Callable[[Path], None]) -> Iterator[None]:
    """Saves `latest` when a stop or a fault ends what is done inside, and says how to go on.

    Faults are raised between two steps: by the loader, by an evaluation, by a save. What Paddle
    raises inside of a step leaves weights of which nobody knows how far they are; then the
    checkpoint before is what there is. The same holds when the loss is no longer a number.
    """
    progress = run.progress
    try:
        yield
    except (Stopped, UserError, OSError) as reason:
        inside = progress.batch % run.config.gradient_accumulation_steps > 0
        if inside and progress.batch < len(run.loader):
            run.group.go_back(progress)
        if run.world.is_main:
            report(run, save, quiet=isinstance(reason, Stopped))
        raise


def report(run: Run, save: Callable[[Path], None], quiet: bool) -> None:
    """Saves, and says so unless `quiet`, or why it could not be done."""
    latest, at = run.folder / "latest.pdparams", run.progress
    again = command("train", "--resume", latest)
    try:
        save(latest)
    except OSError as error:
        older = f"\n  next: make room, then {again}" if latest.is_file() else ""
        kept = f"{latest} is kept as it was" if older else "nothing is saved"
        run.log.line(f"{latest} cannot be written: {error.strerror}; {kept}{older}")
        if quiet:
            raise
        return
    if not quiet:
        run.log.line(
            f"stopped by a fault in epoch {at.epoch}, after batch {at.batch} of {len(run.loader)};"
            f" saved {latest}\n  next: {again}"
        )
