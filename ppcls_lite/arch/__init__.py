"""The models: `create_model(name)` builds one, `list_models()` names them all."""

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["count_macs", "count_parameters", "create_model", "list_models"]

if TYPE_CHECKING:
    from ppcls_lite.arch.count import count_macs, count_parameters
    from ppcls_lite.arch.zoo import create_model, list_models

# Imported at first use: weights files are read and fetched without paddle.
_HOMES = {
    "count_macs": "ppcls_lite.arch.count",
    "count_parameters": "ppcls_lite.arch.count",
    "create_model": "ppcls_lite.arch.zoo",
    "list_models": "ppcls_lite.arch.zoo",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'ppcls_lite.arch' has no attribute {name!r}")
