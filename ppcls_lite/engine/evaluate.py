"""Evaluation: exact counts over the whole set, whatever the batch size and number of processes.

On a CPU the pictures go through what trains the network, our kernels, or through its own exported
graph: both are several times as fast as dygraph.
"""

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import paddle

from ppcls_lite.config import Tta
from ppcls_lite.data.cache import PictureCache, open_cache
from ppcls_lite.data.image_dataset import ImageDataset
from ppcls_lite.data.loader import Loader, check_hint
from ppcls_lite.data.settings import BatchSettings
from ppcls_lite.data.watch import Watch
from ppcls_lite.engine.counts import Counts, counts
from ppcls_lite.engine.distributed import World, sum_over_ranks
from ppcls_lite.engine.log import RunLog
from ppcls_lite.engine.settings import EvaluationSettings, TrainConfig
from ppcls_lite.engine.signals import StopRequest
from ppcls_lite.environment import set_threads
from ppcls_lite.errors import UserError
from ppcls_lite.graph import StaticGraph
from ppcls_lite.kernels.accelerate import AcceleratedModel
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.runtimes import PaddleInferenceRuntime, with_flips

# float32 [N, 3, H, W] -> logits float32 [N, K]
Forward = Callable[[np.ndarray], np.ndarray]

# Exporting takes as long as dygraph does for this many pictures at 224 pixels.
FEWEST = 100
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


def kernel_forward(accelerated: AcceleratedModel) -> Forward:
    """Returns what trains a network as what evaluates it: the same to 1e-6 of the logits' scale."""

    def forward(images: np.ndarray) -> np.ndarray:
        accelerated.model.eval()
        with paddle.no_grad():
            return accelerated.run(paddle.to_tensor(images)).numpy()

    return forward


def exported_forward(graph: StaticGraph) -> Forward:
    """Returns the network as it stands now, as Paddle Inference runs it."""
    with tempfile.TemporaryDirectory(prefix="ppcls-eval-") as folder:
        reserve(Path(folder), graph.size)
        prefix = Path(folder) / "inference"
        graph.save(prefix)
        # Under FLAGS_enable_pir_api=0, which old chains set, Paddle writes the other format.
        files = [
            f for f in (prefix.with_suffix(".json"), prefix.with_suffix(".pdmodel")) if f.exists()
        ]
        runtime = PaddleInferenceRuntime(files[0])  # reads all of it

    def forward(images: np.ndarray) -> np.ndarray:
        try:
            return runtime(images)
        finally:
            set_threads()  # a run of Paddle Inference changes them

    return forward


def reserve(folder: Path, size: int) -> None:
    """Raises OSError unless a folder has room for so many bytes: Paddle writes what fits."""
    probe, left = folder / "room", shutil.disk_usage(folder).free
    try:
        with probe.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        need = f"{size / 1e6:.1f} MB are needed, {left / 1e6:.1f} MB are left"
        raise OSError(error.errno, f"{error.strerror} ({need})", str(folder)) from error
    finally:
        probe.unlink(missing_ok=True)


def exported_or(reference: Forward, graph: StaticGraph, log: RunLog) -> Forward:
    """Returns the exported network, or `reference` where it cannot be written or read back."""
    try:
        return checked(exported_forward(graph), reference, log)
    except (OSError, UserError) as error:
        where = tempfile.gettempdir() if isinstance(error, UserError) else error.filename
        why = error.message if isinstance(error, UserError) else error.strerror
        log.line(
            f"Test: the exported graph cannot be written to {where} and read back: {why};"
            " evaluating with dygraph"
        )
        return reference


def checked(
    fast: Forward, reference: Forward, log: RunLog, name: str = "the exported graph"
) -> Forward:
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
                    f"Test: {name} differs from dygraph by {difference:.1e} of the logits' scale"
                    f" (allowed {AGREEMENT:.0e}); evaluating with dygraph"
                )
            chosen.append(fast if agrees else reference)
        return chosen[0](images)

    return forward


@dataclass(frozen=True)
class Evaluation:
    """Counts hits of a live network over a loader, as often as it is called.

    Attributes:
        loader: the validation batches of this process, every picture once over all processes.
        info: the network, with the preprocessing of its pictures.
        dygraph: its own forward pass, or whatever runs it.
        kernels: the forward pass in our kernels, where they do the work.
        graph: what to export of it each time, where its graph does the work.
        print_freq: batches between two lines.
        stop: asks for a stop, if anybody may.
        tta: flip: logits are means over a picture and its mirror image.
    """

    loader: Loader
    info: ModelInfo
    world: World
    log: RunLog
    dygraph: Forward
    kernels: Forward | None
    graph: StaticGraph | None
    print_freq: int
    stop: StopRequest | None
    tta: Tta = "none"

    def __call__(self, details: Callable[[Counts], Iterable[str]] = lambda _: ()) -> Counts:
        """Runs the validation set through the network as it stands and counts.

        Prints Step6's lines: median (mean) of the window, then the totals.

        Args:
            details: lines to print before the totals, which scripts read as the last line.

        Raises:
            Stopped: a stop was asked for; counts so far are dropped.
            UserError: no picture can be read, or a broken one must not be skipped.
        """
        forward = self.dygraph
        if self.kernels is not None:
            forward = checked(self.kernels, self.dygraph, self.log, "the kernels' answer")
        elif self.graph is not None:
            forward = exported_or(self.dygraph, self.graph, self.log)
        forward = with_flips(forward) if self.tta == "flip" else forward
        accuracy, batches = counts(self.info), len(self.loader)
        windows: dict[str, list[float]] = {k: [] for k in (*accuracy.meters, "time", "data")}
        begin = last = time.perf_counter()
        with self.log.progress("Test", batches) as bar:
            for i, batch in enumerate(self.loader.epoch(0)):
                arrived = time.perf_counter()
                logits = forward(self.info.preprocess.normalize(batch.images))
                scores = accuracy.add(logits, batch.labels)
                now = time.perf_counter()
                for window, value in zip(
                    windows.values(), (*scores, now - last, arrived - last), strict=True
                ):
                    window.append(value)
                last = now
                if i % self.print_freq == 0:
                    left = (now - begin) / (i + 1) * (batches - i - 1)
                    self.log.line(self._line(i, left, windows, accuracy))
                bar(i + 1, f"Test  {accuracy.meters[1]} {accuracy.means[1]:.4f}")
                if self.stop and self.world.size == 1:
                    self.stop.check()
        world = self.world
        accuracy = accuracy.over_ranks(lambda x: sum_over_ranks(x, world), world.rank, world.size)
        if not accuracy.count:
            raise UserError(
                f"none of the {len(self.loader.dataset)} validation images can be read",
                check_hint(),
            )
        self.log.line(f"Test: Total time: {timedelta(seconds=int(time.perf_counter() - begin))}")
        for line in details(accuracy) if world.is_main else ():
            self.log.line(line)
        self.log.line(accuracy.totals)
        return accuracy

    def _line(
        self, i: int, seconds_left: float, windows: dict[str, list[float]], accuracy: Counts
    ) -> str:
        batches = len(self.loader)
        recent = {k: statistics.median(values[-self.print_freq :]) for k, values in windows.items()}
        means = dict(zip(accuracy.meters, accuracy.means, strict=True))
        meters = [f"{key}: {recent[key]:.4f} ({means[key]:.4f})" for key in means]
        meters += [f"{key}: {recent[key]:.4f}" for key in ("time", "data")]
        eta = timedelta(seconds=int(seconds_left))
        return "  ".join([f"Test:  [{i:>{len(str(batches))}}/{batches}]", f"eta: {eta}", *meters])


def watch_of(config: BatchSettings, world: World, log: RunLog, stop: StopRequest | None) -> Watch:
    """Returns what a loader of the run does while it waits.

    Of several processes one cannot leave alone: there a stop waits for the step.
    """
    check = {"check_stop": stop.check} if stop and world.size == 1 else {}
    return Watch(config.picture_timeout, say=log.line, **check)


def cache_of(data: ImageDataset, config: TrainConfig) -> PictureCache | None:
    """Returns where a run keeps the decoded pictures of a data set; a dry run keeps none."""
    if config.cache == "off" or config.dry_run:
        return None
    return open_cache(config.cache, map(data.source, range(len(data))), Path(config.output_dir))


def build_evaluation(
    network: paddle.nn.Layer | Forward,
    data: ImageDataset,
    info: ModelInfo,
    config: EvaluationSettings,
    world: World,
    log: RunLog,
    stop: StopRequest | None = None,
    trained: paddle.nn.Layer | None = None,
    cache: PictureCache | None = None,
    tta: Tta = "none",
) -> Evaluation:
    """Returns the evaluation of a network on validation pictures, which may be in a cache.

    A layer is run by the engine that the settings ask for; a function runs itself.

    Args:
        trained: what trains or would train it. Where that is our kernels, `auto` takes them: unlike
            an exported graph they cost nothing to begin with, and no memory (`create_predictor` of
            Paddle 3.3.1 keeps 0.25 MB a call). Not with bfloat16, which changes answers.
    """
    is_layer = isinstance(network, paddle.nn.Layer)
    engine, kernels = config.eval_engine, None
    if engine == "auto" and isinstance(trained, AcceleratedModel) and not trained.kernels.bf16:
        kernels = kernel_forward(trained)
        engine = "dygraph"
    if engine == "auto":
        # Paddle Inference is slower than dygraph with the rounding of a quantized network.
        large = len(data) >= FEWEST and info.quant_skip is None
        engine = "exported" if large else "dygraph"
    exported = is_layer and world.device == "cpu" and engine == "exported"
    loader = Loader(
        data,
        info.preprocess,
        config.batch_size,
        training=False,
        workers=config.workers,
        rank=world.rank,
        world_size=world.size,
        on_error=config.on_error,
        watch=watch_of(config, world, log, stop),
        cache=cache,
    )
    return Evaluation(
        loader=loader,
        info=info,
        world=world,
        log=log,
        dygraph=dygraph_forward(network) if is_layer else network,
        kernels=kernels,
        graph=StaticGraph(network, info.preprocess.crop_size) if exported else None,
        print_freq=10 * config.print_freq,
        stop=stop,
        tta=tta,
    )
