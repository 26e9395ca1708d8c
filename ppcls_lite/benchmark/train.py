"""`benchmark train`: this library's training step against Paddle's own layers and torch."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from ppcls_lite.arch.count import count_operations
from ppcls_lite.arch.zoo import build_model
from ppcls_lite.benchmark import stages
from ppcls_lite.benchmark.builds import OURS, Build, other_builds
from ppcls_lite.benchmark.machine import Limits, measure_limits
from ppcls_lite.benchmark.peers import Peer, measure, ours_over
from ppcls_lite.benchmark.settings import BenchmarkConfig
from ppcls_lite.environment import cpu_cores

PROFILED = 10  # steps
LR = 0.01  # low enough for a finite loss on one batch of noise
PADDLE_LAUNCHER = ("-m", "paddle.distributed.launch")
TORCH_LAUNCHER = ("-m", "torch.distributed.run")
COLUMNS = (
    "peer", "size", "batch_size", "processes", "threads", "images_per_second", "ms_per_step",
    "ours_over", "ours_over_range", "share_of_limit", "peak_mib", "loss",
)  # fmt: skip


def rows(config: BenchmarkConfig, say: Callable[[str], None]) -> tuple[list[Any], dict[str, Any]]:
    """Measures every size, batch size and number of threads.

    Returns:
        The rows: `ours_over` is our images/s over the row's (`peers.ours_over`), `share_of_limit`
        the row's over what the machine allows without overlap of arithmetic and memory. And the
        limits themselves, the builds, and with `profile` where the time of our steps goes.
    """
    others, facts = other_builds(config)
    say("measuring the machine's limits")
    all_threads = [threads or cpu_cores() for threads in config.threads]
    limits = {n: measure_limits(n) for n in sorted({1, *all_threads})}
    found, profiles = [], []
    for size in config.size:
        for batch_size in config.batch_size:
            for threads in all_threads:
                group = peers(config, others, size, batch_size, threads)
                results = measure(group, config.rounds, config.steps or 3, say)
                bound = bounds(config.model, size, limits[threads])
                for result in results:
                    row = result.row() | {"size": size, "batch_size": batch_size}
                    row |= ours_over(results[0], result)
                    if profiled := row.pop("profile", None):
                        about = {"peer": row["peer"], "size": size, "batch_size": batch_size}
                        profiles.append(about | tables(profiled, limits[threads]))
                    if "error" not in row:
                        row["loss"] = row.pop("value")
                        row["share_of_limit"] = round(row["images_per_second"] / bound[0], 3)
                    row["limit"] = [round(rate, 1) for rate in bound]
                    found.append(row)
    facts |= {"profiles": profiles} if profiles else {}
    return found, facts | {"limits": [vars(limit) for limit in limits.values()]}


def tables(profiled: list[dict[str, Any]], limits: Limits) -> dict[str, Any]:
    """Returns a profile as `benchmark` prints it."""
    return {
        "by_stage": stages.by_stage(profiled, limits),
        "by_part": stages.by_part(profiled, limits),
        "profile": profiled,
    }


def peers(
    config: BenchmarkConfig, others: Sequence[Build], size: int, batch_size: int, threads: int
) -> list[Peer]:
    """Returns the competitors of one table, ours first."""
    request = {
        "kind": "train", "model": config.model, "size": size, "batch_size": batch_size, "lr": LR,
    }  # fmt: skip
    each = max(1, threads // config.processes)
    profiled: dict[str, Any] = {"profile": PROFILED} if config.profile else {}

    def ours(name: str, build: Build = OURS, **more: Any) -> Peer:
        launcher = (*PADDLE_LAUNCHER, f"--nproc_per_node={config.processes}")
        processes = config.processes
        return build.peer(
            name, request | more, threads=each, processes=processes, launcher=launcher
        )

    def torch(name: str, compiled: bool) -> Peer:
        launcher = (*TORCH_LAUNCHER, f"--nproc-per-node={config.processes}")
        python = config.versus_python or sys.executable
        told = request | {"compile": compiled}
        return Peer(name, "torch_peer.py", told, python, each, config.processes, launcher)

    chosen = [ours("ours", **profiled), *(ours(build.name, build) for build in others)]
    if "bf16" in config.competitors():
        chosen.append(ours("ours, bf16", cpu_kernels="bf16", **profiled))
    if "paddle" in config.competitors():
        chosen.append(ours("paddle", cpu_kernels="off"))
    if "torch" in config.competitors():
        chosen.append(torch("torch", compiled=False))
    if "torch.compile" in config.competitors():  # it compiles for minutes
        chosen.append(torch("torch.compile", compiled=True))
    return chosen


def bounds(model: str, size: int, limits: Limits) -> tuple[float, float]:
    """Returns the images/s that the machine allows, without and with overlap."""
    count = count_operations(build_model(model), size)
    return limits.images_per_second(count.macs, count.normalised)
