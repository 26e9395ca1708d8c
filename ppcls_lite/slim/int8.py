"""A trained network of 8 bits as it is deployed: int8 weights, batch norm inside of them.

Folding is exact: a channel's scale is multiplied by what batch norm multiplies the channel by, and
the int8 values stay the same.
"""

import copy
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from paddle.base.layer_helper import LayerHelper

from ppcls_lite.arch.units import units
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.slim.pact import (
    HIGHEST,
    LOWEST,
    TINY,
    PactConv2D,
    PactLinear,
    convolve,
    replace_layer,
    weight_scale,
)


class _Int8(nn.Layer):
    """Buffers: `weight` int8, `scale` of its channels, `step` of the input, `bias`.

    Only operators that Paddle's formats and paddle2onnx know are used; `slim.onnx_qdq` finds them
    in the ONNX file.
    """

    def __init__(self, layer: PactConv2D | PactLinear, norm: nn.BatchNorm2D | None) -> None:
        super().__init__()
        scale = weight_scale(layer.weight, layer.channel_axis).numpy()  # [O, 1, 1, 1] or [1, out]
        weight = np.rint(layer.weight.numpy() / scale)
        factor, bias = _folded(layer, norm)  # [O], [O]
        factor = factor.reshape(scale.shape)
        step = np.maximum(layer.alpha.numpy(), TINY) / np.float32(HIGHEST)  # [1]
        self._keep("weight", (weight * np.sign(factor)).astype("int8"))
        self._keep("scale", np.maximum(scale * np.abs(factor), TINY))
        self._keep("step", step)
        self.limits = (LOWEST * step.item(), HIGHEST * step.item())
        self._keep("bias", bias)

    def _keep(self, name: str, value: np.ndarray) -> None:
        tensor = paddle.to_tensor(value)
        # Its own name counts every tensor of the process; export needs the same in two processes.
        tensor.name = paddle.utils.unique_name.generate(f"int8_{name}")
        self.register_buffer(name, tensor)

    def _values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the rounded input and the weight, float32."""
        # Clipped first: dividing at once, Paddle Inference 3.3 on oneDNN overwrites a shortcut.
        clipped = paddle.clip(x, *self.limits)
        return _round(clipped / self.step) * self.step, self.weight.astype("float32") * self.scale


def _round(x: Tensor) -> Tensor:
    """Rounds halves to even, also where `paddle.round` has no way: while `.pdmodel` is written."""
    if paddle.framework.in_dynamic_or_pir_mode():
        return paddle.round(x)
    helper = LayerHelper("round")
    out = helper.create_variable_for_type_inference(x.dtype)
    helper.append_op(type="round", inputs={"X": x}, outputs={"Out": out})
    return out


class Int8Conv2D(_Int8):
    """A convolution with int8 weights of 8-bit values."""

    def __init__(self, conv: PactConv2D, norm: nn.BatchNorm2D | None) -> None:
        super().__init__(conv, norm)
        self._stride, self._padding = conv._stride, conv._padding
        self._dilation, self._groups = conv._dilation, conv._groups

    def forward(self, x: Tensor) -> Tensor:
        """Float [N, C, H, W] to [N, O, H/stride, W/stride], by way of 8-bit values."""
        x, weight = self._values(x)
        return convolve(self, x, weight, self.bias)


class Int8Linear(_Int8):
    """A linear layer with int8 weights of 8-bit values."""

    def forward(self, x: Tensor) -> Tensor:
        """Float [N, in] to [N, out], by way of 8-bit values."""
        x, weight = self._values(x)
        return F.linear(x, weight, self.bias)


def _folded(layer: Any, norm: nn.BatchNorm2D | None) -> tuple[np.ndarray, np.ndarray]:
    """Returns what each output is multiplied by and what is added to it, [O] each."""
    outputs = layer.weight.shape[layer.channel_axis]
    bias = np.zeros(outputs, "float32") if layer.bias is None else layer.bias.numpy()
    if norm is None:
        return np.ones(outputs, "float32"), bias
    factor = norm.weight.numpy() / np.sqrt(norm._variance.numpy() + norm._epsilon)
    return factor, norm.bias.numpy() + (bias - norm._mean.numpy()) * factor


def deployable(network: nn.Layer, info: ModelInfo) -> nn.Layer:
    """What to export of a trained network: itself, or its int8 form if it is quantized."""
    return network if info.quant_skip is None else to_int8(network)


def to_int8(model: nn.Layer) -> nn.Layer:
    """A copy of a trained network of `pact.quantize`, in evaluation mode, for deployment."""
    model = copy.deepcopy(model)
    model.eval()
    layers = dict(model.named_sublayers())
    all_units = units(model)
    for unit, following in zip(all_units, [*all_units[1:], None], strict=True):
        layer = layers[unit.ours]
        norm = layers[following.ours] if following and following.part else None
        if isinstance(layer, PactConv2D):
            replace_layer(model, unit.ours, Int8Conv2D(layer, norm))
        elif isinstance(layer, PactLinear):
            replace_layer(model, unit.ours, Int8Linear(layer, norm))
        else:
            continue
        if following and norm is not None:
            replace_layer(model, following.ours, nn.Identity())
    return model
