"""Exported files in their real runtimes: do they answer as the trained network, and how fast."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ppcls_lite.deploy.choose import EIGHT, ENGINES_OF_SUFFIX
from ppcls_lite.deploy.ranking import probabilities
from ppcls_lite.dygraph_runtime import DygraphRuntime
from ppcls_lite.errors import UserError
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.runtimes import FILE_RUNTIMES, Runtime, in_batches, is_installed

if TYPE_CHECKING:
    import paddle

CHECK_IMAGES = EIGHT
LIMIT = 1e-5
# Of the largest logit, times the limit. On an Intel Xeon with AVX-512 and AMX, ONNX Runtime and
# OpenVINO agree with each other, and both differ from Paddle by 1.6e-5 on mnasnet0_5.
LOGITS = 3.0
# A value that rounding moves across the middle between two 8-bit steps moves by a whole step, and
# others after it: two correct engines differ by as much as the 8 bits themselves are wrong.
LIMIT_INT8 = 0.05
TURNS = 20  # timed runs of each engine
TURNS_OF_EIGHT = 5  # the same of CHECK_IMAGES at once


def check_images() -> list[Image.Image]:
    """Returns the pictures of the check: smooth colour fields, the same on every machine."""
    random = np.random.RandomState(0)
    grids = random.randint(0, 256, (CHECK_IMAGES, 6, 8, 3)).astype(np.uint8)  # [N, H, W, 3]
    return [Image.fromarray(g).resize((640, 480), Image.Resampling.BICUBIC) for g in grids]


def verify(
    network: "paddle.nn.Layer", info: ModelInfo, model_files: Sequence[Path], softmax_inside: bool
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Runs every file in every installed engine that reads it.

    A file's usual engine, the first of `ENGINES_OF_SUFFIX`, decides whether the file is right; the
    others are not chosen by `--engine auto` unless they agree.

    Returns:
        The sidecar's `outputs` and `verification`.

    Raises:
        UserError: a file's usual engine is missing or cannot read it.
    """
    images = info.preprocess(check_images())  # [N, 3, H, W]
    expected = DygraphRuntime(network)(images)  # [N, K]
    # Rounding errors grow with the logits; probabilities are at most 1.
    scale = 1.0 if softmax_inside else LOGITS * float(np.abs(expected).max())
    limit = limit_of(info) * scale
    if softmax_inside:
        expected = probabilities(expected, info)
    outputs: dict[str, dict[str, Any]] = {}
    files: dict[str, dict[str, Any]] = {}
    rows: list[dict[str, Any]] = []
    runs: dict[int, partial[Any]] = {}  # by index of the row
    eights: dict[int, partial[Any]] = {}
    for path in model_files:
        usual = ENGINES_OF_SUFFIX[path.suffix][0]
        runtime = FILE_RUNTIMES[usual](path)
        outputs[path.name] = output_entry(runtime.output_name, info, softmax_inside)
        answer = in_batches(runtime, images)
        files[path.name] = {"engine": usual} | agreement(answer, expected, limit)
        runs[len(rows)] = partial(runtime, images_for(runtime, images))
        eights[len(rows)] = partial(in_batches, runtime, images)
        rows.append({"file": path.name} | files[path.name])
        for engine in [other for other in engines_of(path) if other != usual]:
            row: dict[str, Any] = {"file": path.name, "engine": engine}
            try:
                runtime = FILE_RUNTIMES[engine](path)
                row |= agreement(in_batches(runtime, images), expected, limit)
                runs[len(rows)] = partial(runtime, images_for(runtime, images))
                eights[len(rows)] = partial(in_batches, runtime, images)
            except UserError as error:
                row |= {"passed": False, "error": error.message}
            rows.append(row)
    for index, milliseconds in latencies(runs).items():
        rows[index]["ms"] = round(milliseconds / len(runs[index].args[0]), 3)
    for index, milliseconds in latencies(eights, TURNS_OF_EIGHT).items():
        rows[index]["ms_in_eight"] = round(milliseconds / len(images), 3)
    return outputs, {"images": len(images), "limit": limit, "files": files, "engines": rows}


def images_for(runtime: Runtime, images: np.ndarray) -> np.ndarray:
    """As many pictures of float32 [N, 3, H, W] as one run takes: one, or the fixed batch size."""
    return np.resize(images, (runtime.batch or 1, *images.shape[1:]))


def output_entry(name: str, info: ModelInfo, inside: bool) -> dict[str, Any]:
    """Returns the output of a file for the sidecar; `inside`: probabilities come out."""
    entry: dict[str, Any] = {"name": name, "softmax": inside and not info.multi_label}
    return entry | {"sigmoid": inside} if info.multi_label else entry


def engines_of(file: Path) -> list[str]:
    """Returns the installed engines that read an exported file, its usual one first."""
    return [engine for engine in ENGINES_OF_SUFFIX[file.suffix] if is_installed(engine)]


def limit_of(info: ModelInfo) -> float:
    """Returns by how much a probability may differ from the trained network's."""
    return LIMIT if info.quant_skip is None else LIMIT_INT8


def agreement(answer: np.ndarray, expected: np.ndarray, limit: float) -> dict[str, Any]:
    """Compares scores [N, K] with the right ones, of which they may differ by `limit`.

    Returns:
        max_abs_diff; same_top1, the rows with the same class; passed.
    """
    difference = float(np.abs(answer - expected).max())
    # The scores that the trained network gives to the runtime's first classes. A tie within the
    # limit is no disagreement: a barely trained network scores all classes alike.
    chosen = expected[np.arange(len(answer)), answer.argmax(axis=1)]  # [N]
    same = int((chosen >= expected.max(axis=1) - limit).sum())
    passed = difference <= limit and same == len(answer)
    return {"max_abs_diff": difference, "same_top1": same, "passed": passed}


def latencies(runs: Mapping[int, Callable[[], Any]], turns: int = TURNS) -> dict[int, float]:
    """Returns the median time of each call, in ms; they take turns."""
    times: dict[int, list[float]] = {key: [] for key in runs}
    for turn in range(turns + 2):
        for key, run in runs.items():
            begin = time.perf_counter()
            run()
            if turn >= 2:  # the first ones prepare kernels
                times[key].append(1000 * (time.perf_counter() - begin))
    return {key: round(statistics.median(values), 3) for key, values in times.items()}
