"""`python -m ppcls_lite.tipc MODE CONFIG`: the chains where there is no bash."""

import sys

from ppcls_lite.__main__ import run_command

if __name__ == "__main__":
    run_command("tipc", sys.argv[1:], "python -m ppcls_lite.tipc")
