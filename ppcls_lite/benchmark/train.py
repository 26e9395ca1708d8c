"""`benchmark train`: this library's training step against Paddle's own layers and torch."""

import sys
from collections.abc import Callable
from typing import Any

from ppcls_lite.arch.count import count_operations
from ppcls_lite.arch.zoo import build_model
from ppcls_lite.benchmark.machine import Limits, measure_limits
from ppcls_lite.benchmark.peers import Peer, measure
from ppcls_lite.benchmark.settings import BenchmarkConfig
from ppcls_lite.environment import cpu_cores

LR = 0.01  # low enough for a finite loss on one batch of noise
PADDLE_LAUNCHER = ("-m", "paddle.distributed.launch")
TORCH_LAUNCHER = ("-m", "torch.distributed.run")
COLUMNS = (
    "peer", "size", "batch_size", "processes", "threads", "images_per_second", "ms_per_step",
    "ours_over", "share_of_limit", "peak_mib", "loss",
)  # fmt: skip


def rows(config: BenchmarkConfig, say: Callable[[str], None]) -> tuple[list[Any], dict[str, Any]]:
    """Measures every size, batch size and number of threads.

    Returns:
        The rows: `ours_over` is our images/s over the row's, `share_of_limit` the row's over what
        the machine allows without overlap of arithmetic and memory. And the limits themselves.
    """
    say("measuring the machine's limits")
    all_threads = [threads or cpu_cores() for threads in config.threads]
    limits = {n: measure_limits(n) for n in sorted({1, *all_threads})}
    found = []
    for size in config.size:
        for batch_size in config.batch_size:
            for threads in all_threads:
                group = peers(config, size, batch_size, threads)
                results = [r.row() for r in measure(group, config.rounds, config.steps or 3, say)]
                bound = bounds(config.model, size, limits[threads])
                for row in results:
                    row.update(size=size, batch_size=batch_size)
                    if "error" not in row:
                        row["loss"] = row.pop("value")
                        row["share_of_limit"] = round(row["images_per_second"] / bound[0], 3)
                        if "error" not in results[0]:
                            ours = results[0]["images_per_second"]
                            row["ours_over"] = round(ours / row["images_per_second"], 2)
                    row["limit"] = [round(rate, 1) for rate in bound]
                found += results
    return found, {"limits": [vars(limit) for limit in limits.values()]}


def peers(config: BenchmarkConfig, size: int, batch_size: int, threads: int) -> list[Peer]:
    """Returns the competitors of one table, ours first."""
    request = {
        "kind": "train", "model": config.model, "size": size, "batch_size": batch_size, "lr": LR,
    }  # fmt: skip
    each = max(1, threads // config.processes)

    def peer(name: str, **more: Any) -> Peer:
        torch = name.startswith("torch")
        return Peer(
            name,
            "torch_peer.py" if torch else "our_peer.py",
            request | more,
            python=config.versus_python or sys.executable if torch else sys.executable,
            threads=each,
            processes=config.processes,
            launcher=(
                (*TORCH_LAUNCHER, f"--nproc-per-node={config.processes}")
                if torch
                else (*PADDLE_LAUNCHER, f"--nproc_per_node={config.processes}")
            ),
        )

    chosen = [peer("ours")]
    if "bf16" in config.versus:
        chosen.append(peer("ours, bf16", cpu_kernels="bf16"))
    if "paddle" in config.versus:
        chosen.append(peer("paddle", cpu_kernels="off"))
    if "torch" in config.versus:
        chosen.append(peer("torch", compile=False))
    if "torch.compile" in config.versus:  # it compiles for minutes
        chosen.append(peer("torch.compile", compile=True))
    return chosen


def bounds(model: str, size: int, limits: Limits) -> tuple[float, float]:
    """Returns the images/s that the machine allows, without and with overlap."""
    count = count_operations(build_model(model), size)
    return limits.images_per_second(count.macs, count.normalised)
