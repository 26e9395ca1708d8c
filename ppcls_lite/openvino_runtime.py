"""OpenVINO behind the call of every engine, see `runtimes`."""

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np

from ppcls_lite.engines import check_bf16, import_engine, unreadable
from ppcls_lite.environment import cpu_cores
from ppcls_lite.errors import UserError
from ppcls_lite.pool import Pool

FIXED_BATCHES = 4  # batch sizes for which a runtime keeps a graph of its own
CACHED_GRAPHS = 64  # compiled graphs kept on disk, some 6 MB each


class OpenVinoRuntime:
    """OpenVINO on `.onnx` or `.pdmodel`, on the CPU.

    A batch size known when the graph is compiled makes it about a tenth faster (docs/int8.md),
    so each of the first sizes gets a graph of its own when it is first met, which takes about
    a second and 20 MB (mobilenet_v3_small at 192 pixels); further sizes share one for all.

    An inference request of OpenVINO's refuses a second thread while it is busy: each run has one
    for itself, as many as runs meet, at most one per core.

    Args:
        path: the model file.
        device: auto or cpu.
        precision: f32, or bf16 on a CPU that computes with it.
        cache: folder for compiled graphs, which halves the time of the next start; None: none.

    Raises:
        UserError: OpenVINO is missing or cannot read the file; a GPU is asked for; no bf16 here.
    """

    def __init__(
        self, path: Path, device: str = "cpu", precision: str = "f32", cache: Path | None = None
    ) -> None:
        openvino = import_engine("openvino", "openvino")
        if device == "gpu":
            raise UserError("OpenVINO runs on the CPU here; allowed: --device cpu or auto")
        if precision == "bf16":
            check_bf16()
        self._options = {
            # Left alone it takes bf16 wherever the CPU has it, with other answers.
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": cpu_cores(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        if cache is not None and _usable_cache(cache):
            self._options["CACHE_DIR"] = str(cache)
        self._core = openvino.Core()
        try:
            self._model = self._core.read_model(str(path))
            shape = self._model.input(0).partial_shape
            batch, height = shape[0], shape[2]
            self.batch: int | None = batch.get_length() if batch.is_static else None
            self.image_size: int | None = height.get_length() if height.is_static else None
            self._requests: dict[int | None, Pool[Any]] = {}
            self._compiling = threading.Lock()
            self._requests_of(self.batch or 1)  # says now whether it can be run at all
        except RuntimeError as error:
            raise unreadable(path, "OpenVINO", error) from error
        self.input_name: str = self._model.input(0).any_name
        self.output_name: str = self._model.output(0).any_name

    def _requests_of(self, batch: int) -> "Pool[Any]":
        """The requests of the graph for a batch size; compiles it when that is new."""
        with self._compiling:
            known = self._requests
            size = batch if batch in known or len(known) < FIXED_BATCHES else None
            if size not in known:
                graph = self._model.clone()
                if size is not None and self.batch is None:
                    graph.reshape({0: [size, *list(graph.input(0).partial_shape)[1:]]})
                compiled = self._core.compile_model(graph, "CPU", self._options)
                make = compiled.create_infer_request
                known[size] = Pool(make(), make, cpu_cores())
            return known[size]

    def __call__(self, images: np.ndarray) -> np.ndarray:
        with self._requests_of(len(images)).one() as request:
            # The input is read where it lies; the output is copied before the request is handed on.
            return request.infer([images], share_inputs=True, share_outputs=False)[0]


def _usable_cache(folder: Path) -> bool:
    """Makes a folder for compiled graphs and drops the oldest; False where it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        blobs = sorted(folder.glob("*.blob"), key=lambda file: file.stat().st_mtime)
        for file in blobs[:-CACHED_GRAPHS]:
            file.unlink(missing_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)
