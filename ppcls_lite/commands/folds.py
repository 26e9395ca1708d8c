"""`--folds K` without `--fold`: one training after the other, then what they give together."""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.errors import UserError
from ppcls_lite.files import write_atomically
from ppcls_lite.program import quoted


def runs_all(config: TrainConfig) -> bool:
    """Tells whether the settings ask for a training of every fold."""
    return bool(config.folds) and config.fold is None


def run_all(config: TrainConfig, one: Callable[[TrainConfig], int]) -> int:
    """Runs every fold in OUTPUT_DIR/fold-I, then prints and stores mean and deviation.

    What is stopped goes on with the same command and --resume auto: finished folds train nothing.

    Args:
        config: the settings.
        one: trains one fold; returns the exit status.

    Raises:
        UserError: several processes train, or one run is to go on.
    """
    if int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) > 1 or config.resume not in (None, "auto"):
        raise UserError(
            "--folds without --fold starts a training after the other, in one process, anew or"
            " with --resume auto",
            f"--fold 0 --output-dir {quoted(str(Path(config.output_dir) / 'fold-0'))}"
            "  # then --fold 1 and so on, each with a folder of its own",
        )
    folder = Path(config.output_dir)
    for fold in range(config.folds or 0):
        print(f"fold      {fold} of {config.folds}: {folder / f'fold-{fold}'}", flush=True)
        own: dict[str, Any] = {"fold": fold, "output_dir": str(folder / f"fold-{fold}")}
        sources = {**config.sources, **dict.fromkeys(own, "--folds")}
        status = one(dataclasses.replace(config, **own, sources=sources))
        if status:
            return status
    if not config.dry_run:
        print(summary(folder, config.folds or 0))
    return 0


def summary(folder: Path, folds: int) -> str:
    """Reads the best of every fold, writes folds.json, and returns the lines to print."""
    rows = []
    for fold in range(folds):
        best = json.loads((folder / f"fold-{fold}" / "best.json").read_text("utf-8"))
        rows.append({name: float(best["metrics"][name]) for name in ("top1", "loss")})
    values = {name: np.array([row[name] for row in rows]) for name in ("top1", "loss")}
    result: dict[str, Any] = {
        "folds": rows,
        "mean": {name: float(x.mean()) for name, x in values.items()},
        # Of a sample, as one says it of a few runs: n - 1 below the line.
        "deviation": {name: float(x.std(ddof=1)) for name, x in values.items()},
    }
    write_atomically(folder / "folds.json", json.dumps(result, indent=1).encode())
    lines = [
        f"fold {i}  val top1 {row['top1']:.4f}  loss {row['loss']:.4f}"
        for i, row in enumerate(rows)
    ]
    mean, deviation = result["mean"], result["deviation"]
    lines.append(
        f"{folds} folds: val top1 {mean['top1']:.4f} +- {deviation['top1']:.4f},"
        f" loss {mean['loss']:.4f} +- {deviation['loss']:.4f}; {folder / 'folds.json'}"
    )
    return "\n".join(lines)
