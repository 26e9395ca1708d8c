"""`python -m ppcls_lite.serving` is tools/serve.py."""

import sys

from ppcls_lite.__main__ import run_command

if __name__ == "__main__":
    run_command("serve", sys.argv[1:], "python -m ppcls_lite.serving")
