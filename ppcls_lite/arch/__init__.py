"""The models: `create_model(name)` builds one, `list_models()` names them all."""

from ppcls_lite.arch.count import count_macs, count_parameters
from ppcls_lite.arch.zoo import create_model, list_models

__all__ = ["count_macs", "count_parameters", "create_model", "list_models"]
