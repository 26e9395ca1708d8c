"""What a weights file says of itself: the JSON beside it, or what its name and arrays tell."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ppcls_lite.errors import UserError
from ppcls_lite.files import FileContent, file_sha256, replacing, staged, write_atomically
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.program import quoted
from ppcls_lite.weights.writing import write_weights

DESCRIBED = (".pdparams", ".safetensors")  # may have a JSON beside them
# The place in its run that a checkpoint has (`engine.checkpoint.Progress`), of weights of no run.
NO_RUN = {"epoch": 0, "batch": 0}


def read_description(file: FileContent) -> dict[str, Any] | None:
    """Reads the JSON twin of a weights file and checks that the two belong together.

    Returns None when there is no twin.

    Raises:
        UserError: the twin is damaged or speaks of other weights.
    """
    path = file.path
    twin = path.with_suffix(".json")
    if path.suffix not in DESCRIBED or not twin.is_file():
        return None
    try:
        state = json.loads(twin.read_bytes())
        expected = state["sha256"][path.suffix[1:]]
    except (ValueError, KeyError, TypeError):
        if path.suffix != ".pdparams":
            return None  # other frameworks put other JSON files beside theirs
        raise UserError(
            f"{twin} is damaged or is not the description of a checkpoint",
            "copy both files of the checkpoint again",
        ) from None
    if path.is_file() and file.digest() != expected:
        raise UserError(
            f"{path} and {twin.name} do not belong together (SHA-256 differs)",
            f"take {staged(path)}: replacing {path.name} by it was interrupted"
            if staged(path).is_file()
            else "copy both files of the checkpoint again",
        )
    return state


def described_info(path: Path, state: dict[str, Any]) -> ModelInfo:
    """Returns the network that the JSON of the weights `path` speaks of.

    Raises:
        UserError: it was written by another version.
    """
    try:
        return ModelInfo.from_dict(state)
    except (KeyError, TypeError, ValueError) as error:
        raise other_version(path, error) from None


def other_version(path: Path, error: Exception) -> UserError:
    """Returns the complaint about a JSON whose keys or values are not those of this version."""
    described = path.with_suffix(".json")
    older = described.with_suffix(".json.old")
    return UserError(
        f"{described} is not of this version ({type(error).__name__}: {error})",
        f"mv {quoted(str(described))} {quoted(str(older))}  # then name the model with --model",
    )


def save_weights(
    path: Path,
    params: dict[str, np.ndarray],
    info: ModelInfo,
    extra: dict[str, Any] | None = None,
) -> None:
    """Writes weights to use, not to go on training with, and their JSON with `extra` in it."""
    with replacing(path, (path.suffix, ".json")) as new:
        write_weights(new, params)
        state = info.to_dict() | {
            "progress": NO_RUN, "metrics": {}, "sha256": {path.suffix[1:]: file_sha256(new)},
        } | (extra or {})  # fmt: skip
        write_atomically(new.with_suffix(".json"), (json.dumps(state, indent=1) + "\n").encode())
