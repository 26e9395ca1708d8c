"""Writes loss_golden.json: losses and gradients of torch and timm, mixed batches of torchvision.

    python tests/golden/make_loss_golden.py

Needs torch, torchvision and timm (made with 2.13.0, 0.28.0 and 1.0.31); not run by the tests.
"""

import json
from pathlib import Path
from typing import Any

import make_data_golden  # noqa: F401  (makes torchvision importable)
import numpy as np
import torch
import torch.nn.functional as F
from make_data_golden import sha256
from timm.loss import BinaryCrossEntropy, SoftTargetCrossEntropy
from torchvision.transforms import v2

N, K = 6, 5


def tensors() -> tuple[torch.Tensor, ...]:
    """Student's and teacher's logits, hard labels, mixed targets."""
    draws = np.random.RandomState(0)
    student, teacher = (torch.tensor(3 * draws.randn(N, K), dtype=torch.float32) for _ in "st")
    labels = torch.tensor(draws.randint(0, K, N))
    one_hot = F.one_hot(labels, K).float()
    return student, teacher, labels, 0.3 * one_hot + 0.7 * one_hot.roll(1, 0)


def ppcls_symmetric(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """PaddleClas' DMLLoss by its definition: the mean of both KL divergences, per sample."""
    log_a, log_b = F.log_softmax(a, 1), F.log_softmax(b, 1)
    forth = F.kl_div(log_a, log_b, reduction="batchmean", log_target=True)
    back = F.kl_div(log_b, log_a, reduction="batchmean", log_target=True)
    return (forth + back) / 2


def loss_cases() -> dict[str, dict[str, Any]]:
    student, teacher, labels, mixed = tensors()
    student.requires_grad_()
    softened = 16 * F.cross_entropy(student / 4, F.softmax(teacher / 4, 1))
    losses = {
        "ce": F.cross_entropy(student, labels),
        "ce smoothed": F.cross_entropy(student, labels, label_smoothing=0.1),
        "ce mixed": SoftTargetCrossEntropy()(student, mixed),
        "ce mixed smoothed": F.cross_entropy(student, mixed, label_smoothing=0.1),
        "bce": BinaryCrossEntropy(smoothing=0.0)(student, labels),
        "bce smoothed": BinaryCrossEntropy(smoothing=0.1)(student, labels),
        "bce mixed": BinaryCrossEntropy(smoothing=0.0)(student, mixed),
        "soft": F.cross_entropy(student, F.softmax(teacher, 1)),
        "soft 4": softened,
        "soft 4 and labels": 0.25 * F.cross_entropy(student, labels) + 0.75 * softened,
        "js": ppcls_symmetric(student, teacher),
        "dml": 0.5 * (F.cross_entropy(student, labels) + F.cross_entropy(teacher, labels))
        + 0.5 * ppcls_symmetric(student, teacher),
    }
    # Three samples without a label: the others alone count.
    losses["ce, half without labels"] = F.cross_entropy(student[:3], labels[:3])
    cases = {}
    for name, loss in losses.items():
        (gradient,) = torch.autograd.grad(loss, student, retain_graph=True)
        cases[name] = {"loss": loss.item(), "gradient": gradient.tolist()}
    return cases


def mix_cases() -> list[dict[str, Any]]:
    draws = np.random.RandomState(1)
    images = torch.tensor(draws.randn(4, 3, 9, 7), dtype=torch.float32)
    labels = torch.tensor([3, 0, 4, 4])
    cases = []
    for kind in (v2.MixUp, v2.CutMix):
        for share, x, y in [(0.3, 3, 4), (0.9, 0, 8), (0.01, 6, 0), (0.5, 2, 2), (0.999, 1, 1)]:
            transform, places = kind(num_classes=K), iter((x, y))
            transform._dist.sample = lambda shape, share=share: torch.tensor([share])
            torch.randint = lambda high, size, places=places: torch.tensor([next(places)])
            mixed, targets = transform(images, labels)
            drawn = torch.tensor(share).item()  # in single precision, as torchvision draws it
            case = {"kind": kind.__name__.lower(), "share": drawn, "x": x, "y": y}
            result = {"sha256": sha256(mixed.numpy()), "targets": targets.tolist()}
            cases.append(case | result)
    return cases


def main() -> None:
    student, teacher, labels, mixed = tensors()
    golden = {
        "student": student.tolist(),
        "teacher": teacher.tolist(),
        "labels": labels.tolist(),
        "mixed": mixed.tolist(),
        "losses": loss_cases(),
        "mixes": mix_cases(),  # last: it changes torch for good
    }
    file = Path(__file__).with_name("loss_golden.json")
    file.write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
