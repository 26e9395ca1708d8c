"""Evaluating a live network, on a CPU through its own exported graph."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import paddle

from ppcls_lite.data.dataset import ImageDataset
from ppcls_lite.data.loader import Loader
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.data.settings import BatchSettings
from ppcls_lite.engine.distributed import World
from ppcls_lite.engine.evaluate import checked, dygraph_forward, evaluate
from ppcls_lite.engine.log import RunLog
from ppcls_lite.engine.settings import EvaluationSettings
from ppcls_lite.engine.signals import StopRequest
from ppcls_lite.environment import set_threads
from ppcls_lite.graph import StaticGraph
from ppcls_lite.metric import Accuracy
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.runtimes import PaddleInferenceRuntime

# Exporting takes as long as dygraph does for this many pictures at 224 pixels.
FEWEST = 100


@contextmanager
def exported_forward(graph: StaticGraph) -> Iterator[Callable[[np.ndarray], np.ndarray]]:
    """Saves a network as it stands to a temporary folder and gives the file as a function."""
    with tempfile.TemporaryDirectory(prefix="ppcls-eval-") as folder:
        prefix = Path(folder) / "inference"
        graph.save(prefix)
        # Under FLAGS_enable_pir_api=0, which old chains set, Paddle writes the other format.
        files = [
            f for f in (prefix.with_suffix(".json"), prefix.with_suffix(".pdmodel")) if f.exists()
        ]
        try:
            yield PaddleInferenceRuntime(files[0])
        finally:
            set_threads()  # an inference run changes them


def eval_loader(
    data: ImageDataset, preprocess: Preprocess, config: BatchSettings, world: World
) -> Loader:
    """Returns the validation batches of this process, every picture once over all processes."""
    return Loader(
        data,
        preprocess,
        config.batch_size,
        training=False,
        workers=config.workers,
        rank=world.rank,
        world_size=world.size,
        on_error=config.on_error,
    )


class Evaluation:
    """Counts hits of a live network over a loader, as often as it is called.

    On a CPU the pictures go through the exported graph, which is several times as fast as dygraph;
    workers decode the next ones meanwhile.
    """

    def __init__(
        self,
        model: paddle.nn.Layer,
        loader: Loader,
        info: ModelInfo,
        config: EvaluationSettings,
        world: World,
        log: RunLog,
        stop: StopRequest | None,
    ) -> None:
        self._arguments = (loader, info.preprocess, info.num_classes, world, log)
        self._more = (10 * config.print_freq, stop)
        self._log = log
        self._dygraph = dygraph_forward(model)
        engine = config.eval_engine
        if engine == "auto":
            # Paddle Inference is slower than dygraph with the rounding of a quantized network.
            large = len(loader.dataset) >= FEWEST and info.quant_skip is None
            engine = "exported" if large else "dygraph"
        self._graph: StaticGraph | None = None
        if world.device == "cpu" and engine == "exported":
            self._graph = StaticGraph(model, info.preprocess.crop_size)

    def __call__(self) -> Accuracy:
        """Evaluates the network as it stands.

        Raises:
            Stopped: a stop was asked for; counts so far are dropped.
        """
        if self._graph is None:
            return evaluate(self._dygraph, *self._arguments, *self._more)
        with exported_forward(self._graph) as fast:
            forward = checked(fast, self._dygraph, self._log)
            return evaluate(forward, *self._arguments, *self._more)
