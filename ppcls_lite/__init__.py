"""MobileNetV3 and MnasNet in PaddlePaddle: train, check, export, serve.

from ppcls_lite import create_model, list_models, load_weights, Predictor
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Predictor", "create_model", "list_models", "load_weights"]

if TYPE_CHECKING:
    from ppcls_lite.arch.weights import load_weights
    from ppcls_lite.arch.zoo import create_model, list_models
    from ppcls_lite.deploy.predictor import Predictor

# Imported at first use: paddle takes a second, and a server with ONNX files has none.
_HOMES = {
    "create_model": "ppcls_lite.arch.zoo",
    "list_models": "ppcls_lite.arch.zoo",
    "load_weights": "ppcls_lite.arch.weights",
    "Predictor": "ppcls_lite.deploy.predictor",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'ppcls_lite' has no attribute {name!r}")
