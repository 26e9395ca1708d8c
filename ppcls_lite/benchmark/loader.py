"""`benchmark loader`: training pictures a second, read and augmented, without a network."""

import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ppcls_lite.benchmark.builds import OURS, Build, other_builds
from ppcls_lite.benchmark.peers import Measured, Peer, measure, ours_over
from ppcls_lite.benchmark.settings import BenchmarkConfig
from ppcls_lite.data.dataset import open_split
from ppcls_lite.data.decode import load_image

COPIES = 512
LONG, SHORT = 500, 375  # pixels: the commonest size of ImageNet's training photographs
QUALITY = 95  # about the 110 KB that ImageNet's files have on average
COLUMNS = (
    "peer", "size", "batch_size", "workers", "images_per_second", "over_torchvision", "ours_over",
    "ours_over_range", "peak_mib",
)  # fmt: skip


def rows(config: BenchmarkConfig, say: Callable[[str], None]) -> tuple[list[Any], dict[str, Any]]:
    """Measures every size, batch size and number of workers."""
    config.require("data_path")
    others, facts = other_builds(config)
    found = []
    with tempfile.TemporaryDirectory(prefix="ppcls-bench-") as folder:
        root = Path(config.data_path or "").resolve()
        if config.imagenet_sized:
            say(f"writing {COPIES} images of {LONG} x {SHORT} pixels")
            facts["mean_kb"] = write_copies(root, Path(folder))
            root = Path(folder)
        for size in config.size:
            for batch_size in config.batch_size:
                for workers in config.workers:
                    about = {"size": size, "batch_size": batch_size, "workers": workers}
                    group = peers(config, others, root, about)
                    results = measure(group, config.rounds, config.steps or 1, say)
                    found += finished(compared(results), about)
    return found, facts


def peers(
    config: BenchmarkConfig, others: Sequence[Build], root: Path, about: dict[str, Any]
) -> list[Peer]:
    """Returns ours and, when asked for, torchvision's."""
    request = {"kind": "loader", "data": str(root)} | about
    chosen = [
        build.peer(f"{build.name}, {decode}", request | {"decode": decode})
        for decode in config.decode
        for build in (OURS, *others)
    ]
    if "torch" in config.competitors():
        python = config.versus_python or sys.executable
        chosen.append(Peer("torchvision", "torch_peer.py", request, python=python))
    return chosen


def compared(results: list[Measured]) -> list[dict[str, Any]]:
    """Returns the rows, each with how much faster ours is that reads in the same way."""
    mine = {None: results[0]}  # for torchvision
    for result in results:
        mine.setdefault(result.peer.request.get("decode"), result)  # ours comes first
    return [r.row() | ours_over(mine[r.peer.request.get("decode")], r) for r in results]


def finished(results: list[dict[str, Any]], about: dict[str, Any]) -> list[dict[str, Any]]:
    """Adds what the rows of one group have in common, and each one's speed over torchvision's."""
    base = results[-1].get("images_per_second") if results[-1]["peer"] == "torchvision" else None
    for row in results:
        row |= about
        row.pop("value", None)
        if base and "error" not in row:
            row["over_torchvision"] = round(row["images_per_second"] / base, 2)
    return results


def write_copies(root: Path, folder: Path) -> int:
    """Writes pictures of the training split as JPEG files of ImageNet's usual size.

    Returns:
        Their mean size, KB.
    """
    data = open_split(str(root), "train", None)
    size = 0
    for number in range(COPIES):
        # Spread over the whole set, which is sorted by class.
        image = load_image(data.path(number * len(data) // COPIES))
        target = (LONG, SHORT) if image.width >= image.height else (SHORT, LONG)
        path = folder / "train" / f"class{number % 2}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.resize(target, Image.Resampling.BICUBIC).save(path, quality=QUALITY)
        size += path.stat().st_size
    return round(size / COPIES / 1000)
