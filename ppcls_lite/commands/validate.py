"""`tools/validate.py`, MindCV's name, and `train.py --test-only`: weights against the pictures."""

from ppcls_lite.commands import test_only
from ppcls_lite.engine.distributed import pick_device, start_world
from ppcls_lite.engine.settings import ValidateConfig


def run(config: ValidateConfig) -> int:
    """Evaluates weights on the validation pictures; returns the exit status."""
    if not config.resume:
        config.require("pretrained")
    return test_only.run(config, start_world(pick_device(config.device, config.use_gpu)))
