"""Writes optimizers.npz: ten training steps by every optimizer, and moving averages over them.

Run with torch 2.13, torchvision 0.28 and timm 1.0.31 (not part of this project's requirements):

    cd tests && python -m golden.make_optimizer_golden

mobilenet_v3_small at half width from formula.py's numbers, in float64: what differs is a rule, not
rounding. Norm layers and biases do not decay, the last layer learns at three times the rate, and
the rate falls in the middle, which shows whether it stands inside the momentum.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden import formula
from golden.make_arch_golden import state, to_paddle
from golden.optimizer_steps import (
    EMA,
    HEAD_FACTOR,
    RATES,
    STEPS,
    STEPS_PER_EPOCH,
    WEIGHT_DECAY,
    WIDTH,
    rate,
)  # fmt: skip


def build() -> torch.nn.Module:
    from torchvision.models import mobilenet_v3_small

    model = mobilenet_v3_small(width_mult=WIDTH, num_classes=formula.NUM_CLASSES, dropout=0.0)
    model = model.double().train()
    with torch.no_grad():
        for key, tensor in state(model).items():
            values = torch.from_numpy(formula.weight(key, to_paddle(tensor).shape))
            tensor.copy_(values.T if tensor.ndim == 2 else values)
    return model


def groups(model: torch.nn.Module, lr: float) -> list[dict[str, Any]]:
    found = []
    for name, parameter in model.named_parameters():
        decay = WEIGHT_DECAY if parameter.ndim > 1 else 0.0
        factor = HEAD_FACTOR if name.startswith("classifier.3.") else 1.0
        found.append({"params": [parameter], "weight_decay": decay, "lr": lr * factor,
                      "factor": factor})  # fmt: skip
    return found


def optimizer(opt: str, model: torch.nn.Module) -> torch.optim.Optimizer:
    from timm.optim import Lamb, RMSpropTF

    params = groups(model, RATES[opt])
    if opt in ("sgd", "nesterov"):
        return torch.optim.SGD(params, lr=1.0, momentum=0.9, nesterov=opt == "nesterov")
    if opt == "rmsprop":
        return torch.optim.RMSprop(params, alpha=0.9, momentum=0.9, eps=0.0316)
    if opt == "rmsprop_tf":
        return RMSpropTF(params, alpha=0.9, momentum=0.9, eps=1e-3)
    if opt == "adam":
        return torch.optim.Adam(params)
    if opt == "adamw":
        return torch.optim.AdamW(params)
    return Lamb(params, max_grad_norm=None)


class BiasedVariance:
    """Makes batch norm keep the biased variance of a batch, as Paddle does."""

    def __init__(self, layer: torch.nn.BatchNorm2d) -> None:
        self.layer = layer
        layer.register_forward_pre_hook(self.before)
        layer.register_forward_hook(self.after)

    def before(self, _: Any, __: Any) -> None:
        self.old = self.layer.running_var.clone()

    def after(self, _: Any, inputs: Any, __: Any) -> None:
        n, keep = inputs[0][:, 0].numel(), 1 - self.layer.momentum
        moved = self.layer.running_var - keep * self.old
        self.layer.running_var.data.copy_(keep * self.old + moved * (n - 1) / n)


class Torchvision:
    """The moving average of torchvision's training script, told in its terms for one process."""

    def __init__(self, model: torch.nn.Module) -> None:
        adjust = formula.BATCH * EMA["steps"] / EMA["epochs"]
        alpha = min(1.0, (1.0 - EMA["decay"]) * adjust)
        decay = 1.0 - alpha
        self.average = torch.optim.swa_utils.AveragedModel(
            model, avg_fn=lambda e, m, _: decay * e + (1 - decay) * m, use_buffers=True
        )

    def update(self, model: torch.nn.Module, step: int) -> None:
        epoch, i = divmod(step, STEPS_PER_EPOCH)
        if i % EMA["steps"] == 0:
            self.average.update_parameters(model)
            if epoch < EMA["warmup_epochs"]:
                self.average.n_averaged.fill_(0)

    @property
    def module(self) -> torch.nn.Module:
        return self.average.module


class Timm:
    """timm's moving average as its training script uses it."""

    def __init__(self, model: torch.nn.Module) -> None:
        from timm.utils import ModelEmaV3

        self.average = ModelEmaV3(model, decay=EMA["decay"])

    def update(self, model: torch.nn.Module, step: int) -> None:
        self.average.update(model, step=step + 1)

    @property
    def module(self) -> torch.nn.Module:
        return self.average.module


def train(opt: str) -> dict[str, np.ndarray]:
    model = build()
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            BiasedVariance(layer)
    averages = {"torchvision": Torchvision(model), "plain": Timm(model)} if opt == "sgd" else {}
    before = {key: to_paddle(t) for key, t in state(model).items()}
    rule = optimizer(opt, model)
    images = torch.from_numpy(formula.images()).double()
    labels = torch.from_numpy(formula.labels())
    losses = []
    for step in range(STEPS):
        for group in rule.param_groups:
            group["lr"] = rate(opt, step) * group["factor"]
        rule.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        rule.step()
        losses.append(loss.item())
        for average in averages.values():
            average.update(model, step)

    def moved(of: torch.nn.Module) -> np.ndarray:
        return formula.fingerprints({k: to_paddle(t) - before[k] for k, t in state(of).items()})

    golden = {f"{opt}/losses": np.array(losses), f"{opt}/moved": moved(model)}
    return golden | {f"ema/{name}": moved(average.module) for name, average in averages.items()}


def main() -> None:
    golden = {}
    for opt in RATES:
        golden |= train(opt)
        print(opt, golden[f"{opt}/losses"])
    small = {k: v if k.endswith("losses") else v.astype(np.float32) for k, v in golden.items()}
    np.savez_compressed(Path(__file__).with_name("optimizers.npz"), **small)


if __name__ == "__main__":
    main()
