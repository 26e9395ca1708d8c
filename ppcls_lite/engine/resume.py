"""Finding where to go on, and with which settings."""

import dataclasses
from pathlib import Path

from ppcls_lite.engine import checkpoint
from ppcls_lite.engine.checkpoint import Checkpoint
from ppcls_lite.engine.distributed import World
from ppcls_lite.engine.log import RunLog
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.errors import UserError
from ppcls_lite.flags import flags
from ppcls_lite.model_info import ModelInfo

# What a resumed run takes from its command line alone, never from the checkpoint.
NOT_RESUMED = {
    "resume", "pretrained", "start_epoch", "output_dir", "dry_run", "device", "use_gpu", "seed",
}  # fmt: skip


def resume(config: TrainConfig, world: World) -> tuple[TrainConfig, Checkpoint | None]:
    """Finds the checkpoint to go on from, and completes the settings with those of its run."""
    if config.resume is None:
        return config, None
    if config.resume == "auto":
        found, passed_over = checkpoint.newest_checkpoint(Path(config.output_dir))
        log = RunLog(None, enabled=world.is_main)
        for message in passed_over:
            log.line(f"resume: passed over: {message}")
        if found is None:
            log.line(f"resume: no checkpoint in {config.output_dir}; starting from the beginning")
            return config, None
    else:
        found = checkpoint.load_checkpoint(config.resume)
        if not config.given("output_dir"):
            config = dataclasses.replace(config, output_dir=str(found.path.parent))
    known = flags(TrainConfig)
    kept = {
        name: known[name].check(value, f"{found.path.stem}.json: {name}")
        for name, value in found.config.items()
        if name in known and name not in NOT_RESUMED and not config.given(name)
    }
    if "expanded" in found.info.overrides and not config.given("expanded"):
        kept["expanded"] = tuple(found.info.overrides["expanded"])  # pruning chose it
    if config.given("fpgm_ratio") and config.fpgm_ratio != found.config.get("fpgm_ratio", 0.0):
        raise UserError(
            f"--fpgm-ratio {config.fpgm_ratio:g}: filters are pruned before the first step only",
            f"--pretrained {found.path} starts a new run from its weights",
        )
    if config.given("seed") and config.seed != found.progress.seed:
        raise UserError(
            f"--seed {config.seed}, but the run to resume has seed {found.progress.seed}",
            "leave --seed out",
        )
    sources = dict(config.sources) | dict.fromkeys(kept, found.path.name)
    config = dataclasses.replace(config, **kept, seed=found.progress.seed, sources=sources)
    if config.opt != found.config.get("opt", config.opt):
        raise UserError(
            f"--opt {config.opt}: {found.path} holds the state of {found.config['opt']}",
            f"--pretrained {found.path} starts a new run from its weights",
        )
    return config, found


def epoch_layout(config: TrainConfig, pictures: int, world: World) -> str:
    """Says how an epoch is cut into batches."""
    return (
        f"{pictures} pictures, batches of {config.batch_size} x {world.size},"
        f" {config.gradient_accumulation_steps} accumulated"
        + f", each picture {config.ra_reps} times"
        * (config.ra_reps > 1)
    )


def check_same_layout(resumed: Checkpoint, layout: str) -> None:
    """Raises UserError when a run that stopped inside an epoch would go on in another one."""
    before = resumed.progress.layout
    if resumed.progress.batch and before != layout:
        raise UserError(
            f"{resumed.path} stopped in the middle of an epoch of other batches:"
            f"\n  then  {before}\n  now   {layout}",
            "keep these settings for now, or resume from a model_<epoch>.pdparams",
        )


def check_same_model(resumed: Checkpoint, info: ModelInfo) -> None:
    """Raises UserError when the checkpoint holds another network than the settings describe."""
    before, now = resumed.info.to_dict(), info.to_dict()
    rows = [f"  {key}: {before[key]} -> {now[key]}" for key in now if before[key] != now[key]]
    if rows:
        raise UserError(
            "\n".join([f"{resumed.path} was trained with other settings:", *rows]),
            f"--pretrained {resumed.path} starts a new run from its weights",
        )
