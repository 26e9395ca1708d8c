"""Settings become final: what the run to resume, or the weights to start from, add to those given.

This is the only place where a training's settings change. What comes out of it stays as it is.
"""

import dataclasses
import os
import re
import secrets
from pathlib import Path
from typing import Any

import numpy as np

from ppcls_lite.engine.checkpoint import Checkpoint, Progress, load_checkpoint, newest_checkpoint
from ppcls_lite.engine.distributed import World, sum_over_ranks
from ppcls_lite.engine.lock import HOLDER
from ppcls_lite.engine.log import RunLog
from ppcls_lite.engine.samples import fingerprint, what_changed
from ppcls_lite.engine.sets import Sets
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.errors import UserError
from ppcls_lite.files import staged
from ppcls_lite.flags import flags
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.program import quoted
from ppcls_lite.weights.find import Weights, find_weights

SHARE = "PPCLS_LITE_SHARE"  # "MACHINES/ASKED FOR", of tools/launch.py
# As checkpoints keep it; those of earlier versions must match.
BATCHING = r"(\d+) pictures, batches of (\d+) x (\d+), (\d+) accumulated(.*)"

# What a resumed run takes from its command line alone, never from the checkpoint.
NOT_RESUMED = {
    "resume", "pretrained", "start_epoch", "output_dir", "dry_run", "device", "use_gpu", "seed",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Resolved:
    """What a run is built from.

    Attributes:
        config: every setting as it holds.
        seed: of the run.
        checkpoint: of the run to go on with, if any.
        weights: those of --pretrained; None in a run that goes on.
        start: what checkpoint or weights say of themselves.
        asked: the settings to keep with checkpoints, where fewer machines than asked for train.
    """

    config: TrainConfig
    seed: int
    checkpoint: Checkpoint | None = None
    weights: Weights | None = None
    start: ModelInfo | None = None
    asked: TrainConfig | None = None


def resolve(config: TrainConfig, world: World) -> Resolved:
    """Finds what to start from, and completes the settings with what it was trained with.

    Raises:
        UserError: there is nothing there, it is damaged, or the settings contradict it.
    """
    checkpoint = find_checkpoint(config, world)
    known: dict[str, Any] = {}
    sources, weights, start = dict(config.sources), None, None
    seed = config.seed if config.seed is not None else common_seed(world)
    if checkpoint:
        start, seed = checkpoint.info, checkpoint.progress.seed
        known = settings_of_run(config, checkpoint)
        sources |= dict.fromkeys(known, checkpoint.path.name)
        known["output_dir"] = str(run_folder(config))
    elif config.pretrained:
        asked = config.model if config.given("model") else None
        weights = find_weights(config.pretrained, asked, download=not config.dry_run)
        start = weights.info
        known = settings_of_network(config, start)
    if known.get("fit", config.fit) != "crop" and not config.given("val_resize_size"):
        known.setdefault("val_resize_size", known.get("val_crop_size", config.val_crop_size))
    config = dataclasses.replace(config, **known, seed=seed, sources=sources)
    if config.fit_head and start is None:
        raise UserError(
            "--fit-head needs features of trained weights", "give --pretrained with weights"
        )
    if not (config.epochs or config.fit_head):
        raise UserError("--epochs 0 trains nothing", "--fit-head 2  # fits the last layer")
    batches = accumulated(config.gradient_accumulation_steps)
    shared = dataclasses.replace(config, gradient_accumulation_steps=batches)
    return Resolved(shared, seed, checkpoint, weights, start, config)


def accumulated(asked: int) -> int:
    """Returns the batches to accumulate, so that a step of fewer machines has as many pictures.

    tools/launch.py says with how many of its machines it goes on.

    Raises:
        UserError: no number of batches makes as many pictures.
    """
    machines, of = map(int, os.environ.get(SHARE, "1/1").split("/"))
    if asked * of % machines:
        raise UserError(
            f"{machines} machines cannot make the batch of {of} out of whole batches",
            f"--gradient-accumulation-steps {machines}  # or --min-nodes of a divisor of {of}",
        )
    return asked * of // machines


def run_folder(config: TrainConfig) -> Path:
    """Returns where a run writes: --output-dir, or beside the checkpoint that --resume names.

    Raises:
        UserError: --resume names a file that is not there; nothing is made in such a folder.
    """
    if config.resume in (None, "auto"):
        return Path(config.output_dir)
    named = Path(config.resume or "")
    folder = Path(config.output_dir) if config.given("output_dir") else named.parent
    found = named.exists() or staged(named).exists()  # the latter of an interrupted save
    if not found and not (folder / HOLDER).exists():  # a training there may not have saved yet
        load_checkpoint(named)  # says what lies there
    return folder


def find_checkpoint(config: TrainConfig, world: World) -> Checkpoint | None:
    """Returns the checkpoint that --resume names, with auto the newest one that is whole."""
    if config.resume is None:
        return None
    if config.resume != "auto":
        return load_checkpoint(config.resume)
    found, passed_over = newest_checkpoint(Path(config.output_dir))
    log = RunLog(None, enabled=world.is_main)
    for message in passed_over:
        log.line(f"resume: passed over: {message}")
    if found is None:
        log.line(f"resume: no checkpoint in {config.output_dir}; starting from the beginning")
    return found


def settings_of_run(config: TrainConfig, found: Checkpoint) -> dict[str, Any]:
    """Returns the settings of the run to go on with, where others are not asked for."""
    known = flags(TrainConfig)
    kept = {
        name: known[name].check(value, f"{found.path.stem}.json: {name}")
        for name, value in found.config.items()
        if name in known and name not in NOT_RESUMED and not config.given(name)
    }
    if "expanded" in found.info.overrides and not config.given("expanded"):
        kept["expanded"] = tuple(found.info.overrides["expanded"])  # pruning chose it
    another_run = (
        f"--resume=none --pretrained {quoted(str(found.path))}  # a new run from its weights"
    )
    if config.given("fpgm_ratio") and config.fpgm_ratio != found.config.get("fpgm_ratio", 0.0):
        raise UserError(
            f"--fpgm-ratio {config.fpgm_ratio:g}: filters are pruned before the first step only",
            another_run,
        )
    if config.given("opt") and config.opt != found.config.get("opt", config.opt):
        raise UserError(
            f"--opt {config.opt}: {found.path} holds the state of {found.config['opt']}",
            another_run,
        )
    if config.given("best_metric"):
        before = found.config.get("best_metric", "top1")
        if config.best_metric != before:
            raise UserError(
                f"--best-metric {config.best_metric}: best of this run is by {before}", another_run
            )
    if config.given("seed") and config.seed != found.progress.seed:
        raise UserError(
            f"--seed {config.seed}, but the run to resume has seed {found.progress.seed}",
            "leave --seed out",
        )
    return kept


def settings_of_network(config: TrainConfig, info: ModelInfo) -> dict[str, Any]:
    """Returns network, interpolation and fit of weights, where others are not asked for."""
    known: dict[str, Any] = {"model": info.name} | info.overrides
    known["interpolation"] = info.preprocess.interpolation
    known["fit"] = info.preprocess.fit
    if "expanded" in known:
        known["expanded"] = tuple(known["expanded"])
    if info.quant_skip is not None:
        known |= {"pact_quant": True, "quant_skip": info.quant_skip}
    return {key: value for key, value in known.items() if not config.given(key)}


def common_seed(world: World) -> int:
    """Returns a random seed, the same on every rank."""
    drawn = secrets.randbelow(2**31) if world.is_main else 0
    return int(sum_over_ranks(np.array([drawn]), world)[0])


def find_place(
    resolved: Resolved, sets: Sets, network: ModelInfo, world: World
) -> tuple[Checkpoint | None, Progress, tuple[str, ...]]:
    """Returns the checkpoint to go on with, the run's place in its epochs, and what to say of both
    and of the data.

    Args:
        network: what settings and data ask for.

    Raises:
        UserError: the checkpoint is of another network or of other batches.
    """
    config, checkpoint = resolved.config, resolved.checkpoint
    batching = describe_batching(config, len(sets.train), world)
    samples, remarks = fingerprint(sets.train), sets.remarks
    if not checkpoint:
        start = Progress(config.start_epoch, seed=resolved.seed, batching=batching, samples=samples)
        return None, start, remarks
    same_place = progress_under(checkpoint.progress, batching)
    checkpoint = dataclasses.replace(checkpoint, progress=same_place)
    remarks = (*remarks, *check_goes_on(checkpoint, network, batching, samples))
    return (
        checkpoint,
        dataclasses.replace(checkpoint.progress, batching=batching, samples=samples),
        remarks,
    )


def describe_batching(config: TrainConfig, pictures: int, world: World) -> str:
    """Says how an epoch is cut into batches."""
    return (
        f"{pictures} pictures, batches of {config.batch_size} x {world.size},"
        f" {config.gradient_accumulation_steps} accumulated"
        + f", each picture {config.ra_reps} times"
        * (config.ra_reps > 1)
    )


def progress_under(before: Progress, batching: str) -> Progress:
    """Returns the same place in a run whose epochs are cut into batches as `batching` says.

    With other machines it is another batch, at the same picture: where a step ends, as many have
    been seen (see `accumulated`).
    """
    then, now = re.fullmatch(BATCHING, before.batching), re.fullmatch(BATCHING, batching)
    if SHARE not in os.environ or not then or not now or before.batching == batching:
        return before
    (pictures, *sizes, reps), (pictures_now, *sizes_now, reps_now) = then.groups(), now.groups()
    step, step_now = (np.prod([int(size) for size in group]) for group in (sizes, sizes_now))
    if (pictures, reps, step) != (pictures_now, reps_now, step_now) or before.batch % int(sizes[2]):
        return before
    batch = before.batch // int(sizes[2]) * int(sizes_now[2])
    return dataclasses.replace(before, batch=batch, batching=batching)


def check_goes_on(
    checkpoint: Checkpoint, info: ModelInfo, batching: str, samples: str
) -> list[str]:
    """Checks that a run can go on from a checkpoint to the bits it would have reached.

    Returns:
        Lines of the plan: that the pictures are others, from the next epoch on.

    Raises:
        UserError: it holds another network than `info`, or it was saved inside of an epoch and the
            rest of that would be cut into other batches, or its pictures are others.
    """
    before, now = checkpoint.info.to_dict(), info.to_dict()
    before.pop("known_limits", None)  # best has them at the end of a run
    if "thresholds" in now:  # chosen after each epoch
        now["thresholds"] = before.get("thresholds")
    rows = [
        f"  {key}: {before.get(key)} -> {now.get(key)}"
        for key in now | before
        if before.get(key) != now.get(key)
    ]
    if rows:
        raise UserError(
            "\n".join([f"{checkpoint.path} was trained with other settings:", *rows]),
            f"--resume=none --pretrained {quoted(str(checkpoint.path))}"
            "  # a new run from its weights",
        )
    progress = checkpoint.progress
    if progress.batch and progress.batching != batching:
        raise UserError(
            f"{checkpoint.path} stopped in the middle of an epoch of other batches:"
            f"\n  then  {progress.batching}\n  now   {batching}",
            "keep these settings for now, or resume from a model_<epoch>.pdparams",
        )
    changed = what_changed(progress.samples, samples, info.classes)
    if changed and progress.batch:
        raise UserError(
            f"{checkpoint.path} stopped in the middle of an epoch of other training images: "
            + changed,
            "put them back, or resume from a model_<epoch>.pdparams",
        )
    if not changed:
        return []
    return [
        f"warning   other training images than before: {changed}",
        "          next: put them back, if this was not meant; the next epochs use what is there",
    ]
