"""Evaluation: exact counts over the whole set, whatever the batch size and number of processes."""

import statistics
import time
from collections.abc import Callable
from datetime import timedelta

import numpy as np
import paddle

from ppcls_lite.data.loader import Loader
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.engine.distributed import World, sum_over_ranks
from ppcls_lite.engine.log import RunLog
from ppcls_lite.engine.signals import Stopped, StopRequest
from ppcls_lite.metric import Accuracy

# float32 [N, 3, H, W] -> logits float32 [N, K]
Forward = Callable[[np.ndarray], np.ndarray]

# Two correct fp32 engines differ by rounding only: 1e-6 of the logits' scale is usual, 1e-4 is not.
AGREEMENT = 1e-4
COMPARED = 8  # pictures


def dygraph_forward(model: paddle.nn.Layer) -> Forward:
    """Returns the model's own forward in evaluation mode, as a function of arrays."""

    def forward(images: np.ndarray) -> np.ndarray:
        model.eval()
        with paddle.no_grad():
            return model(paddle.to_tensor(images)).astype("float32").numpy()

    return forward


def checked(fast: Forward, reference: Forward, log: RunLog) -> Forward:
    """Returns `fast`, held against `reference` on its first pictures and replaced if wrong."""
    chosen: list[Forward] = []

    def forward(images: np.ndarray) -> np.ndarray:
        if not chosen:
            expected = reference(images[:COMPARED])
            got = fast(images[:COMPARED])
            difference = np.abs(expected - got).max() / max(np.abs(expected).max(), 1e-12)
            agrees = bool(difference <= AGREEMENT)  # False for NaN
            if not agrees:
                log.line(
                    f"Test: the exported graph differs from dygraph by {difference:.1e} of the"
                    f" logits' scale (allowed {AGREEMENT:.0e}); evaluating with dygraph"
                )
            chosen.append(fast if agrees else reference)
        return chosen[0](images)

    return forward


def evaluate(
    forward: Forward,
    loader: Loader,
    preprocess: Preprocess,
    num_classes: int,
    world: World,
    log: RunLog,
    print_freq: int = 100,
    stop: StopRequest | None = None,
) -> Accuracy:
    """Runs the validation set through `forward` and counts.

    Prints document 002's lines: median (mean) of the window, then the totals.

    Raises:
        Stopped: a stop was asked for; counts so far are dropped.
    """
    accuracy = Accuracy(num_classes)
    width = len(str(len(loader)))
    windows: dict[str, list[float]] = {k: [] for k in ("loss", "acc1", "acc5", "time", "data")}
    begin = last = time.perf_counter()
    with log.progress("Test", len(loader)) as bar:
        for i, batch in enumerate(loader.epoch(0)):
            arrived = time.perf_counter()
            scores = accuracy.add(forward(preprocess.normalize(batch.images)), batch.labels)
            now = time.perf_counter()
            for window, value in zip(
                windows.values(), (*scores, now - last, arrived - last), strict=True
            ):
                window.append(value)
            last = now
            if i % print_freq == 0:
                left = (now - begin) / (i + 1) * (len(loader) - i - 1)
                log.line(_line(i, len(loader), width, left, windows, accuracy, print_freq))
            bar(i + 1, f"Test  acc1 {accuracy.top1:.4f}")
            if stop and stop.signal and world.size == 1:
                raise Stopped(stop.signal)
    total = accuracy.over_ranks(
        lambda counts: sum_over_ranks(counts, world), world.rank, world.size
    )
    log.line(f"Test: Total time: {timedelta(seconds=int(time.perf_counter() - begin))}")
    log.line(f" * Acc@1 {total.top1:.3f} Acc@5 {total.top5:.3f}")
    return total


def _line(
    i: int,
    batches: int,
    width: int,
    seconds_left: float,
    windows: dict[str, list[float]],
    accuracy: Accuracy,
    print_freq: int,
) -> str:
    recent = {key: statistics.median(values[-print_freq:]) for key, values in windows.items()}
    means = {"loss": accuracy.loss, "acc1": accuracy.top1, "acc5": accuracy.top5}
    meters = [f"{key}: {recent[key]:.4f} ({means[key]:.4f})" for key in means]
    meters += [f"{key}: {recent[key]:.4f}" for key in ("time", "data")]
    eta = timedelta(seconds=int(seconds_left))
    return "  ".join([f"Test:  [{i:>{width}}/{batches}]", f"eta: {eta}", *meters])
