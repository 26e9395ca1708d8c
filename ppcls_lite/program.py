"""How this program was started, so that the commands it suggests can be pasted as they are."""

import os
import shlex
import sys
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parent.parent


def command(verb: str, *args: object) -> str:
    """Returns the command line of a verb, in the form this process was started in.

    Args:
        verb: like `predict`.
        args: flags and values; each becomes one quoted word.
    """
    started = Path(sys.argv[0]).resolve()
    if started.parent in (_CHECKOUT, _CHECKOUT / "tools"):
        file = "train.py" if verb == "train" else f"tools/{verb}.py"
        words = ["python", os.path.relpath(_CHECKOUT / file)]
    elif started.stem == "ppcls-lite":
        words = ["ppcls-lite", verb]
    else:
        words = ["python", "-m", "ppcls_lite", verb]
    return shlex.join([*words, *map(str, args)])
