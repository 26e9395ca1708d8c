"""Checkpoints: three files that belong together, never half-written, read without running code.

    X.pdparams  named weights and batch-norm statistics       (readable by paddle.load)
    X.pdopt     optimizer state, named after the weights       (readable by paddle.load)
                With a moving average, X.pdparams holds it, because it is what was evaluated, and
                X.pdopt also the weights that are being trained, as NAME.trained.
                X.pdparams may have calibrated logits; then X.pdopt has its last layer as trained,
                as NAME.uncalibrated.
    X.json      everything else, for people and programs: where the run stands, the network, class
                names, preprocessing, settings, versions, and the SHA-256 of the two others

A checkpoint is complete when the hashes in its JSON agree. A new one is complete under the name
X.saving before it takes the place of an older X, so a kill or a full disk never leaves less than
one of them; the next training in the folder finishes what was interrupted (`finish_saves`).
"""

import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from ppcls_lite.errors import UserError
from ppcls_lite.files import (
    FileContent,
    file_sha256,
    link_set,
    remove_set,
    replacing,
    staged,
    write_atomically,
)
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.program import quoted
from ppcls_lite.weights.description import described_info, other_version, read_description
from ppcls_lite.weights.formats import read_weights

PARTS = (".pdparams", ".pdopt", ".json")
TRAINED = ".trained"
UNCALIBRATED = ".uncalibrated"
RENAMED = {
    "layout": "batching",
    "best_top1": "best_score",
}  # fields of Progress as earlier versions wrote them
MUTUAL = "peer."  # before everything of the second student of --distill-loss dml, in X.pdopt


@dataclass
class Progress:
    """Where a run stands.

    Attributes:
        epoch: number of the epoch to go on with, from 0.
        batch: batches of that epoch that are done.
        step: optimizer steps done in all.
        best_score: best validation `Accuracy.score` so far; None before the first evaluation.
        seed: of the whole run; every random draw follows from it, the epoch and the batch or
            sample, so no generator state has to be kept.
        loss_scale: of the mixed-precision scaler; 0 without one.
        ema_updates: updates of the moving average since its last restart; 0 without one.
        gain_epoch: the last epoch whose score was better than all before; -1 before the first.
        epochs: of the run, as fixed by --max-minutes; 0 until then, or without it.
        seconds: spent in an epoch that was stopped, for --max-minutes.
        setup: seconds of the command before its first epoch, likewise.
        batching: how an epoch is cut into batches; `batch` has a meaning only under the same one.
        samples: the training pictures and their labels (`samples.fingerprint`); "" if not known.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_score: float | None = None
    seed: int = 0
    loss_scale: float = 0.0
    ema_updates: int = 0
    gain_epoch: int = -1
    epochs: int = 0
    seconds: float = 0.0
    setup: float = 0.0
    batching: str = ""
    samples: str = ""


@dataclass(frozen=True)
class Checkpoint:
    """What was read back from the three files; `params` are as trained, calibrated or not."""

    path: Path
    params: dict[str, np.ndarray]
    optimizer: dict[str, np.ndarray]
    info: ModelInfo
    progress: Progress
    config: dict[str, Any]
    metrics: dict[str, float]

    @property
    def trained(self) -> dict[str, np.ndarray]:
        """The weights to train on: those of `params`, unless that is their moving average."""
        own = {k: v for k, v in self.optimizer.items() if k.endswith(TRAINED)}
        return {k.removesuffix(TRAINED): v for k, v in own.items()} or self.params

    @property
    def accumulators(self) -> dict[str, np.ndarray]:
        """The optimizer's own state, see `optimizer.named_state`."""
        return {
            k: v for k, v in self.optimizer.items() if not k.endswith(TRAINED) and k[:5] != MUTUAL
        }

    @property
    def mutual(self) -> dict[str, np.ndarray]:
        """The state of the second student, see `MutualStudent.state`; empty without one."""
        own = {k: v for k, v in self.optimizer.items() if k.startswith(MUTUAL)}
        return {k.removeprefix(MUTUAL): v for k, v in own.items()}


def as_trained(params: dict[str, Any]) -> dict[str, np.ndarray]:
    """Returns a model's state under the names that `Checkpoint.trained` finds."""
    return {name + TRAINED: tensor.numpy() for name, tensor in params.items()}


def save_checkpoint(
    path: Path,
    params: dict[str, Any],
    optimizer: dict[str, Any],
    info: ModelInfo,
    progress: Progress,
    extra: dict[str, Any],
) -> None:
    """Writes the three files of a checkpoint.

    Args:
        path: of the `.pdparams` file.
        params: the model's state dict.
        optimizer: optimizer state by structured names (`optimizer.named_state`).
        info: the network and its preprocessing.
        progress: where the run stands.
        extra: settings, metrics, versions; stored as they are.
    """
    hashes = {}
    with replacing(path, PARTS) as new:
        for suffix, state in ((".pdparams", params), (".pdopt", optimizer)):
            buffer = io.BytesIO()
            paddle.save(state, buffer)
            write_atomically(new.with_suffix(suffix), buffer.getvalue())
            hashes[suffix[1:]] = file_sha256(new.with_suffix(suffix))
        state = info.to_dict() | {"progress": asdict(progress)} | extra | {"sha256": hashes}
        text = json.dumps(state, indent=1, allow_nan=False) + "\n"
        write_atomically(new.with_suffix(".json"), text.encode())


def link_checkpoint(source: Path, target: Path) -> None:
    """Gives a checkpoint a second name without a second copy (a copy where links do not work)."""
    if source.resolve() != target.resolve():
        link_set(source, target, PARTS)


def remove_checkpoint(path: Path) -> None:
    """Deletes the files of a checkpoint."""
    remove_set(path, PARTS)


def finish_saves(folder: Path) -> None:
    """Completes or clears away what interrupted saves left; nobody else may be saving there."""
    for part in folder.glob(".*.part"):
        part.unlink(missing_ok=True)
    for left in sorted(folder.glob(staged(Path("*.*")).name)):
        new = left.with_suffix(".pdparams")
        if is_complete(new):
            link_checkpoint(new, new.with_name(new.name.replace(".saving.", ".")))
        remove_checkpoint(new)


def is_complete(path: Path) -> bool:
    """Tells whether all files of a checkpoint are there and belong together."""
    try:
        state = read_description(FileContent(path))
        return state is not None and (
            file_sha256(path.with_suffix(".pdopt")) == state["sha256"]["pdopt"]
        )
    except (UserError, OSError, KeyError):
        return False


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Reads a checkpoint to go on from.

    Raises:
        UserError: a file is missing, damaged, or does not belong to the others.
    """
    path = Path(path)
    weights, optimizer = FileContent(path), FileContent(path.with_suffix(".pdopt"))
    params = read_weights(weights)
    state = read_description(weights)
    if state is None:
        raise UserError(
            f"{path} has no {path.stem}.json beside it, so the run cannot be gone on with",
            f"--resume=none --pretrained {quoted(str(path))}  # a new run from these weights",
        )
    if not optimizer.path.is_file() or optimizer.digest() != state["sha256"]["pdopt"]:
        raise UserError(f"{optimizer.path} is missing or damaged", "resume from another checkpoint")
    progress, kept = _progress(path, state), read_weights(optimizer)
    for name in [name for name in kept if name.endswith(UNCALIBRATED)]:
        params[name.removesuffix(UNCALIBRATED)] = kept.pop(name)
    return Checkpoint(
        path,
        params,
        kept,
        described_info(path, state),
        progress,
        state.get("config", {}),
        state.get("metrics", {}),
    )


def _progress(path: Path, state: dict[str, Any]) -> Progress:
    try:
        values = {RENAMED.get(name, name): value for name, value in state["progress"].items()}
        return Progress(**values)
    except (KeyError, TypeError, AttributeError) as error:
        raise other_version(path, error) from None


def newest_checkpoint(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """Finds where to go on in a run folder.

    Returns:
        The most advanced complete checkpoint, or None, and a message for each one passed over.
    """
    candidates = []
    for twin in folder.glob("*.json"):
        try:
            progress = json.loads(twin.read_bytes())["progress"]
            candidates.append((progress["epoch"], progress["batch"], twin.with_suffix(".pdparams")))
        except (ValueError, KeyError, TypeError):
            candidates.append((-1, 0, twin.with_suffix(".pdparams")))
    passed_over = []
    for incomplete in sorted(folder.glob("*.pdparams")):
        if not incomplete.with_suffix(".json").is_file():
            passed_over.append(f"{incomplete} was not finished")
    for _, _, path in sorted(candidates, reverse=True):
        try:
            return load_checkpoint(path), passed_over
        except UserError as error:
            passed_over.append(error.message)
    return None, passed_over
