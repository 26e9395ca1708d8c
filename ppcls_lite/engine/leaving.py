"""Every way out of a training: what of it is saved, and what is said about going on."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import paddle

from ppcls_lite.engine.checkpoint import Progress
from ppcls_lite.engine.signals import Stopped
from ppcls_lite.errors import UserError
from ppcls_lite.program import command

if TYPE_CHECKING:
    from ppcls_lite.engine.run import Run


class GroupStart:
    """The state before an accumulation group that is not finished: where to go back to.

    Batches of a group change the running statistics of batch norm before the optimizer steps. A run
    that is left in between (no more pictures, a stop while it waits for one) is saved as it stood
    before the group's first batch.
    """

    def __init__(self) -> None:
        self._batch = 0
        self._kept: list[tuple[paddle.Tensor, paddle.Tensor]] = []

    def begin(self, batch: int, size: int, *models: paddle.nn.Layer) -> None:
        """Notes that a group of `size` batches begins with `batch`."""
        self._batch = batch
        values = [v for m in models for v in m.state_dict().values() if v.stop_gradient]
        self._kept = [(value, value.clone()) for value in values] if size > 1 else []

    def go_back(self, progress: Progress) -> None:
        """Undoes the batches since the last step; call it when the epoch is not at its end."""
        for value, before in self._kept:
            value.set_value(before)
        if self._kept:
            progress.batch = self._batch


class SaveEvery:
    """When to save between the ends of epochs: every so many steps or minutes.

    Args:
        text: "500" is steps, "10m" minutes, None never.
    """

    def __init__(self, text: str | int | None = None) -> None:
        text = str(text or "")
        self._minutes = float(text[:-1]) if text.endswith("m") else 0.0
        self._steps = int(text) if text.isdecimal() else 0
        self._last = time.monotonic()

    def due(self, step: int) -> bool:
        """Tells whether to save now, after `step` optimizer steps in all."""
        if self._steps:
            return step % self._steps == 0
        if not self._minutes or time.monotonic() - self._last < 60 * self._minutes:
            return False
        self._last = time.monotonic()
        return True


@contextmanager
def saved(run: "Run", save: Callable[[Path], None]) -> Iterator[None]:
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


def report(run: "Run", save: Callable[[Path], None], quiet: bool) -> None:
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
