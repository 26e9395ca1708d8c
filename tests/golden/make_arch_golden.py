"""Writes arch.npz: what torchvision's models compute from the weights and inputs of formula.py.

Run with torch 2.13 and torchvision 0.28 installed (not part of this project's requirements):

    cd tests && python -m golden.make_arch_golden

Everything is computed in float64, so a test that compares float32 results sees its own rounding
only. Names and layouts are Paddle's.
"""

import itertools
from pathlib import Path

import numpy as np
import torch
from golden import formula

# torchvision's CUDA wheel on a CPU-only torch: two operators it registers have no schema yet.
_library = torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    _library.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import torchvision  # noqa: E402

MODELS = (
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "mnasnet0_5",
    "mnasnet0_75",
    "mnasnet1_0",
    "mnasnet1_3",
)
WIDTHS = (0.35, 0.75)  # at 0.35 the last convolution is not the rounded 576 or 960 of the table


def state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Name in Paddle's convention -> the model's own tensor, still in torch's layout."""
    rename = {"running_mean": "_mean", "running_var": "_variance"}
    entries = {}
    for key, tensor in model.state_dict(keep_vars=True).items():
        prefix, _, last = key.rpartition(".")
        if last != "num_batches_tracked":
            entries[f"{prefix}.{rename.get(last, last)}"] = tensor
    return entries


def to_paddle(tensor: torch.Tensor) -> np.ndarray:
    """A copy in Paddle's layout: linear weights are [in, out]."""
    values = tensor.detach().numpy()
    return (values.T if values.ndim == 2 else values).copy()


def build(name: str, num_classes: int = formula.NUM_CLASSES, **options: float) -> torch.nn.Module:
    return getattr(torchvision.models, name)(num_classes=num_classes, **options)


def build_from_formula(name: str, **options: float) -> torch.nn.Module:
    model = build(name, **options).double()
    with torch.no_grad():
        for key, tensor in state(model).items():
            values = torch.from_numpy(formula.weight(key, to_paddle(tensor).shape))
            tensor.copy_(values.T if tensor.ndim == 2 else values)
    return model


def count_macs(model: torch.nn.Module) -> int:
    macs = 0

    def add(layer: torch.nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        nonlocal macs
        macs += output.numel() * layer.weight[0].numel()

    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            layer.register_forward_hook(add)
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, 224, 224))
    return macs


def layout(name: str, **options: float) -> dict[str, np.ndarray]:
    """What a freshly built model is made of.

    Returns:
        counts: trainable values, values with batch norm's statistics, MACs at 224.
        keys: every key with its shape.
        initial: standard deviation and largest magnitude of every weight that starts at random.
    """
    torch.manual_seed(0)
    model = build(name, num_classes=1000, **options)
    entries = state(model)
    trainable = sum(p.numel() for p in model.parameters())
    everything = sum(t.numel() for t in entries.values())
    weights = [entries[key] for key in sorted(entries) if entries[key].ndim > 1]
    return {
        "counts": np.array([trainable, everything, count_macs(model)]),
        "keys": np.array(
            " ".join(f"{k} {list(to_paddle(t).shape)}" for k, t in sorted(entries.items()))
        ),
        "initial": np.array([(w.std().item(), w.abs().max().item()) for w in weights]),
    }


def statistics_moves(
    before: dict[str, np.ndarray], model: torch.nn.Module, sizes: dict[str, int], momentum: float
) -> dict[str, np.ndarray]:
    """How far one training step moves the running statistics when they keep the biased variance.

    torch keeps the unbiased one, n / (n - 1) times larger; Paddle the biased one.
    """
    moves = {}
    for key, tensor in state(model).items():
        if key.endswith(("_mean", "_variance")):
            old, new = before[key], to_paddle(tensor)
            batch = (new - (1 - momentum) * old) / momentum
            if key.endswith("_variance"):
                n = sizes[key.rpartition(".")[0]]
                batch *= (n - 1) / n
            moves[key] = momentum * (batch - old)
    return moves


def train(name: str) -> dict[str, np.ndarray]:
    """Gradients and statistics of the first step, losses and weights after formula.STEPS steps."""
    model = build_from_formula(name, dropout=0.0).train()
    before = {key: to_paddle(t) for key, t in state(model).items()}
    images = torch.from_numpy(formula.images()).double().requires_grad_()
    labels = torch.from_numpy(formula.labels())
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=formula.LR,
        momentum=formula.MOMENTUM,
        weight_decay=formula.WEIGHT_DECAY,
    )
    sizes: dict[str, int] = {}  # values per channel that batch norm `key` averages
    bn_layers = {k: m for k, m in model.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    momentum = next(iter(bn_layers.values())).momentum
    for key, layer in bn_layers.items():
        layer.register_forward_hook(
            lambda _, inputs, __, key=key: sizes.update({key: inputs[0][:, 0].numel()})
        )
    golden: dict[str, np.ndarray] = {}
    losses = []
    for step in range(formula.STEPS):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        losses.append(loss.item())
        if step == 0:
            gradients = {k: to_paddle(t.grad) for k, t in state(model).items() if t.requires_grad}
            golden["gradients"] = formula.fingerprints(gradients)
            golden["input_gradient"] = images.grad[:, :, ::16, ::16].numpy().copy()
            golden["stem_gradient"] = next(iter(gradients.values()))
            golden["statistics"] = formula.fingerprints(
                statistics_moves(before, model, sizes, momentum)
            )
        optimizer.step()
    moved = {k: to_paddle(t) - before[k] for k, t in state(model).items() if t.requires_grad}
    return golden | {"losses": np.array(losses), "moved": formula.fingerprints(moved)}


def main() -> None:
    golden: dict[str, np.ndarray] = {}
    for name in MODELS:
        model = build_from_formula(name).eval()
        with torch.no_grad():
            logits = model(torch.from_numpy(formula.images()).double())
        parts = layout(name) | {"logits": logits.numpy()} | train(name)
        golden |= {f"{name}/{part}": values for part, values in parts.items()}
    for name, width in itertools.product(MODELS[:2], WIDTHS):
        parts = layout(name, width_mult=width)
        golden |= {f"{name}@{width}/{part}": values for part, values in parts.items()}
    # Losses stay float64: there are few, and float32 would hide differences the test can see.
    small = {
        k: v if v.dtype != np.float64 or k.endswith("losses") else v.astype(np.float32)
        for k, v in golden.items()
    }
    np.savez_compressed(Path(__file__).with_name("arch.npz"), **small)


if __name__ == "__main__":
    main()
