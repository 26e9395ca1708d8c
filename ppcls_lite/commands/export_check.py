"""`export check`: the check that an export makes, on pictures of yours, and who answers what.

One set of pictures goes through a checkpoint and every file made from it, as `deploy.verify` says.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ppcls_lite.data.classes import ClassSet, match_classes
from ppcls_lite.data.decode import load_image
from ppcls_lite.data.preprocess import find_images
from ppcls_lite.deploy.predictor import Predictor
from ppcls_lite.deploy.settings import CompareConfig
from ppcls_lite.deploy.verify import TURNS, agreement, engines_of, latencies, limit_of
from ppcls_lite.errors import UserError
from ppcls_lite.program import command, export_command
from ppcls_lite.weights.find import Weights, find_weights

MODEL_FILES = ("inference.pdmodel", "inference.json", "inference.onnx")


@dataclass(frozen=True)
class Row:
    """What one runtime answered."""

    file: Path
    engine: str
    class_id: int
    name: str
    prob: float
    max_abs_diff: float
    same_top1: int
    size: int


def run(config: CompareConfig) -> int:
    """Prints a table: the first image's answer, and over all pictures the largest difference.

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
            export_command(folder, *weights.flags),
        )
    pictures = find_images(config.img_path)
    runs = [(weights, "dygraph"), *((f, engine) for f in files for engine in engines_of(f.path))]
    predictors = [Predictor(found, engine, device="cpu") for found, engine in runs]
    rows, expected = [], answers(predictors[0], pictures)
    known = weights.info.class_set(str(weights.path))
    for (found, _), predictor in zip(runs, predictors, strict=True):
        ids = same_classes(
            known,
            predictor.info.class_set(str(found.path)),
            export_command("FOLDER", *weights.flags),
        )
        probs = expected if predictor is predictors[0] else answers(predictor, pictures)[:, ids]
        compared = agreement(probs, expected, limit_of(weights.info))
        best = int(probs[0].argmax())
        rows.append(
            Row(
                file=found.path,
                engine=predictor.engine,
                class_id=best,
                name=weights.info.class_name(best),
                prob=float(probs[0, best]),
                max_abs_diff=compared["max_abs_diff"],
                same_top1=compared["same_top1"],
                size=found.path.stat().st_size + params_size(found.path),
            )
        )
    times = latencies({i: partial(p.raw, blank(p)) for i, p in enumerate(predictors)})
    print("\n".join(table(rows, times, len(pictures), weights)))
    return 0 if all(row.same_top1 == len(pictures) for row in rows) else 1


def answers(predictor: Predictor, pictures: list[Path]) -> np.ndarray:
    """Returns the probabilities of pictures, which are read one by one, float32 [N, K]."""
    return np.concatenate([answer(predictor, picture) for picture in pictures])


def same_classes(known: ClassSet, exported: ClassSet, hint: str) -> list[int]:
    """Returns for each class of the checkpoint its place in the answers of an exported file, [K].

    Raises:
        UserError: they do not have the same classes (with `hint`).
    """
    return list(match_classes(exported, known).complete(hint).ids)


def answer(predictor: Predictor, picture: Path) -> np.ndarray:
    """Returns the probabilities of one picture, float32 [1, K]."""
    return predictor.probabilities(predictor.info.preprocess([load_image(picture)]))


def blank(predictor: Predictor) -> np.ndarray:
    """Returns a black picture as the network takes it, float32 [1, 3, H, W]."""
    size = predictor.info.preprocess.crop_size
    return np.zeros((1, 3, size, size), np.float32)


def params_size(file: Path) -> int:
    """Returns the bytes of the weights that Paddle keeps beside a model file; 0 for others."""
    params = file.with_suffix(".pdiparams")
    return params.stat().st_size if file.suffix in (".pdmodel", ".json") else 0


def table(
    rows: list[Row], milliseconds: dict[int, float], count: int, weights: Weights
) -> list[str]:
    """Returns the lines of the report."""
    lines = []
    metrics = (weights.description or {}).get("metrics")
    if metrics:  # none before the first evaluation
        scores = f"top-1 {metrics['top1']:.4f}, top-5 {metrics['top5']:.4f}"
        lines.append(f"val {scores}  ({weights.path})")
    lines.append(
        f"{'file':<20}{'engine':<18}{'first image':<22}{'probability':>12}"
        f"{'largest diff.':>15}{'same class':>12}{'ms':>7}{'MB':>7}"
    )
    for index, row in enumerate(rows):
        answer = f"{row.class_id} {row.name}"[:21]
        lines.append(
            f"{row.file.name[:19]:<20}{row.engine:<18}{answer:<22}{row.prob:>12.8f}"
            f"{row.max_abs_diff:>15.1e}{row.same_top1 / count:>12.0%}{milliseconds[index]:>7.2f}"
            f"{row.size / 1e6:>7.2f}"
        )
    lines.append(
        f"{count} image(s); ms: median of {TURNS} runs of the model alone, one image, CPU, in turns"
    )
    folder = rows[-1].file.parent
    again = ("--data-path", "YOUR_IMAGES", "--epochs", 20, "-b", 32, "--lr", 0.0125)
    return [
        *lines,
        f"\nnext: {command('predict', '--pretrained', folder, '--img-path', 'YOUR_IMAGES')}",
        f"      {command('train', *weights.flags, *again)}",
        f"      {command('list_models')}",
    ]
