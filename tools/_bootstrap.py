"""Lets `python tools/VERB.py` find the package of this checkout, installed or not."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ppcls_lite.__main__ import run_command


def main(file: str) -> None:
    """Runs the command named like the file of the tool."""
    path = Path(file)
    run_command(path.stem, sys.argv[1:], f"tools/{path.name}")
