"""`tools/validate.py`: `train.py --test-only`, by MindCV's name for it."""

import dataclasses

from ppcls_lite.commands import train
from ppcls_lite.config import ValidateConfig


def run(config: ValidateConfig) -> int:
    """Evaluates weights on the validation pictures; returns the exit status."""
    return train.run(dataclasses.replace(config, test_only=True))
