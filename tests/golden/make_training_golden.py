"""Writes training.npz: fifty steps of training by torch, from training_steps.py's facts.

Run with torch 2.13 and torchvision 0.28 (not part of this project's requirements); PHOTOS is the
training folder of clothing10:

    cd tests && python -m golden.make_training_golden PHOTOS

Batch norm keeps the biased variance, as Paddle's does, so that its statistics can be compared.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from golden import training_steps as facts
from golden.make_arch_golden import build, state, to_paddle
from golden.make_optimizer_golden import BiasedVariance


def train(case: facts.Case, photos: Path) -> dict[str, np.ndarray]:
    dtype = getattr(torch, case.dtype)
    model = build(case.model, facts.NUM_CLASSES, dropout=0.0).to(dtype).train()
    with torch.no_grad():
        for key, tensor in state(model).items():
            values = torch.from_numpy(facts.start(key, to_paddle(tensor).shape))
            tensor.copy_(values.T if tensor.ndim == 2 else values)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            BiasedVariance(layer)
            layer.eps = float(np.float32(layer.eps))  # as Paddle keeps it
    optimizer = torch.optim.SGD(
        model.parameters(), lr=1.0, momentum=facts.MOMENTUM, weight_decay=facts.WEIGHT_DECAY
    )
    losses = []
    for step in range(facts.STEPS):
        images, labels = facts.batch(case, photos, step)
        optimizer.param_groups[0]["lr"] = facts.rate(case, step)
        optimizer.zero_grad()
        logits = model(torch.from_numpy(images).to(dtype))
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(case, losses[0], losses[-1], flush=True)
    samples = [facts.sample(to_paddle(t)) for _, t in sorted(state(model).items())]
    return {
        f"{case}/losses": np.array(losses),
        f"{case}/samples": np.concatenate(samples).astype(np.float32),
    }


def main() -> None:
    golden: dict[str, np.ndarray] = {}
    for case in facts.CASES:
        golden |= train(case, Path(sys.argv[1]))
    np.savez_compressed(Path(__file__).with_name("training.npz"), **golden)


if __name__ == "__main__":
    main()
