"""`export check`: one set of pictures through a checkpoint and every file made from it."""

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ppcls_lite.data.decode import load_image
from ppcls_lite.data.preprocess import find_images
from ppcls_lite.deploy.choose import ENGINES_OF_SUFFIX
from ppcls_lite.deploy.predictor import Predictor
from ppcls_lite.deploy.settings import CompareConfig
from ppcls_lite.errors import UserError
from ppcls_lite.program import command
from ppcls_lite.runtimes import is_installed
from ppcls_lite.weights.find import Weights, find_weights

MODEL_FILES = ("inference.pdmodel", "inference.json", "inference.onnx")
REPEATS = 20


@dataclass(frozen=True)
class Row:
    """What one runtime answered."""

    file: Path
    engine: str
    class_id: int
    name: str
    prob: float
    difference: float
    top1_agreement: float
    milliseconds: float
    size: int


def run(config: CompareConfig) -> int:
    """Prints a table: the first picture's answer, and over all pictures the largest difference.

    Returns:
        1 when a file disagrees with the checkpoint on a class, else 0.
    """
    config.require("pretrained", "exported", "img_path")
    weights = find_weights(config.pretrained, config.model, config.num_classes)
    folder = Path(config.exported)
    files = [find_weights(folder / name) for name in MODEL_FILES if (folder / name).is_file()]
    if not files:
        raise UserError(
            f"--exported {folder} holds none of {', '.join(MODEL_FILES)}",
            command("export", "--pretrained", weights.path, "--save-inference-dir", folder),
        )
    pictures = find_images(config.img_path)
    reference: np.ndarray | None = None
    rows = []
    of_files = [(file, engine) for file in files for engine in engines(file.path)]
    for found, engine in [(weights, "dygraph"), *of_files]:
        file, predictor = found.path, Predictor(found, engine, device="cpu")
        probs = np.concatenate([answer(predictor, picture) for picture in pictures])  # [N, K]
        reference = probs if reference is None else reference
        best = int(probs[0].argmax())
        rows.append(
            Row(
                file=file,
                engine=predictor.engine,
                class_id=best,
                name=predictor.info.class_name(best),
                prob=float(probs[0, best]),
                difference=float(np.abs(probs - reference).max()),
                top1_agreement=float(np.mean(probs.argmax(1) == reference.argmax(1))),
                milliseconds=latency(predictor),
                size=file.stat().st_size + params_size(file),
            )
        )
    print("\n".join(table(rows, len(pictures), weights)))
    return 0 if all(row.top1_agreement == 1 for row in rows) else 1


def engines(file: Path) -> list[str]:
    """Returns the installed engines that can run an exported file."""
    return [engine for engine in ENGINES_OF_SUFFIX[file.suffix] if is_installed(engine)]


def answer(predictor: Predictor, picture: Path) -> np.ndarray:
    """Returns the probabilities of one picture, float32 [1, K]."""
    return predictor.probabilities(predictor.info.preprocess([load_image(picture)]))


def latency(predictor: Predictor) -> float:
    """Returns the median time of the network alone on one picture, in ms, after a warm-up."""
    size = predictor.info.preprocess.crop_size
    blank = np.zeros((1, 3, size, size), np.float32)
    times = []
    for _ in range(REPEATS + 3):
        begin = time.perf_counter()
        predictor.raw(blank)
        times.append(1000 * (time.perf_counter() - begin))
    return statistics.median(times[3:])


def params_size(file: Path) -> int:
    """Returns the bytes of the weights that Paddle keeps beside a model file; 0 for others."""
    params = file.with_suffix(".pdiparams")
    return params.stat().st_size if file.suffix in (".pdmodel", ".json") else 0


def table(rows: list[Row], count: int, weights: Weights) -> list[str]:
    """Returns the lines of the report."""
    lines = []
    metrics = (weights.description or {}).get("metrics")
    if metrics:  # none before the first evaluation
        scores = f"top-1 {metrics['top1']:.4f}, top-5 {metrics['top5']:.4f}"
        lines.append(f"val {scores}  ({weights.path})")
    lines.append(
        f"{'file':<20}{'engine':<18}{'first picture':<22}{'probability':>12}"
        f"{'largest diff.':>15}{'same class':>12}{'ms':>7}{'MB':>7}"
    )
    for row in rows:
        answer = f"{row.class_id} {row.name}"[:21]
        lines.append(
            f"{row.file.name[:19]:<20}{row.engine:<18}{answer:<22}{row.prob:>12.8f}"
            f"{row.difference:>15.1e}{row.top1_agreement:>12.0%}{row.milliseconds:>7.2f}"
            f"{row.size / 1e6:>7.2f}"
        )
    lines.append(
        f"{count} picture(s); ms: median of {REPEATS} runs of the network alone, one picture, CPU"
    )
    folder = rows[-1].file.parent
    again = ("--data-path", "YOUR_PICTURES", "--epochs", 20, "-b", 32, "--lr", 0.0125)
    return [
        *lines,
        f"\nnext: {command('predict', '--pretrained', folder, '--img-path', 'YOUR_PICTURES')}",
        f"      {command('train', '--pretrained', weights.path, *again)}",
        f"      {command('list_models')}",
    ]
