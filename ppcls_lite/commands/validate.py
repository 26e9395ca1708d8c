"""`tools/validate.py`: `train.py --test-only`, by MindCV's name for it."""

from ppcls_lite.commands.train import run

__all__ = ["run"]
