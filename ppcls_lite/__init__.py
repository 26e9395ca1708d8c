"""MobileNetV3 and MnasNet in PaddlePaddle: train, check, export, serve.

from ppcls_lite import create_model, list_models, load_weights, Predictor
"""

import importlib
from typing import TYPE_CHECKING, Any

from ppcls_lite.version import __version__ as __version__

__all__ = ["Predictor", "create_model", "list_models", "load_weights"]

if TYPE_CHECKING:
    from ppcls_lite.arch.zoo import list_models
    from ppcls_lite.deploy.predictor import Predictor
    from ppcls_lite.weights.create import create_model
    from ppcls_lite.weights.load import load_weights

# Imported at first use: paddle takes a second, and a server with ONNX files has none.
_HOMES = {
    "create_model": "ppcls_lite.weights.create",
    "list_models": "ppcls_lite.arch.zoo",
    "load_weights": "ppcls_lite.weights.load",
    "Predictor": "ppcls_lite.deploy.predictor",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'ppcls_lite' has no attribute {name!r}")
