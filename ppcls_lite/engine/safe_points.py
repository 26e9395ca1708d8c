"""Places in a training that it can be gone on from, beside the ends of its epochs."""

import time

import paddle

from ppcls_lite.engine.checkpoint import Progress


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
        self._kept = []
        if size > 1:
            values = [v for m in models for v in m.state_dict().values() if v.stop_gradient]
            self._kept = [(value, value.clone()) for value in values]

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
