"""A user's own pre- and postprocessing in the place of ours, without a change of this package."""

import importlib
import importlib.util
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ppcls_lite.errors import UserError
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.program import list_command

# An upright RGB image -> uint8 [H, W, 3], the crop, which is then normalised with the network's
# mean and std; or float32 [3, H, W], what the network reads.
Preprocessor = Callable[[Image.Image, ModelInfo], np.ndarray]
# Probabilities float32 [K] of one picture -> its answer.
Postprocessor = Callable[[np.ndarray, ModelInfo], Any]


def load_hooks(name: str) -> Any:
    """Imports an object with the methods `preprocess`, `postprocess` or both; a class is called.

    Args:
        name: MODULE:OBJECT, or FILE.py:OBJECT. It is the user's own code, and is run.

    Raises:
        UserError: there is no such module or object, or it has neither method.
    """
    place, _, attribute = name.rpartition(":")
    if not place or not attribute.isidentifier():
        raise UserError(
            f"--hooks {name!r}; allowed: MODULE:OBJECT or FILE.py:OBJECT",
            "add a colon and the name of the object",
        )
    module = _load_file(Path(place)) if place.endswith(".py") else _import(place)
    if not hasattr(module, attribute):
        raise UserError(
            f"--hooks {name}: {place} has no {attribute}",
            "give after the colon a class or an object that is defined there",
        )
    found = getattr(module, attribute)
    hooks = found() if isinstance(found, type) else found
    if not (hasattr(hooks, "preprocess") or hasattr(hooks, "postprocess")):
        raise UserError(
            f"--hooks {name}: {attribute} has neither preprocess(image, info) nor"
            " postprocess(probs, info)",
            "give it one of these methods, or both",
        )
    return hooks


def _import(name: str) -> types.ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        by_file = "give its file instead: FILE.py:OBJECT"
        hint = by_file if error.name == name else f"install the package that has {error.name}"
        raise UserError(f"--hooks {name}: {error}", hint) from error


def _load_file(file: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if not file.is_file() or spec is None or spec.loader is None:
        raise UserError(f"--hooks: no file {file}", list_command(file))
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(file.stem, module)  # dataclasses and pickle look there
    spec.loader.exec_module(module)
    return module


def network_input(made: list[np.ndarray], info: ModelInfo) -> np.ndarray:
    """What `Preprocessor` made of N pictures -> float32 [N, 3, H, W].

    Raises:
        TypeError: it made something else.
    """
    size = info.preprocess.crop_size
    kinds = {(array.dtype.name, array.shape) for array in map(np.asarray, made)}
    if kinds == {("uint8", (size, size, 3))}:
        return info.preprocess.normalize(np.stack(made))
    if kinds == {("float32", (3, size, size))}:
        return np.stack(made)
    raise TypeError(
        f"preprocess returned {sorted(kinds)}; allowed: uint8 [{size}, {size}, 3] or"
        f" float32 [3, {size}, {size}], one of them for all images"
    )


def visible(made: np.ndarray, info: ModelInfo) -> np.ndarray:
    """What `Preprocessor` made of a picture -> uint8 [H, W, 3], to look at."""
    if made.dtype == np.uint8:
        return made
    pixels = made.transpose(1, 2, 0) * info.preprocess.std + info.preprocess.mean  # [H, W, 3]
    return (255 * pixels).round().clip(0, 255).astype(np.uint8)
