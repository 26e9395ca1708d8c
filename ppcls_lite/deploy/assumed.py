"""What is taken for granted of weights and files that do not say it."""

from pathlib import Path

import numpy as np

from ppcls_lite.data.imagenet import imagenet_names
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.deploy.sidecar import SIDECAR
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.runtimes import OnnxRuntime, OpenVinoRuntime, Runtime
from ppcls_lite.weights.find import Weights


def said_of_weights(weights: Weights) -> str:
    """Says what was taken for granted of weights without a JSON, in one sentence."""
    info, tag = weights.info, weights.tag
    names = "ImageNet's" if info.classes else "unknown"
    known = tag is not None and tag.model == info.name
    says = f"has the name of {tag}" if known else "does not say what it is"
    assuming = f"assuming {info.name} and {info.preprocess}; class names are {names}"
    return f"{weights.path} {says}: {assuming}"


def info_of_file(folder: Path, classes: int, spec: Preprocess) -> tuple[ModelInfo, str]:
    """Returns what is taken for granted of a file in a folder without a sidecar, and says it.

    Args:
        folder: of the file.
        classes: K of its output.
        spec: the preprocessing.
    """
    names = imagenet_names(classes)
    note = (
        f"{folder} has no {SIDECAR}: assuming ImageNet's preprocessing (resize"
        f" {spec.resize_size}, crop {spec.crop_size}); class names are"
        + (" ImageNet's" if names else " unknown")
    )
    return ModelInfo("unknown", classes, classes=names, preprocess=spec), note


def usual_preprocess(run: Runtime) -> Preprocess:
    """Returns ImageNet's preprocessing, scaled to the size that a file demands, if it does."""
    size = run.image_size if isinstance(run, OnnxRuntime | OpenVinoRuntime) else None
    return Preprocess().scaled(size) if size else Preprocess()


def are_probabilities(output: np.ndarray, several: bool) -> bool:
    """Tells softmax output from logits: non-negative rows [N, K] that sum to 1; of several labels
    a picture whatever lies from 0 to 1."""
    if several:
        return bool((output >= 0).all() and (output <= 1).all())
    # float32 softmax sums to 1 within 1e-6; logits meet both conditions practically never.
    return bool((output >= 0).all() and np.allclose(output.sum(axis=1), 1, atol=1e-4))
