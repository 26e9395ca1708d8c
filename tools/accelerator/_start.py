"""Lets `python tools/accelerator/FILE.py` find the package of this checkout, installed or not."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ppcls_lite.__main__ import run_file as run_file
