"""The machine behind the numbers: what it is, and what it can do at most.

python -m ppcls_lite.benchmark.machine     prints the limits for OMP_NUM_THREADS threads
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ppcls_lite.benchmark.peers import HERE, Peer
from ppcls_lite.environment import cpu_cores, cpu_flags

ISAS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")
GEMM_SIDE = 2048  # 16 MB a matrix: the usual peak is reached, and it takes tenths of a second
STREAM_BYTES = 2**28  # an array, eight times a usual last-level cache
REPEATS = 5
# Every convolution's output Z at the least: written and read in the forward pass, read again for
# the backward pass, its gradient written and read, and Z read once more for batch norm's gradient.
PASSES = 6


def machine() -> dict[str, Any]:
    """Returns what the numbers were measured on."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": cpu_name(),
        "cores": cpu_cores(),
        "memory_gib": round(pages / 2**30, 1),
        "isa": [name for name in ISAS if name in cpu_flags()],
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 2),  # above 0.5 before a start: other work
    }


def cpu_name() -> str:
    """Returns the CPU's name as Linux has it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


@dataclass(frozen=True)
class Limits:
    """What the machine reaches on the two things that bound a training step.

    Attributes:
        gemm: float32 matrix product, GFLOP/s.
        copy: a = b over arrays larger than any cache, GB/s of bytes read and written.
        add: a = b + c, the same.
    """

    threads: int
    gemm: float
    copy: float
    add: float

    def images_per_second(self, macs: int, values: int) -> tuple[float, float]:
        """Returns the most training pictures a second: with memory after arithmetic, and meanwhile.

        Seconds of arithmetic: 3 * 2 * macs / gemm (forward, and two products of that size
        backward). Seconds of memory: PASSES * 4 bytes * values / copy.

        Args:
            macs: multiply-adds of one picture's forward pass.
            values: outputs of all convolutions for one picture.
        """
        arithmetic = 6 * macs / (1e9 * self.gemm)
        memory = PASSES * 4 * values / (1e9 * self.copy)
        return 1 / (arithmetic + memory), 1 / max(arithmetic, memory)


def measure_limits(threads: int) -> Limits:
    """Measures in a process of its own, because threads have to be known before numpy loads."""
    command = [sys.executable, "-m", "ppcls_lite.benchmark.machine"]
    environment = Peer("", "", {}, threads=threads).environment()
    done = subprocess.run(
        command,
        cwd=HERE.parents[1],  # -m would prefer a package of the folder the user is in
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return Limits(**json.loads(done.stdout))


def best_seconds(work: Callable[[], object]) -> float:
    """Returns the shortest of a few runs, after one that is not counted."""
    seconds = []
    for _ in range(REPEATS + 1):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return min(seconds[1:])


def limits_here(threads: int) -> dict[str, float]:
    """Measures in this process; numpy has to have been loaded with this number of threads."""
    a, b = np.random.default_rng(0).random((2, GEMM_SIDE, GEMM_SIDE), np.float32)
    gemm = 2 * GEMM_SIDE**3 / best_seconds(lambda: a @ b)
    x, y, z = np.ones((3, threads, STREAM_BYTES // 4 // threads), np.float32)
    with ThreadPoolExecutor(threads) as pool:  # numpy lets other threads run meanwhile
        copy = 2 * x.nbytes / best_seconds(lambda: list(pool.map(np.copyto, x, y)))
        add = 3 * x.nbytes / best_seconds(lambda: list(pool.map(np.add, x, y, z)))
    rates = {"gemm": gemm, "copy": copy, "add": add}
    return {"threads": threads} | {name: round(rate / 1e9, 1) for name, rate in rates.items()}


if __name__ == "__main__":
    print(json.dumps(limits_here(int(os.environ["OMP_NUM_THREADS"]))))
