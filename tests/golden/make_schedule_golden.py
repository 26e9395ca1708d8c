"""Writes schedules.json: learning rates by epoch, as torchvision's and timm's trainings set them.

Run with torch 2.13, torchvision 0.28 and timm 1.0.31 (not part of this project's requirements):

    cd tests && python -m golden.make_schedule_golden

torchvision's training script has a warm-up and a main schedule of torch one after the other,
stepped once an epoch. timm's rates come from its own factory, which its training script calls.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch.optim import lr_scheduler as ls

# torchvision's CUDA wheel on a CPU-only torch: two operators it registers have no schema yet.
_library = torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    _library.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from timm.scheduler import create_scheduler_v2  # noqa: E402

# Our settings for each, with the number of epochs and the rate.
TORCHVISION: list[dict[str, Any]] = [
    {"epochs": 90, "lr": 0.1, "lr_scheduler": "step", "lr_step_size": 30, "lr_gamma": 0.1},
    # MobileNetV3, first recipe
    {"epochs": 60, "lr": 0.064, "lr_scheduler": "step", "lr_step_size": 2, "lr_gamma": 0.973},
    # the "new recipe"
    {"epochs": 60, "lr": 0.5, "lr_scheduler": "cosine", "lr_warmup_epochs": 5,
     "lr_warmup_method": "linear", "lr_warmup_decay": 0.01, "lr_min": 0.0},
    {"epochs": 20, "lr": 0.5, "lr_scheduler": "cosine", "lr_warmup_epochs": 3,
     "lr_warmup_method": "constant", "lr_warmup_decay": 0.25, "lr_min": 0.01},
    {"epochs": 20, "lr": 0.1, "lr_scheduler": "exponential", "lr_step_size": 1, "lr_gamma": 0.9,
     "lr_warmup_epochs": 2, "lr_warmup_decay": 0.1},
    {"epochs": 20, "lr": 0.1, "lr_scheduler": "step", "lr_step_size": 4, "lr_gamma": 0.5,
     "lr_warmup_epochs": 3, "lr_warmup_decay": 0.1},
    # not in its script, but torch's all the same
    {"epochs": 20, "lr": 0.1, "lr_scheduler": "multistep", "lr_milestones": [5, 12, 18],
     "lr_gamma": 0.2},
    {"epochs": 20, "lr": 0.1, "lr_scheduler": "polynomial", "lr_power": 2.0,
     "lr_warmup_epochs": 4, "lr_warmup_decay": 0.5},
]  # fmt: skip
TIMM: list[dict[str, Any]] = [
    # mobilenetv3_large_100: warm-up from 1e-6
    {"epochs": 60, "lr": 0.064, "lr_scheduler": "step", "lr_step_size": 2.4, "lr_gamma": 0.973,
     "lr_warmup_epochs": 3, "lr_warmup_decay": 1e-6 / 0.064, "lr_warmup_prefix": False},
    # the same with noise from 42 to 90 % of the run
    {"epochs": 60, "lr": 0.064, "lr_scheduler": "step", "lr_step_size": 2.4, "lr_gamma": 0.973,
     "lr_warmup_epochs": 3, "lr_warmup_decay": 1e-6 / 0.064, "lr_warmup_prefix": False,
     "lr_noise": [0.42, 0.9]},
    {"epochs": 30, "lr": 0.005, "lr_scheduler": "cosine", "lr_min": 1e-5,
     "lr_warmup_epochs": 5, "lr_warmup_decay": 0.002, "lr_warmup_prefix": False},
    {"epochs": 30, "lr": 0.005, "lr_scheduler": "cosine", "lr_min": 1e-5,
     "lr_warmup_epochs": 5, "lr_warmup_decay": 0.002, "lr_warmup_prefix": True},
    {"epochs": 20, "lr": 0.1, "lr_scheduler": "polynomial", "lr_power": 0.9, "lr_min": 0.001,
     "lr_warmup_epochs": 2, "lr_warmup_decay": 0.1, "lr_warmup_prefix": False},
    # timm drops an epoch before its milestones: these are its 5, 12 and 18
    {"epochs": 20, "lr": 0.1, "lr_scheduler": "multistep", "lr_milestones": [4, 11, 17],
     "lr_gamma": 0.2},
]  # fmt: skip


def optimizer(rate: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)


def torchvision_rates(case: dict[str, Any]) -> list[float]:
    opt, epochs, warmup = optimizer(case["lr"]), case["epochs"], case.get("lr_warmup_epochs", 0)
    left, gamma = epochs - warmup, case.get("lr_gamma")
    main = {
        "step": lambda: ls.StepLR(opt, case["lr_step_size"], gamma),
        "cosine": lambda: ls.CosineAnnealingLR(opt, left, eta_min=case["lr_min"]),
        "exponential": lambda: ls.ExponentialLR(opt, gamma),
        "multistep": lambda: ls.MultiStepLR(opt, case["lr_milestones"], gamma),
        "polynomial": lambda: ls.PolynomialLR(opt, left, case["lr_power"]),
    }[case["lr_scheduler"]]()
    if warmup:
        factor = case["lr_warmup_decay"]
        if case.get("lr_warmup_method") == "constant":
            first: Any = ls.ConstantLR(opt, factor, total_iters=warmup)
        else:
            first = ls.LinearLR(opt, start_factor=factor, total_iters=warmup)
        main = ls.SequentialLR(opt, [first, main], milestones=[warmup])
    rates = []
    for _ in range(epochs):
        rates.append(opt.param_groups[0]["lr"])
        opt.step()
        main.step()
    return rates


def timm_rates(case: dict[str, Any]) -> list[float]:
    opt = optimizer(case["lr"])
    kind = case["lr_scheduler"]
    gamma = case.get("lr_power") if kind == "polynomial" else case.get("lr_gamma", 0.1)
    schedule, _ = create_scheduler_v2(
        opt,
        sched={"polynomial": "poly"}.get(kind, kind),
        # With the prefix timm adds the warm-up to the epochs, here it is a part of them.
        num_epochs=case["epochs"]
        - case.get("lr_warmup_prefix", 0) * case.get("lr_warmup_epochs", 0),
        decay_epochs=case.get("lr_step_size", 90),
        decay_milestones=[m + 1 for m in case.get("lr_milestones", [])],
        decay_rate=gamma,
        min_lr=case.get("lr_min", 0.0),
        warmup_lr=case.get("lr_warmup_decay", 1.0) * case["lr"],
        warmup_epochs=case.get("lr_warmup_epochs", 0),
        warmup_prefix=case.get("lr_warmup_prefix", False),
        noise=case.get("lr_noise"),
    )
    rates = []
    for epoch in range(case["epochs"]):
        schedule.step(epoch)
        rates.append(opt.param_groups[0]["lr"])
    return rates


def main() -> None:
    cases = [{"source": "torchvision", "settings": c, "rates": torchvision_rates(c)}
             for c in TORCHVISION]  # fmt: skip
    cases += [{"source": "timm", "settings": c, "rates": timm_rates(c)} for c in TIMM]
    text = ",\n".join(json.dumps(case) for case in cases)
    Path(__file__).with_name("schedules.json").write_text(f"[\n{text}\n]\n")


if __name__ == "__main__":
    main()
