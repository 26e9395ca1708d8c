"""Writes order_golden.json: which samples timm's RepeatAugSampler (torchvision's RASampler) takes.

    python tests/golden/make_order_golden.py

Needs torch, torchvision and timm (made with 2.13.0, 0.28.0 and 1.0.31); not run by the tests.
"""

import json
from pathlib import Path

import make_data_golden  # noqa: F401  (makes torchvision importable)
import numpy as np
import torch
from make_data_golden import sha256
from timm.data.distributed_sampler import RepeatAugSampler

SEED, EPOCH = 5, 3


def main() -> None:
    rows = []
    for count in (20, 255, 256, 600, 1030):
        for world_size in (1, 2, 3):
            for reps in (2, 3, 4):
                # Our permutation in the place of torch's.
                permutation = np.random.default_rng((SEED, EPOCH)).permutation(count)
                torch.randperm = lambda n, generator, order=permutation: torch.tensor(order)
                for rank in range(world_size):
                    sampler = RepeatAugSampler(range(count), world_size, rank, num_repeats=reps)
                    taken = np.array(list(sampler), np.int64)
                    case = {"count": count, "world_size": world_size, "reps": reps, "rank": rank}
                    rows.append(case | {"length": len(taken), "sha256": sha256(taken)[:12]})
    text = ",\n ".join(json.dumps(row) for row in rows)
    Path(__file__).with_name("order_golden.json").write_text(f"[{text}]\n")


if __name__ == "__main__":
    main()
