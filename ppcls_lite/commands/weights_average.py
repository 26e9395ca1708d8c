"""`weights average`: one network from several checkpoints of a run."""

import glob
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ppcls_lite.errors import UserError
from ppcls_lite.program import command, list_command
from ppcls_lite.weights.description import save_weights
from ppcls_lite.weights.find import find_weights
from ppcls_lite.weights.settings import AverageConfig


def run(config: AverageConfig) -> int:
    """Writes the mean of the checkpoints as weights to use, and says of what it is the mean."""
    config.require("checkpoints", "out")
    out = Path(config.out)
    if out.suffix != ".pdparams":
        raise UserError(f"--out {out} is no .pdparams", f"--out {out.with_suffix('.pdparams')}")
    paths = found(config.checkpoints)
    if out in paths:
        raise UserError(f"--out {out} is one of the checkpoints", "give the mean another name")
    weights = [find_weights(path, config.model, config.num_classes) for path in paths]
    info = weights[0].info
    for other in weights:
        if other.info != info:
            raise UserError(
                f"{other.path} is of another model, other classes or other images than {paths[0]}",
                "give checkpoints of one run",
            )
    mean = average([each.arrays for each in weights])
    save_weights(out, mean, info, {"averaged": [str(path) for path in paths]})
    print(f"averaged {', '.join(map(str, paths))}")
    print(f"wrote {out}: the mean of {len(paths)} checkpoints of {info.name}")
    print(f"next: {command('train', '--test-only', '--pretrained', out, '--data-path', 'DATA')}")
    return 0


def found(names: Iterable[str]) -> list[Path]:
    """Returns the files that names and shell patterns stand for.

    Raises:
        UserError: there is none, or one is there twice: `best` and `latest` are second names of a
            `model_<epoch>`, which would count double.
    """
    paths = [Path(match) for name in names for match in sorted(glob.glob(name)) or [name]]
    first: dict[tuple[int, int], Path] = {}
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path}: no such file", list_command(path))
        status = path.stat()
        other = first.setdefault((status.st_dev, status.st_ino), path)
        if other != path or paths.count(path) > 1:
            raise UserError(f"{path} is the same checkpoint as {other}", "give it once")
    return paths


def average(states: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Returns the mean of every tensor, batch-norm statistics included, in its own dtype.

    The sum is in float64. All checkpoints have the same names and shapes.
    """
    return {
        name: np.mean([state[name] for state in states], axis=0, dtype=np.float64).astype(own.dtype)
        for name, own in states[0].items()
    }
