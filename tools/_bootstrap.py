"""Lets `python tools/FILE.py` find the package of this checkout, installed or not."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ppcls_lite.__main__ import run_file as run_file
