"""Says what a report of a fault needs of this machine: python tools/doctor.py

It answers where packages are missing, too, without which no other command can start.
"""

import importlib.util
import sys

from _bootstrap import run_file

from ppcls_lite.commands import doctor

if __name__ == "__main__":
    if importlib.util.find_spec("msgspec") is None:  # what reads the flags of all commands
        sys.exit(doctor.show(as_json="--json" in sys.argv))
    run_file(__file__)
