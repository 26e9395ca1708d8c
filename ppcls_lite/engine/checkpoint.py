"""Checkpoints: three files that belong together, never half-written, read without running code.

    X.pdparams  named weights and batch-norm statistics       (readable by paddle.load)
    X.pdopt     optimizer state, named after the weights       (readable by paddle.load)
                With a moving average, X.pdparams holds it, because it is what was evaluated, and
                X.pdopt also the weights that are being trained, as NAME.trained.
    X.json      everything else, for people and programs: where the run stands, the network, class
                names, preprocessing, settings, versions, and the SHA-256 of the two others

The JSON is written last: a checkpoint is complete when its hashes agree.
"""

import io
import json
import os
import shutil
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from ppcls_lite.config import DEFAULT_MODEL
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.errors import UserError
from ppcls_lite.files import file_sha256, write_atomically
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.weights.formats import read_weights
from ppcls_lite.weights.tags import tag_of_file, tags_of
from ppcls_lite.weights.writing import write_weights

PARTS = (".pdparams", ".pdopt", ".json")
DESCRIBED = (".pdparams", ".safetensors")  # may have a JSON beside them
TRAINED = ".trained"
PEER = "peer."  # before everything of the second student of --distill-loss dml, in X.pdopt


@dataclass
class Progress:
    """Where a run stands.

    Attributes:
        epoch: number of the epoch to go on with, from 0.
        batch: batches of that epoch that are done.
        step: optimizer steps done in all.
        best_top1: best validation accuracy so far; -1 before the first evaluation.
        seed: of the whole run; every random draw follows from it, the epoch and the batch or
            sample, so no generator state has to be kept.
        loss_scale: of the mixed-precision scaler; 0 without one.
        ema_updates: updates of the moving average since its last restart; 0 without one.
        layout: how an epoch is cut into batches; `batch` has a meaning only under the same one.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_top1: float = -1.0
    seed: int = 0
    loss_scale: float = 0.0
    ema_updates: int = 0
    layout: str = ""


@dataclass(frozen=True)
class Checkpoint:
    """What was read back from the three files."""

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
            k: v for k, v in self.optimizer.items() if not k.endswith(TRAINED) and k[:5] != PEER
        }

    @property
    def peer(self) -> dict[str, np.ndarray]:
        """The state of the second student, see `Peer.state`; empty without one."""
        own = {k: v for k, v in self.optimizer.items() if k.startswith(PEER)}
        return {k.removeprefix(PEER): v for k, v in own.items()}


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
    import paddle

    # A complete older checkpoint of this name must not vouch for the new files.
    path.with_suffix(".json").unlink(missing_ok=True)
    hashes = {}
    for suffix, state in ((".pdparams", params), (".pdopt", optimizer)):
        buffer = io.BytesIO()
        paddle.save(state, buffer)
        write_atomically(path.with_suffix(suffix), buffer.getvalue())
        hashes[suffix[1:]] = file_sha256(path.with_suffix(suffix))
    state = info.to_dict() | {"progress": asdict(progress)} | extra | {"sha256": hashes}
    write_atomically(
        path.with_suffix(".json"), (json.dumps(state, indent=1, allow_nan=False) + "\n").encode()
    )


def save_weights(
    path: Path,
    params: dict[str, np.ndarray],
    info: ModelInfo,
    extra: dict[str, Any] | None = None,
) -> None:
    """Writes weights to use, not to go on training with, and their JSON with `extra` in it."""
    path.with_suffix(".json").unlink(missing_ok=True)
    write_weights(path, params)
    state = info.to_dict() | {
        "progress": asdict(Progress()), "metrics": {},
        "sha256": {path.suffix[1:]: file_sha256(path)},
    } | (extra or {})  # fmt: skip
    write_atomically(path.with_suffix(".json"), (json.dumps(state, indent=1) + "\n").encode())


def link_checkpoint(source: Path, target: Path) -> None:
    """Gives a checkpoint a second name without a second copy (a copy where links do not work)."""
    if source.resolve() == target.resolve():
        return
    target.with_suffix(".json").unlink(missing_ok=True)
    for suffix in PARTS:
        part = target.with_name(f".{target.stem}{suffix}.part")
        part.unlink(missing_ok=True)
        try:
            os.link(source.with_suffix(suffix), part)
        except OSError:
            shutil.copy2(source.with_suffix(suffix), part)
        os.replace(part, target.with_suffix(suffix))
        part.unlink(missing_ok=True)  # renaming between two links of one file does nothing


def remove_checkpoint(path: Path) -> None:
    """Deletes the files of a checkpoint."""
    for suffix in reversed(PARTS):
        path.with_suffix(suffix).unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any] | None:
    """Reads the JSON twin of a weights file and checks that the two belong together.

    Returns None when there is no twin.

    Raises:
        UserError: the twin is damaged or speaks of other weights.
    """
    twin = path.with_suffix(".json")
    if path.suffix not in DESCRIBED or not twin.is_file():
        return None
    try:
        state = json.loads(twin.read_bytes())
        expected = state["sha256"][path.suffix[1:]]
    except (ValueError, KeyError, TypeError):
        if path.suffix != ".pdparams":
            return None  # other frameworks put other JSON files beside theirs
        raise UserError(f"{twin} is damaged or is not the description of a checkpoint") from None
    if path.is_file() and file_sha256(path) != expected:
        raise UserError(
            f"{path} and {twin.name} do not belong together (SHA-256 differs)",
            "copy both files of the checkpoint again",
        )
    return state


def read_model_info(
    path: str | Path, model: str | None = None, num_classes: int | None = None
) -> ModelInfo:
    """Tells which network a weights file holds.

    Args:
        path: the weights; the JSON beside them, if any, is believed.
        model: name to assume for weights without one (document 002's files); None takes the network
            of the published file of this name, or DEFAULT_MODEL.
        num_classes: K to assume for weights without a JSON; None counts them in the file.

    Raises:
        UserError: the twin is damaged, or the weights are to be counted and are not of `model`.
    """
    path = Path(path)
    state = read_json(path)
    if state is not None:
        return understood(path, state)[0]
    tag = tag_of_file(path)
    model = model or (tag.model if tag else DEFAULT_MODEL)
    if num_classes is None:
        from ppcls_lite.weights.mapping import count_classes  # needs paddle; the twin does not

        num_classes = count_classes(read_weights(path), model, label=str(path))
    # They are fed as they were when published, or as the network's published weights are.
    tag = tag or next(iter(tags_of(model)), None)
    preprocess = tag.preprocess if tag else Preprocess()
    # 1000 classes are taken for ImageNet's.
    return ModelInfo(model, num_classes, classes=imagenet_names(num_classes), preprocess=preprocess)


def imagenet_names(num_classes: int) -> tuple[str, ...]:
    """Returns ImageNet's class names for a network of 1000 classes, and none for others."""
    names = resources.files("ppcls_lite.data").joinpath("imagenet_labels.txt").read_text("utf-8")
    classes = tuple(names.splitlines())
    return classes if num_classes == len(classes) else ()


def understood(path: Path, state: dict[str, Any]) -> tuple[ModelInfo, Progress]:
    """Returns the parts of a checkpoint's JSON, or raises UserError when they are not there."""
    try:
        return ModelInfo.from_dict(state), Progress(**state["progress"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path.with_suffix('.json')} is not of this version ({type(error).__name__}: {error})",
            f"--pretrained {path} --model NAME, without the .json beside it",
        ) from None


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Reads a checkpoint to go on from.

    Raises:
        UserError: a file is missing, damaged, or does not belong to the others.
    """
    path = Path(path)
    params = read_weights(path)
    state = read_json(path)
    if state is None:
        raise UserError(
            f"{path} has no {path.stem}.json beside it, so the run cannot be gone on with",
            f"--pretrained {path} starts a new run from these weights",
        )
    optimizer_file = path.with_suffix(".pdopt")
    if not optimizer_file.is_file() or file_sha256(optimizer_file) != state["sha256"]["pdopt"]:
        raise UserError(f"{optimizer_file} is missing or damaged", "resume from another checkpoint")
    info, progress = understood(path, state)
    return Checkpoint(
        path,
        params,
        read_weights(optimizer_file),
        info,
        progress,
        state.get("config", {}),
        state.get("metrics", {}),
    )


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
