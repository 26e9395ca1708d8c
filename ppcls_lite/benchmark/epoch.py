"""`benchmark epoch`: minutes for one epoch as users meet it: decode, train, evaluate."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ppcls_lite.benchmark.builds import OURS, Build, other_builds
from ppcls_lite.benchmark.peers import Peer, measure
from ppcls_lite.benchmark.settings import BenchmarkConfig
from ppcls_lite.benchmark.train import LR
from ppcls_lite.environment import cpu_cores

COLUMNS = (
    "peer", "size", "batch_size", "workers", "threads", "images_per_second", "minutes", "ours_over",
)  # fmt: skip


def rows(config: BenchmarkConfig, say: Callable[[str], None]) -> tuple[list[Any], dict[str, Any]]:
    """Measures every size, batch size and number of workers on all cores."""
    config.require("data_path")
    others, facts = other_builds(config)
    found = []
    for size in config.size:
        for batch_size in config.batch_size:
            for workers in config.workers:
                about = {"size": size, "batch_size": batch_size, "workers": workers}
                group = peers(config, others, about)
                results = measure(group, config.rounds, config.steps or 1, say)
                found += finished([r.row() for r in results], about)
    return found, facts


def peers(config: BenchmarkConfig, others: Sequence[Build], about: dict[str, Any]) -> list[Peer]:
    """Returns `train.py`, and what it is compared with."""
    request = {
        "kind": "epoch", "model": config.model, "lr": LR,
        "data": str(Path(config.data_path or "").resolve()),
    } | about  # fmt: skip

    def ours(name: str, kernels: str, build: Build = OURS) -> Peer:
        return build.peer(name, request | {"cpu_kernels": kernels}, threads=cpu_cores())

    chosen = [ours("ours", "auto"), *(ours(build.name, "auto", build) for build in others)]
    if "bf16" in config.competitors():
        chosen.append(ours("ours, bf16", "bf16"))
    if "paddle" in config.competitors():
        chosen.append(ours("paddle", "off"))
    if "torch" in config.competitors():
        python = config.versus_python or sys.executable
        chosen.append(Peer("torch", "torch_peer.py", request, python=python, threads=cpu_cores()))
    return chosen


def finished(results: list[dict[str, Any]], about: dict[str, Any]) -> list[dict[str, Any]]:
    """Adds what the rows of one group have in common, the minutes, and how much faster ours is."""
    for row in results:
        row |= about
        row.pop("value", None)
        if "error" not in row:
            row["minutes"] = round(row.pop("ms_per_step")["median"] / 60_000, 3)
            if "error" not in results[0]:
                ours = results[0]["images_per_second"]
                row["ours_over"] = round(ours / row["images_per_second"], 2)
    return results
