"""`benchmark eval`: pictures a second through evaluation, decoding included."""

import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ppcls_lite.benchmark.peers import Peer, measure
from ppcls_lite.benchmark.settings import BenchmarkConfig
from ppcls_lite.benchmark.weights import weights_of
from ppcls_lite.deploy.export import export_model
from ppcls_lite.environment import cpu_cores

ENGINES = ("exported", "dygraph", "openvino")
COLUMNS = (
    "peer", "batch_size", "workers", "threads", "images_per_second", "over_dygraph", "top1",
    "peak_mib",
)  # fmt: skip


def rows(config: BenchmarkConfig, say: Callable[[str], None]) -> tuple[list[Any], dict[str, Any]]:
    """Measures every batch size and number of workers on all cores."""
    config.require("data_path")
    found = []
    with tempfile.TemporaryDirectory(prefix="ppcls-bench-") as folder:
        weights = weights_of(config, Path(folder))
        exported = Path(folder) / "onnx"
        if importlib.util.find_spec("openvino"):
            say("exporting")
            export_model(weights, exported, formats=["onnx"], softmax_inside=False)
        shared = {
            "kind": "eval", "data": str(Path(config.data_path or "").resolve()),
            "weights": str(weights.path.resolve()), "info": weights.info.to_dict(),
            "file": str(exported / "inference.onnx"),
        }  # fmt: skip
        for batch_size in config.batch_size:
            for workers in config.workers:
                about = {"batch_size": batch_size, "workers": workers}
                group = [
                    Peer(e, "our_peer.py", shared | about | {"engine": e}, threads=cpu_cores())
                    for e in ENGINES
                ]
                results = measure(group, config.rounds, config.steps or 1, say)
                found += finished([r.row() for r in results], about)
    return found, {}


def finished(results: list[dict[str, Any]], about: dict[str, Any]) -> list[dict[str, Any]]:
    """Adds what the rows of one group have in common, and each one's speed over dygraph's."""
    base = next(row for row in results if row["peer"] == "dygraph")
    for row in results:
        row |= about
        if "error" not in row:
            row["top1"] = round(row.pop("value"), 4)
            if "error" not in base:
                rates = row["images_per_second"], base["images_per_second"]
                row["over_dygraph"] = round(rates[0] / rates[1], 2)
    return results
