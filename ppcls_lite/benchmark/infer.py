"""`benchmark infer`: every engine and precision, how fast it is and whether it agrees."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ppcls_lite.benchmark.peers import Measured, Peer, measure
from ppcls_lite.benchmark.weights import weights_of
from ppcls_lite.config import BenchmarkConfig
from ppcls_lite.data.dataset import open_split
from ppcls_lite.data.preprocess import load_image
from ppcls_lite.deploy.export import FORMATS, export_model
from ppcls_lite.deploy.verify import check_images
from ppcls_lite.environment import cpu_cores
from ppcls_lite.model_info import ModelInfo

# (engine, precision, format); the first is what the others have to agree with.
ENGINES = (
    ("dygraph", "f32", ""),
    ("paddle_inference", "f32", "pdmodel"),
    ("paddle_inference", "f32", "json"),
    ("paddle_inference", "bf16", "pdmodel"),
    ("onnxruntime", "f32", "onnx"),
    ("openvino", "f32", "pdmodel"),
    ("openvino", "f32", "onnx"),
    ("openvino", "bf16", "onnx"),
)
MOST_PICTURES = 128
COLUMNS = (
    "engine", "precision", "file", "size", "batch_size", "threads", "images_per_second",
    "latency_ms", "agreement", "largest_difference", "megabytes", "peak_mib",
)  # fmt: skip


def rows(config: BenchmarkConfig, say: Callable[[str], None]) -> tuple[list[Any], dict[str, Any]]:
    """Measures every engine at every size, batch size and number of threads.

    `agreement` is the share of pictures with dygraph's class; `largest_difference` is of the
    logits, over the largest one of dygraph's. Both are found once per size, one picture at a time.
    """
    found = []
    with tempfile.TemporaryDirectory(prefix="ppcls-bench-") as folder:
        weights, info = weights_of(config, Path(folder))
        for size in config.size:
            say(f"exporting at {size} pixels")
            work = Path(folder) / str(size)
            sidecar = export_model(
                weights, work, image_size=size, softmax_inside=False, model=info.name
            )
            np.save(work / "images.npy", pictures(config, sidecar.info))
            answered: dict[str, dict[str, Any]] = {}
            for batch_size in config.batch_size:
                for threads in config.threads:
                    group = [
                        peer(choice, weights, sidecar.info, work, batch_size, threads, not answered)
                        for choice in ENGINES
                    ]
                    results = measure(group, config.rounds, config.steps or 20, say)
                    answered = answered or compare(results, work, weights)
                    found += [finished(r, answered, size, batch_size) for r in results]
    return found, {}


def pictures(config: BenchmarkConfig, info: ModelInfo) -> np.ndarray:
    """Returns what the engines are compared on, float32 [N, 3, H, W]."""
    if not config.data_path:
        return info.preprocess(check_images())
    data = open_split(config.data_path, "val", None)
    count = min(MOST_PICTURES, len(data))
    chosen = [data.path(i * len(data) // count) for i in range(count)]
    return np.concatenate([info.preprocess([load_image(path)]) for path in chosen])


def peer(
    choice: tuple[str, str, str],
    weights: Path,
    info: ModelInfo,
    work: Path,
    batch_size: int,
    threads: int,
    asks: bool,
) -> Peer:
    """Returns one engine as a competitor; `asks` for its answers to all pictures as well."""
    engine, precision, format_ = choice
    threads = threads or cpu_cores()
    name = " ".join(filter(None, choice))
    file = work / FORMATS[format_][0] if format_ else weights
    request = {
        "kind": "infer", "engine": engine, "file": str(file.resolve()), "info": info.to_dict(),
        "options": {} if precision == "f32" else {"precision": precision}, "threads": threads,
        "batch_size": batch_size, "images": str(work / "images.npy"),
        "answers": str(work / f"{name}.npy") if asks else None,
    }  # fmt: skip
    return Peer(name, "our_peer.py", request, threads=threads)


def compare(results: list[Measured], work: Path, weights: Path) -> dict[str, dict[str, Any]]:
    """Returns by name of the engine its file's size and how its answers differ from dygraph's."""
    found = {}
    expected: np.ndarray | None = None
    for result, (_, _, format_) in zip(results, ENGINES, strict=True):
        files = [work / name for name in FORMATS[format_]] if format_ else [weights]
        facts: dict[str, Any] = {
            "file": files[0].name,
            "megabytes": round(sum(f.stat().st_size for f in files) / 1e6, 2),
        }
        answers = work / f"{result.peer.name}.npy"
        if answers.is_file():
            logits = np.load(answers)  # [N, K]
            expected = logits if expected is None and not format_ else expected
            if expected is not None:
                facts["agreement"] = float((logits.argmax(1) == expected.argmax(1)).mean())
                scale = max(float(np.abs(expected).max()), 1e-12)
                facts["largest_difference"] = float(np.abs(logits - expected).max()) / scale
        found[result.peer.name] = facts
    return found


def finished(
    result: Measured, answered: dict[str, dict[str, Any]], size: int, batch_size: int
) -> dict[str, Any]:
    """Returns the row of one engine."""
    row = result.row()
    engine, precision = row.pop("peer").split()[:2]
    row.pop("value", None)
    if "ms_per_step" in row:
        row["latency_ms"] = row.pop("ms_per_step")
    about = {"engine": engine, "precision": precision, "size": size, "batch_size": batch_size}
    return about | row | answered[result.peer.name]


def best(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the fastest row of the first batch size that gives dygraph's classes."""
    first = [r for r in found if r["batch_size"] == found[0]["batch_size"] and "error" not in r]
    agreeing = [r for r in first if r.get("agreement") == 1] or first
    return min(agreeing, key=lambda row: row["latency_ms"]["median"])
