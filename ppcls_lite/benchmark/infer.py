"""`benchmark infer`: every engine and precision, how fast it is and whether it agrees."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ppcls_lite.benchmark.builds import OURS, Build, other_builds
from ppcls_lite.benchmark.peers import Measured, Peer, measure, ours_over
from ppcls_lite.benchmark.settings import BenchmarkConfig
from ppcls_lite.benchmark.weights import weights_of
from ppcls_lite.data.dataset import open_split
from ppcls_lite.data.decode import load_image
from ppcls_lite.deploy.export import FORMATS
from ppcls_lite.deploy.verify import check_images
from ppcls_lite.environment import cpu_cores
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.weights.find import Weights

# (engine, precision, format); the first is what the others have to agree with.
Choice = tuple[str, str, str]
ENGINES: tuple[Choice, ...] = (
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


@dataclass(frozen=True)
class Export:
    """What one build made of the weights at one size.

    Attributes:
        weights: what it was made from.
        folder: where it lies, int8 in folders of its own.
        info: what its sidecar says of the network.
        problems: why there is no int8 file, by engine.
    """

    build: Build
    weights: Path
    folder: Path
    info: Mapping[str, Any]
    problems: Mapping[str, str] = field(default_factory=dict)

    def files(self, choice: Choice) -> list[Path]:
        """Returns what an engine reads, the model file first."""
        engine, precision, format_ = choice
        folder = self.folder / f"int8-{engine}" if precision == "int8" else self.folder
        return [folder / name for name in FORMATS[format_]] if format_ else [self.weights]

    def name(self, choice: Choice) -> str:
        """Returns what an engine is called while it is measured."""
        return " ".join(filter(None, (*choice, "" if self.build is OURS else self.build.name)))

    def answers(self, choice: Choice) -> Path:
        """Returns the file for an engine's logits of all pictures."""
        return self.folder / f"{' '.join(choice)}.npy"


def rows(config: BenchmarkConfig, say: Callable[[str], None]) -> tuple[list[Any], dict[str, Any]]:
    """Measures every engine at every size, batch size and number of threads, in every build.

    `agreement` is the share of pictures with dygraph's class; `largest_difference` is of the
    logits, over the largest one of dygraph's. Both are found once per size, one picture at a time.
    """
    found = []
    others, facts = other_builds(config)
    with tempfile.TemporaryDirectory(prefix="ppcls-bench-") as folder:
        weights = weights_of(config, Path(folder))
        for size in config.size:
            exports = []
            for number, build in enumerate((OURS, *others)):
                work = Path(folder) / f"{size}-{number}"
                exports.append(export(config, build, weights, size, work, say))
            images = Path(folder) / f"{size}.npy"
            np.save(images, pictures(config, ModelInfo.from_dict(dict(exports[0].info))))
            entries = [(made, choice) for choice in ENGINES for made in exports]
            problems = {
                made.name(choice): made.problems[choice[0]]
                for made, choice in entries
                if choice[1] == "int8" and choice[0] in made.problems
            }
            answered: dict[str, dict[str, Any]] = {}
            for batch_size in config.batch_size:
                for threads in config.threads:
                    group = [
                        peer(*entry, images, batch_size, threads or cpu_cores(), not answered)
                        for entry in entries
                    ]
                    results = measure(group, config.rounds, config.steps or 20, say, problems)
                    answered = answered or compare(entries)
                    about = {"size": size, "batch_size": batch_size}
                    found += finished(results, entries, answered, about)
    return found, facts


def pictures(config: BenchmarkConfig, info: ModelInfo) -> np.ndarray:
    """Returns what the engines are compared on, float32 [N, 3, H, W]."""
    if not config.data_path:
        return info.preprocess(check_images())
    data = open_split(config.data_path, "val", None)
    count = min(MOST_PICTURES, len(data))
    chosen = [data.path(i * len(data) // count) for i in range(count)]
    return np.concatenate([info.preprocess([load_image(path)]) for path in chosen])


def export(
    config: BenchmarkConfig,
    build: Build,
    weights: Weights,
    size: int,
    folder: Path,
    say: Callable[[str], None],
) -> Export:
    """Has a build export the weights, and quantize them.

    Raises:
        UserError: it cannot export them.
    """
    say(f"exporting at {size} pixels, {build.name}")
    info = build.export(weights, folder, f"--img-size={size}", "--logits")
    problems = int8_files(config, build, weights, size, folder, say)
    return Export(build, weights.path.absolute(), folder, info, problems)


def int8_files(
    config: BenchmarkConfig,
    build: Build,
    weights: Weights,
    size: int,
    folder: Path,
    say: Callable[[str], None],
) -> dict[str, str]:
    """Has a build's `quantize` write each engine's int8 file, as it does by default.

    Returns:
        By engine, why it has no file: whatever goes wrong in a quantizer is a row, not the end.
    """
    problems = {}
    for engine in (engine for engine, precision, _ in ENGINES if precision == "int8"):
        if not config.data_path:
            problems[engine] = "int8 is calibrated with images of train: --data-path"
            continue
        say(f"writing the int8 file of {engine}, {build.name}")
        problem = build.quantize(
            weights, engine, config.data_path, folder / f"int8-{engine}", f"--img-size={size}",
            "--eval-images=1", "--min-agreement=0",  # agreement is measured here
        )  # fmt: skip
        if problem:
            problems[engine] = problem
    return problems


def peer(
    made: Export, choice: Choice, images: Path, batch_size: int, threads: int, asks: bool
) -> Peer:
    """Returns one engine as a competitor; `asks` for its answers to all pictures as well."""
    engine, precision, _ = choice
    request = {
        "kind": "infer", "engine": engine, "file": str(made.files(choice)[0]), "info": made.info,
        "options": {"precision": precision} if precision == "bf16" else {}, "threads": threads,
        "batch_size": batch_size, "images": str(images),
        "answers": str(made.answers(choice)) if asks else None,
    }  # fmt: skip
    return made.build.peer(made.name(choice), request, threads=threads)


def compare(entries: Sequence[tuple[Export, Choice]]) -> dict[str, dict[str, Any]]:
    """Returns by name each engine's file, and how its answers differ from our dygraph's."""
    found = {}
    expected: np.ndarray | None = None
    for made, choice in entries:
        files = made.files(choice)
        facts: dict[str, Any] = {"file": files[0].name}
        if files[0].is_file():
            facts["megabytes"] = round(sum(f.stat().st_size for f in files) / 1e6, 2)
        if made.answers(choice).is_file():
            logits = np.load(made.answers(choice))  # [N, K]
            expected = logits if (made, choice) == entries[0] else expected
            if expected is not None:
                facts["agreement"] = float((logits.argmax(1) == expected.argmax(1)).mean())
                scale = max(float(np.abs(expected).max()), 1e-12)
                facts["largest_difference"] = float(np.abs(logits - expected).max()) / scale
        found[made.name(choice)] = facts
    return found


def finished(
    results: Sequence[Measured],
    entries: Sequence[tuple[Export, Choice]],
    answered: Mapping[str, Mapping[str, Any]],
    about: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Returns the rows of one group; another build's say how much faster ours is."""
    found = []
    ours: dict[Choice, Measured] = {}
    for result, (made, (engine, precision, format_)) in zip(results, entries, strict=True):
        row: dict[str, Any] = {"threads": result.peer.threads} | result.row()
        row |= {"peer": made.build.name}
        row.pop("value", None)
        if "ms_per_step" in row:
            row["latency_ms"] = row.pop("ms_per_step")
        choice = engine, precision, format_
        row |= ours_over(ours.setdefault(choice, result), result)
        found.append({"engine": engine, "precision": precision, **about, **row,
                      **answered[result.peer.name]})  # fmt: skip
    return found


def best(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns our fastest row of the first batch size that gives dygraph's classes."""
    first = [r for r in found if r["batch_size"] == found[0]["batch_size"] and "error" not in r]
    mine = [r for r in first if r["peer"] == OURS.name] or first
    agreeing = [r for r in mine if r.get("agreement") == 1] or mine
    return min(agreeing, key=lambda row: row["latency_ms"]["median"])


def by_batch_size(found: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Returns the rows of the table, batch sizes side by side as PaddleClas has them, and columns.

    Times are median / p90 / p99. Of the memory it is the most that any batch size took.
    """
    shown: dict[tuple[Any, ...], dict[str, Any]] = {}
    several = len({row["peer"] for row in found}) > 1
    names = (*NAMES, "peer") if several else NAMES
    columns = dict.fromkeys(f"ms, bs={row['batch_size']}" for row in found)
    if several:
        columns |= dict.fromkeys(f"ours over, bs={row['batch_size']}" for row in found)
    for row in found:
        line = shown.setdefault(tuple(row[name] for name in names), {})
        peak = max(line.get("peak_mib", 0), row.get("peak_mib", 0))
        line |= {name: row[name] for name in (*names, *FACTS, "error") if name in row}
        if "error" not in row:
            line |= {f"ms, bs={row['batch_size']}": row["latency_ms"], "peak_mib": peak}
        if "ours_over_range" in row and row["peer"] != OURS.name:
            over = {"median": row["ours_over"], **row["ours_over_range"]}
            line[f"ours over, bs={row['batch_size']}"] = over
    return list(shown.values()), (*names, *columns, *FACTS)
