"""Exported files in their real runtimes: do they answer as the trained network, and how fast."""

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ppcls_lite.deploy.choose import ENGINES_OF_SUFFIX
from ppcls_lite.deploy.predictor import softmax
from ppcls_lite.errors import UserError
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.runtimes import FILE_RUNTIMES, DygraphRuntime, Runtime, is_installed

if TYPE_CHECKING:
    import paddle

CHECK_IMAGES = 8
LIMIT = 1e-5
# A value that rounding moves across the middle between two 8-bit steps moves by a whole step, and
# others after it: two correct engines differ by as much as the 8 bits themselves are wrong.
LIMIT_INT8 = 0.05
TURNS = 15  # timed runs of each engine


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
    limit = LIMIT if info.quant_skip is None else LIMIT_INT8
    limit = limit if softmax_inside else limit * float(np.abs(expected).max())
    if softmax_inside:
        expected = softmax(expected)
    outputs: dict[str, dict[str, Any]] = {}
    files: dict[str, dict[str, Any]] = {}
    rows: list[dict[str, Any]] = []
    runtimes: dict[int, Runtime] = {}  # by index of the row
    for path in model_files:
        usual, *others = ENGINES_OF_SUFFIX[path.suffix]
        runtime = FILE_RUNTIMES[usual](path)
        outputs[path.name] = {"name": runtime.output_name, "softmax": softmax_inside}
        files[path.name] = {"engine": usual} | agreement(runtime(images), expected, limit)
        runtimes[len(rows)] = runtime
        rows.append({"file": path.name} | files[path.name])
        for engine in filter(is_installed, others):
            row: dict[str, Any] = {"file": path.name, "engine": engine}
            try:
                runtime = FILE_RUNTIMES[engine](path)
                row |= agreement(runtime(images), expected, limit)
                runtimes[len(rows)] = runtime
            except UserError as error:
                row |= {"passed": False, "error": error.message}
            rows.append(row)
    for index, milliseconds in latencies(runtimes, images[:1]).items():
        rows[index]["ms"] = milliseconds
    return outputs, {"images": len(images), "limit": limit, "files": files, "engines": rows}


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


def latencies(runtimes: dict[int, Runtime], image: np.ndarray) -> dict[int, float]:
    """Returns the median time of each runtime on float32 [1, 3, H, W], in ms; they take turns."""
    times: dict[int, list[float]] = {key: [] for key in runtimes}
    for turn in range(TURNS + 2):
        for key, runtime in runtimes.items():
            begin = time.perf_counter()
            runtime(image)
            if turn >= 2:  # the first ones prepare kernels
                times[key].append(1000 * (time.perf_counter() - begin))
    return {key: round(statistics.median(values), 3) for key, values in times.items()}
