"""Lets `python tools/accelerator/TOOL.py` find the package of this checkout, installed or not."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ppcls_lite.__main__ import run_command

ACTIONS = {"build": "accelerator_build", "run": "sample_cls", "profile": "accelerator_profile"}


def main(verb: str, file: str) -> None:
    """Runs a command of the package under the name of a file of this folder."""
    run_command(verb, sys.argv[1:], f"tools/accelerator/{Path(file).name}")


def main_of_action(file: str) -> None:
    """Runs the command that the first argument names."""
    action, *argv = sys.argv[1:] or ["--help"]
    if action not in ACTIONS:
        status = action not in ("-h", "--help")
        print(f"usage: tools/accelerator/{Path(file).name} {{{','.join(ACTIONS)}}} [--help]")
        sys.exit(2 * status)
    run_command(ACTIONS[action], argv, f"tools/accelerator/{Path(file).name} {action}")
