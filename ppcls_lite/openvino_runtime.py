"""OpenVINO behind the call of every engine, see `runtimes`."""

import contextlib
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np

from ppcls_lite.engines import check_bf16, import_engine, unreadable
from ppcls_lite.environment import cpu_cores
from ppcls_lite.errors import UserError
from ppcls_lite.files import file_sha256, write_atomically
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
            raise UserError(
                "--device gpu: OpenVINO runs on the CPU here; allowed: --device cpu or auto",
                "--device cpu  # or --engine onnxruntime",
            )
        if precision == "bf16":
            check_bf16()
        self._options = {
            # Left alone it takes bf16 wherever the CPU has it, with other answers.
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": cpu_cores(),
            # Every process would bind its threads to the same first cores: two workers of a
            # server then share one (docs/measurements/serving.md).
            "ENABLE_CPU_PINNING": False,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._core = openvino.Core()
        self._kept: Path | None = None
        if cache is not None and path.is_file():
            self._kept = _usable_cache(cache, file_sha256(path)[:16])
        if self._kept is not None:
            self._options["CACHE_DIR"] = str(self._kept)
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
                if self._kept is not None:
                    _note_graphs(self._kept)
                make = compiled.create_infer_request
                known[size] = Pool(make(), make, cpu_cores())
            return known[size]

    def __call__(self, images: np.ndarray) -> np.ndarray:
        with self._requests_of(len(images)).one() as request:
            # The input is read where it lies; the output is copied before the request is handed on.
            return request.infer([images], share_inputs=True, share_outputs=False)[0]


def _usable_cache(cache: Path, network: str) -> Path | None:
    """Makes the folder for a network's compiled graphs; None where it cannot be written.

    Drops the oldest graphs of all networks, and this one's that are not as they were written:
    OpenVINO 2026.4 notices a graph that was cut short, but answers wrongly from a changed one.
    """
    folder = cache / network
    try:
        folder.mkdir(parents=True, exist_ok=True)
        graphs = sorted(cache.rglob("*.blob"), key=lambda file: file.stat().st_mtime)
        stale = graphs[:-CACHED_GRAPHS] + [g for g in folder.glob("*.blob") if not _as_written(g)]
        for file in stale:
            file.unlink(missing_ok=True)
            _sum_of(file).unlink(missing_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def _note_graphs(folder: Path) -> None:
    """Writes the SHA-256 of each compiled graph beside it; a full disk leaves it without."""
    with contextlib.suppress(OSError):
        for graph in folder.glob("*.blob"):
            if not _sum_of(graph).exists():
                write_atomically(_sum_of(graph), file_sha256(graph).encode())


def _as_written(graph: Path) -> bool:
    known = _sum_of(graph)
    return known.is_file() and known.read_text(errors="replace") == file_sha256(graph)


def _sum_of(graph: Path) -> Path:
    return graph.with_suffix(".sha256")
