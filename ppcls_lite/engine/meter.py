"""Loss, accuracy and speed between two log lines."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import numpy as np
import paddle

from ppcls_lite.engine.counts import counts
from ppcls_lite.engine.length import total_epochs
from ppcls_lite.engine.log import Bar
from ppcls_lite.engine.run import Diverged, Run
from ppcls_lite.metric import Accuracy

# Answers of 16 batches of 256 pictures and 1,000 classes; of more classes, of fewer pictures.
LIMIT = 16 * 256 * 1000 * 4  # bytes


class LogMeter:
    """What happened since the last log line of an epoch.

    Losses and logits stay on the device until the line is due, or until they fill LIMIT: reading
    them at every step would make a GPU wait.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._last = time.perf_counter()
        self.epoch = counts(run.info)  # over all windows
        self._clear()

    def _clear(self) -> None:
        self._losses: list[paddle.Tensor] = []
        self._answers: list[tuple[paddle.Tensor, np.ndarray]] = []
        self._accuracy = counts(self._run.info)
        self._pictures = 0
        self._reader_cost = 0.0
        self._begin = self._last

    def batch_arrived(self) -> None:
        """Marks the moment the loader gave a batch."""
        self._reader_cost += time.perf_counter() - self._last

    def add(self, loss: paddle.Tensor, logits: paddle.Tensor, labels: np.ndarray) -> None:
        """Takes in a finished batch: loss 0-D, logits [N, K], labels int64 [N] or uint8 [N, K]."""
        self._losses.append(loss.detach())
        self._answers.append((logits.detach(), labels))
        self._pictures += len(labels)
        if 4 * logits.size * len(self._answers) >= LIMIT:
            self._count()
        self._last = time.perf_counter()

    def _count(self) -> None:
        for logits, labels in self._answers:
            answers = logits.astype("float32").numpy()
            if labels.ndim == 2:
                self._accuracy.add(answers, labels)
            elif (known := labels >= 0).any():
                self._accuracy.add(answers[known], labels[known])
        self._answers.clear()

    @contextmanager
    def shown_at_end(self, bar: Bar) -> Iterator[None]:
        """Flushes what is left, however the inside ends: a loss that is no number is found there,
        before the weights that gave it are saved."""
        try:
            yield
        finally:
            self.flush(bar)

    def flush(self, bar: Bar) -> None:
        """Prints and records its means, and starts the next one.

        Raises:
            Diverged: the loss is NaN or infinite.
        """
        run, progress = self._run, self._run.progress
        if not self._losses:
            return
        loss = float(np.mean([x.item() for x in self._losses]))
        self._count()
        accuracy, batches, pictures = self._accuracy, len(self._losses), self._pictures
        self.epoch.count += accuracy.count
        if isinstance(self.epoch, Accuracy) and isinstance(accuracy, Accuracy):
            self.epoch.top1_hits += accuracy.top1_hits
        shares = accuracy.running
        seconds = time.perf_counter() - self._begin
        values = {
            "loss": loss,
            **shares,
            "lr": run.optimizer.get_lr(),
            "reader_cost": self._reader_cost / batches,
            "batch_cost": seconds / batches,
            "ips": pictures / seconds,
        }
        if not math.isfinite(loss):
            raise Diverged(f"loss {loss} in epoch {progress.epoch}, batch {progress.batch}")
        to_do = (
            len(run.loader) * (total_epochs(run.config, progress) - progress.epoch) - progress.batch
        )
        run.log.line(
            f"[Epoch {progress.epoch}, iter: {progress.batch - 1}]"
            f" {', '.join(f'{k}: {v:.5f}' for k, v in shares.items())}, lr: {values['lr']:.5f},"
            f" loss: {loss:.5f}, avg_reader_cost: {values['reader_cost']:.5f} sec,"
            f" avg_batch_cost: {values['batch_cost']:.5f} sec,"
            f" avg_samples: {pictures / batches}, avg_ips: {values['ips']:.5f} images/sec."
            f" eta: {timedelta(seconds=int(to_do * values['batch_cost']))}"
        )
        run.log.record(
            "train", progress.step, {"epoch": progress.epoch, "batch": progress.batch} | values
        )
        name, share = next(iter(shares.items()))
        bar(progress.batch, f"Epoch {progress.epoch}  loss {loss:.3f}  {name} {share:.3f}")
        self._clear()
