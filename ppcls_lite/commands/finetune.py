"""`finetune`: chooses what was not given, says why, and trains as `train` does."""

import dataclasses

from ppcls_lite.commands import train
from ppcls_lite.commands.folds import run_all, runs_all
from ppcls_lite.data.named import open_train
from ppcls_lite.engine.choices import choices, find_start
from ppcls_lite.engine.settings import FinetuneConfig, TrainConfig
from ppcls_lite.flags import flags
from ppcls_lite.weights.find import find_weights


def run(config: FinetuneConfig) -> int:
    """Completes the settings and trains; returns the exit status."""
    given = {name: getattr(config, name) for name in flags(TrainConfig)}
    settings = TrainConfig(**given, sources=config.sources, prog=config.prog)
    return run_all(settings, run_one) if runs_all(settings) else run_one(settings)


def run_one(config: TrainConfig) -> int:
    """Completes the settings of one training and trains; returns the exit status."""
    settings = config
    if config.resume in (None, "auto"):
        settings = completed(settings)
    return train.run_one(settings)


def completed(config: TrainConfig) -> TrainConfig:
    """Returns the settings with all that was chosen, after printing each choice.

    A chosen value does not count as given: a run that goes on keeps its own.
    """
    data = open_train(config, config.dry_run, config.val_list)
    start = find_start(config)
    print(start, flush=True)
    info = None
    if start.pretrained:
        asked = config.model if config.given("model") else None
        info = find_weights(start.pretrained, asked, download=not config.dry_run).info
    several = data.labels.ndim == 2
    chosen = list(choices(config, info, len(data), several, len(data.classes)))
    for choice in chosen:
        print(choice, flush=True)
    values = {choice.name: choice.value for choice in chosen}
    return dataclasses.replace(config, pretrained=start.pretrained, **values)
