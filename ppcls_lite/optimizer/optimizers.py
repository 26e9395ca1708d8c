"""Optimizers and their parameter groups."""

from typing import Any

import numpy as np
import paddle
from paddle import nn

from ppcls_lite.optimizer.depth import depths
from ppcls_lite.optimizer.rmsprop import TensorFlowRMSProp, TorchRMSProp
from ppcls_lite.optimizer.settings import OptimizerSettings

# rmsprop as in torchvision's MobileNetV3 recipe, rmsprop_tf as in timm's; the others everywhere.
EPSILON = {"rmsprop": 0.0316, "rmsprop_tf": 1e-3, "adam": 1e-8, "adamw": 1e-8, "lamb": 1e-6}


def parameter_groups(model: nn.Layer, settings: OptimizerSettings) -> list[dict[str, Any]]:
    """Splits the trainable parameters by weight decay and rate.

    Normalisation, biases and clipping thresholds of quantization may decay differently; thresholds
    and the last linear layer may learn at another rate. Batch-norm statistics, which
    `model.parameters()` lists too, are left out.
    """
    decay = {
        "norm": settings.norm_weight_decay,
        "bias": settings.bias_weight_decay,
        "alpha": settings.pact_weight_decay,
    }
    layers = model.sublayers(include_self=True)
    head = [layer for layer in layers if isinstance(layer, nn.Linear)][-1]
    depth = depths(model) if settings.layer_decay < 1 else {}
    groups: dict[tuple[float, float], list[paddle.Tensor]] = {}
    for layer in layers:
        is_norm = isinstance(layer, nn.BatchNorm2D | nn.SyncBatchNorm)
        factor = settings.head_lr_factor if layer is head else 1.0
        factor *= settings.layer_decay ** depth.get(id(layer), 0)
        for name, parameter in layer.named_parameters(include_sublayers=False):
            if parameter.stop_gradient:
                continue
            own = decay.get("norm" if is_norm else name)
            rate = settings.pact_lr_factor if name == "alpha" else factor
            if name == "bias":
                rate *= settings.bias_lr_factor
            key = (settings.weight_decay if own is None else own, rate)
            groups.setdefault(key, []).append(parameter)
    return [
        {"params": params, "weight_decay": weight_decay, "learning_rate": factor}
        for (weight_decay, factor), params in groups.items()
    ]


def build_optimizer(model: nn.Layer, settings: OptimizerSettings) -> paddle.optimizer.Optimizer:
    """Returns the optimizer; its learning rate is set before every step, see `schedule.lr_at`."""
    common: dict[str, Any] = {
        "learning_rate": 0.0,
        "parameters": parameter_groups(model, settings),
    }
    if settings.opt in ("sgd", "nesterov"):
        return paddle.optimizer.Momentum(
            momentum=settings.momentum, use_nesterov=settings.opt == "nesterov", **common
        )
    common["epsilon"] = settings.opt_eps or EPSILON[settings.opt]
    if settings.opt in ("rmsprop", "rmsprop_tf"):
        rule = TorchRMSProp if settings.opt == "rmsprop" else TensorFlowRMSProp
        return rule(rho=settings.opt_alpha, momentum=settings.momentum, **common)
    common["beta1"], common["beta2"] = settings.opt_betas
    if settings.opt == "lamb":
        for group in common["parameters"]:
            # Paddle's own name. A group without decay is not adapted to the weights' norm either.
            group["lamb_weight_decay"], group["weight_decay"] = group["weight_decay"], None
        return paddle.optimizer.Lamb(**common)
    return {"adam": paddle.optimizer.Adam, "adamw": paddle.optimizer.AdamW}[settings.opt](**common)


def _names(model: nn.Layer) -> dict[str, str]:
    """Maps Paddle's own tensor names to structured ones."""
    return {tensor.name: name for name, tensor in model.state_dict().items()}


def named_state(optimizer: paddle.optimizer.Optimizer, model: nn.Layer) -> dict[str, np.ndarray]:
    """Returns the optimizer's state as arrays keyed `<parameter>.<accumulator>`.

    Paddle's keys hold counters of the process (`conv2d_7.w_0_velocity_0`) that change with whatever
    was built before; a checkpoint has to outlive that.
    """
    names = _names(model)
    state = {}
    for key, value in optimizer.state_dict().items():
        if key == "LR_Scheduler" or not isinstance(value, paddle.Tensor):
            continue
        own = max((n for n in names if key.startswith(n + "_")), key=len)
        state[f"{names[own]}.{key[len(own) + 1 :]}"] = value.numpy()
    return state


def load_named_state(
    optimizer: paddle.optimizer.Optimizer, model: nn.Layer, state: dict[str, np.ndarray]
) -> None:
    """Puts back what `named_state` returned."""
    names = {structured: own for own, structured in _names(model).items()}
    restored = {}
    for key, value in state.items():
        structured, _, accumulator = key.rpartition(".")
        restored[f"{names[structured]}_{accumulator}"] = paddle.to_tensor(value)
    optimizer.set_state_dict(restored)
