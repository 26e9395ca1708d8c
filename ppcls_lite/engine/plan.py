"""What is said and kept before the first step: plan, provenance, dry run, the earlier run."""

import json
import platform
import resource
import shutil
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import PIL

from ppcls_lite.arch.count import count_macs, count_parameters
from ppcls_lite.data.jpeg import unavailable
from ppcls_lite.data.shares import FOLDER as SPLIT_FOLDER
from ppcls_lite.engine import balance, freezing, prospects, tracking
from ppcls_lite.engine.checkpoint import (
    PARTS,
    Checkpoint,
    Progress,
    link_checkpoint,
)
from ppcls_lite.engine.log import VISUALDL_FOLDER
from ppcls_lite.engine.run import Run
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.engine.train import train_batch
from ppcls_lite.files import write_atomically
from ppcls_lite.flags import flags
from ppcls_lite.program import git_commit
from ppcls_lite.slim import fpgm
from ppcls_lite.version import __version__
from ppcls_lite.yaml_files import to_yaml

RUN_FILES = ("model_*.*", "latest.*", "best.*", "metrics.jsonl", "train.log", "config.yaml")


def versions() -> dict[str, str]:
    """Returns the versions that decide about numbers."""
    return {
        "ppcls_lite": __version__,
        "paddle": paddle.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "python": platform.python_version(),
    }


def description(config: TrainConfig) -> dict[str, Any]:
    """Returns what every checkpoint of the run keeps for repeating it."""
    settings = {name: getattr(config, name) for name in flags(TrainConfig)}
    return {
        "config": settings,
        "command": " ".join(sys.argv),
        "git": git_commit(),
        "versions": versions(),
    }


def lines(run: Run) -> list[str]:
    """Returns the plan of a run, line by line."""
    config, info, world = run.config, run.info, run.world
    macs = count_macs(run.model, config.train_crop_size) / 1e6
    steps = -(-len(run.loader) // config.gradient_accumulation_steps)
    plan = [
        "  ".join(f"{name} {version}" for name, version in versions().items()),
        f"model     {info.name}, {info.num_classes} classes, {count_parameters(run.model):,}"
        f" parameters, {macs:.1f} M MACs at {config.train_crop_size} pixels",
        f"weights   {weights_line(run)}",
        f"data      {config.data_path}: {len(run.loader.dataset)} train,"
        f" {len(run.evaluate.loader.dataset)} val images",
        *run.remarks,
        f"decoding  {config.decode}, "
        + (f"by Pillow ({why})" if (why := unavailable()) else "only what a crop shows"),
        f"device    {world.device} x {world.size}",
        f"kernels   {run.kernels}",
        f"batch     {config.batch_size} per device x {world.size} x"
        f" {config.gradient_accumulation_steps} accumulated = {run.effective_batch};"
        f" {steps} steps per epoch",
        *freezing.lines(run.model, config),
        *balance.line(config, run.balance),
        f"lr        {lr_line(run)}",
        f"seed      {run.progress.seed}",
        f"output    {config.output_dir}",
    ]
    if run.teacher:
        plan.append(
            f"teacher   {run.teacher.info.name}, {run.teacher.weights}; {config.distill_loss} loss,"
            f" weight {config.distill_weight:g}"
        )
    plan += prospects.of_the_data(config, run.loader.dataset, run.evaluate.loader.dataset)
    plan += prospects.before(run)
    changed = [
        f"{name}={getattr(config, name)} ({config.sources.get(name, 'chosen')})"
        for name, flag in flags(TrainConfig).items()
        if getattr(config, name) != flag.default
    ]
    plan.append("settings  " + (", ".join(changed) or "all at their defaults"))
    if config.amp_level != "O0" and world.device == "cpu" and "bf16" not in run.kernels:
        why = "has no effect on a CPU without AVX512-BF16 or kernels"
        plan.append(f"warning   --amp-level {config.amp_level} {why}; using fp32")
        plan.append("          next: leave --amp-level out, or train on a GPU")
    if info != run.whole:
        plan += fpgm.report(run.whole, info, config.train_crop_size)
    return plan


def lr_line(run: Run) -> str:
    """Says what the learning rate is and where it comes from."""
    config, batch = run.config, run.effective_batch
    schedule = f"{config.lr_scheduler} schedule"
    if config.lr_scale_batch:
        given = f"{config.lr:g} x {batch} / {config.lr_scale_batch}"
        return f"{run.peak_lr:g} = {given}, {schedule}"
    usual = f" (0.1 per 256 images would be {0.1 * batch / 256:.3g})" * (config.opt == "sgd")
    return f"{config.lr:g} as given, {schedule}{usual}"


def weights_line(run: Run) -> str:
    """Says where the weights come from."""
    report = run.loaded
    if not report.loaded:
        wanted = run.config.pretrained
        return f"initialised; a dry run does not download {wanted}" if wanted else "initialised"
    if run.resumed_from:
        return f"{run.resumed_from}, at epoch {run.progress.epoch}, batch {run.progress.batch}"
    source = str(run.config.pretrained)
    if report.layout != "ours":
        source += f" ({report.layout} layout)"
    source += report.choice
    return "; ".join(filter(None, (source, report.fresh_layers())))


def dry_run(run: Run) -> list[str]:
    """Takes real steps on real data and returns what an epoch will take.

    The first step also allocates; a second one, if the data has it, is the one that is timed.
    """
    freezing.training_mode(run.model, run.config)
    batches = run.loader.epoch(0)
    for _ in range(min(2, len(run.loader))):
        begin = time.perf_counter()
        loss, _, _ = train_batch(run, next(batches))
        loss_value = loss.item()
        seconds = time.perf_counter() - begin
    if run.world.device == "gpu":
        memory = paddle.device.cuda.max_memory_allocated()
    else:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    epoch = seconds * len(run.loader)
    return [
        f"dry run   loss {loss_value:.4f}, {seconds:.2f} s per batch,"
        f" {timedelta(seconds=int(epoch))} per training epoch,"
        f" {timedelta(seconds=int(epoch * run.config.epochs))} for {run.config.epochs} epochs",
        f"memory    {memory / 2**20:.0f} MiB at the highest",
    ]


def prepare_folder(folder: Path, config: TrainConfig, resumed: Checkpoint | None) -> None:
    """Makes a run's folder, with room for its files and its settings in it."""
    folder.mkdir(parents=True, exist_ok=True)
    make_room(folder, resumed)
    if not resumed or not (folder / "config.yaml").is_file():
        write_atomically(folder / "config.yaml", to_yaml(config).encode())
    if resumed and resumed.metrics.get("score", -1.0) == resumed.progress.best_score:
        # A kill between saving the best epoch, of equal ones the later, and naming it so must not
        # lose the name.
        link_checkpoint(resumed.path, folder / "best.pdparams")


def make_room(folder: Path, resumed: Checkpoint | None) -> None:
    """Moves what is not part of this run to `previous-N/`, so that nothing is overwritten.

    That is every file of another run, or, when this one goes on from one of its own checkpoints,
    the later checkpoints and records, which belong to a branch that is given up.
    """
    if resumed is None or resumed.path.parent.resolve() != folder.resolve():
        files = [path for pattern in RUN_FILES for path in folder.glob(pattern)]
        if any(path.suffix in (".pdparams", ".jsonl") for path in files):
            more = (VISUALDL_FOLDER, SPLIT_FOLDER, *tracking.FILES)
            move_aside([*files, *(folder / name for name in more)])
        return
    progress = resumed.progress
    move_aside([path for path in folder.glob("*.*") if is_later(path, progress)])
    metrics = folder / "metrics.jsonl"
    if metrics.is_file():
        write_atomically(metrics, b"".join(records_up_to(progress.step, metrics)))


def records_up_to(step: int, path: Path) -> list[bytes]:
    """Returns the lines of metrics.jsonl of the steps up to `step`; names damaged ones."""
    kept = []
    lines = path.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, LookupError, TypeError):
            # A kill may have cut the last line short; it is later than the checkpoint in any case.
            if number < len(lines) or line.endswith(b"\n"):
                print(f"resume: {path}:{number} is damaged and was left out", flush=True)
    return kept


def is_later(path: Path, progress: Progress) -> bool:
    """Tells whether a file belongs to a checkpoint that is further on than `progress`."""
    twin = path.with_suffix(".json")
    if path.suffix not in PARTS or not twin.is_file():
        return False
    try:
        state = json.loads(twin.read_bytes())["progress"]
        return (state["epoch"], state["batch"]) > (progress.epoch, progress.batch)
    except (ValueError, KeyError, TypeError):
        return True


def move_aside(files: list[Path]) -> None:
    """Moves files that exist to the next free `previous-N/` beside them."""
    files = [path for path in files if path.exists()]
    if not files:
        return
    number = 1
    while (target := files[0].parent / f"previous-{number}").exists():
        number += 1
    target.mkdir()
    for path in files:
        shutil.move(path, target / path.name)
