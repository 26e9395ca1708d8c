"""The network that a checkpoint or an export speaks of, whole, pruned or quantized."""

from paddle import nn

from ppcls_lite.arch.zoo import build_model
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.slim.pact import quantize


def network_of(info: ModelInfo) -> nn.Layer:
    """Builds the network that `info` describes: images [N, 3, H, W] float32 to logits [N, K].

    Raises:
        UserError: as `build_model`.
    """
    model = build_model(info.name, info.num_classes, **info.overrides)
    if info.quant_skip is not None:
        quantize(model, info.quant_skip)
    return model
