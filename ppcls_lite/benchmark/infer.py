"""`benchmark infer`: every engine and precision, how fast it is and whether it agrees."""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ppcls_lite.benchmark.peers import Measured, Peer, measure
from ppcls_lite.benchmark.settings import BenchmarkConfig
from ppcls_lite.benchmark.weights import weights_of
from ppcls_lite.data.dataset import open_split
from ppcls_lite.data.decode import load_image
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
    ("onnxruntime", "int8", "onnx"),
    ("openvino", "int8", "onnx"),
)
MOST_PICTURES = 128
# One row of the table; its latencies have a column for each batch size.
NAMES = ("engine", "precision", "file", "size", "threads")
FACTS = ("agreement", "largest_difference", "megabytes", "peak_mib")


def rows(config: BenchmarkConfig, say: Callable[[str], None]) -> tuple[list[Any], dict[str, Any]]:
    """Measures every engine at every size, batch size and number of threads.

    `agreement` is the share of pictures with dygraph's class; `largest_difference` is of the
    logits, over the largest one of dygraph's. Both are found once per size, one picture at a time.
    """
    found = []
    with tempfile.TemporaryDirectory(prefix="ppcls-bench-") as folder:
        weights = weights_of(config, Path(folder))
        path, info = weights.path, weights.info
        for size in config.size:
            say(f"exporting at {size} pixels")
            work = Path(folder) / str(size)
            sidecar = export_model(weights, work, image_size=size, softmax_inside=False)
            np.save(work / "images.npy", pictures(config, sidecar.info))
            problems = int8_files(config, path, info, size, work, say)
            answered: dict[str, dict[str, Any]] = {}
            for batch_size in config.batch_size:
                for threads in config.threads:
                    group = [
                        peer(choice, path, sidecar.info, work, batch_size, threads, not answered)
                        for choice in ENGINES
                    ]
                    results = measure(group, config.rounds, config.steps or 20, say, problems)
                    answered = answered or compare(results, work, path)
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


def int8_files(
    config: BenchmarkConfig,
    weights: Path,
    info: ModelInfo,
    size: int,
    work: Path,
    say: Callable[[str], None],
) -> dict[str, str]:
    """Has `quantize` write each engine's int8 file, as it does by default.

    It runs in a process of its own: whatever goes wrong in a quantiser is a row, not the end.

    Returns:
        By name of the competitor, why it has no file.
    """
    problems = {}
    for engine in (engine for engine, precision, _ in ENGINES if precision == "int8"):
        name = f"{engine} int8 onnx"
        if not config.data_path:
            problems[name] = "int8 is calibrated with pictures of train: --data-path"
            continue
        say(f"writing the int8 file of {engine}")
        command = [sys.executable, "-m", "ppcls_lite", "quantize", f"--target={engine}"]
        command += [f"--pretrained={weights}", f"--model={info.name}", f"--img-size={size}"]
        command += [f"--data-path={config.data_path}", f"--out={work / f'int8-{engine}'}"]
        command += ["--eval-images=1", "--min-agreement=0"]  # agreement is measured here
        environment = Peer("", "", {}, threads=cpu_cores()).environment()
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        if done.returncode != 0:
            said = [line for line in done.stderr.splitlines() if line and line[0] != " "]
            problems[name] = said[-1] if said else f"quantize ended with status {done.returncode}"
    return problems


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
    engine, precision, _ = choice
    threads = threads or cpu_cores()
    name = " ".join(filter(None, choice))
    file = files_of(choice, work, weights)[0]
    request = {
        "kind": "infer", "engine": engine, "file": str(file.resolve()), "info": info.to_dict(),
        "options": {"precision": precision} if precision == "bf16" else {}, "threads": threads,
        "batch_size": batch_size, "images": str(work / "images.npy"),
        "answers": str(work / f"{name}.npy") if asks else None,
    }  # fmt: skip
    return Peer(name, "our_peer.py", request, threads=threads)


def files_of(choice: tuple[str, str, str], work: Path, weights: Path) -> list[Path]:
    """Returns what an engine reads, the model file first."""
    engine, precision, format_ = choice
    folder = work / f"int8-{engine}" if precision == "int8" else work
    return [folder / name for name in FORMATS[format_]] if format_ else [weights]


def compare(results: list[Measured], work: Path, weights: Path) -> dict[str, dict[str, Any]]:
    """Returns by name of the engine its file's size and how its answers differ from dygraph's."""
    found = {}
    expected: np.ndarray | None = None
    for result, choice in zip(results, ENGINES, strict=True):
        files = files_of(choice, work, weights)
        facts: dict[str, Any] = {"file": files[0].name}
        if files[0].is_file():
            facts["megabytes"] = round(sum(f.stat().st_size for f in files) / 1e6, 2)
        answers = work / f"{result.peer.name}.npy"
        if answers.is_file():
            logits = np.load(answers)  # [N, K]
            expected = logits if choice == ENGINES[0] else expected
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
    row: dict[str, Any] = {"threads": result.peer.threads} | result.row()
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


def by_batch_size(found: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Returns the rows of the table, batch sizes side by side as PaddleClas has them, and columns.

    Times are median / p90 / p99. Of the memory it is the most that any batch size took.
    """
    shown: dict[tuple[Any, ...], dict[str, Any]] = {}
    latencies = dict.fromkeys(f"ms, bs={row['batch_size']}" for row in found)
    for row in found:
        line = shown.setdefault(tuple(row[name] for name in NAMES), {})
        peak = max(line.get("peak_mib", 0), row.get("peak_mib", 0))
        line |= {name: row[name] for name in (*NAMES, *FACTS, "error") if name in row}
        if "error" not in row:
            line |= {f"ms, bs={row['batch_size']}": row["latency_ms"], "peak_mib": peak}
    return list(shown.values()), (*NAMES, *latencies, *FACTS)
