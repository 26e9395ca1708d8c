"""How this program was started, so that the commands it suggests can be pasted as they are."""

import os
import shlex
import sys
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parent.parent
# Where a verb's tool is not tools/VERB.py.
TOOLS = {"train": "train.py"} | {
    verb: f"tools/accelerator/{verb}.py"
    for verb in ("sample_cls", "image2npz", "eval_topk", "eval_imagenet", "valprep",
                 "export_timm_torchvision_model")
} | {
    "accelerator_lint": "tools/accelerator/lint.py",
    "accelerator_build": "tools/accelerator/sim.py",
    "accelerator_profile": "tools/accelerator/sim.py",
}  # fmt: skip
ACTIONS = {"accelerator_build": ["build"], "accelerator_profile": ["profile"]}


def command(verb: str, *args: object) -> str:
    """Returns the command line of a verb, in the form this process was started in.

    Args:
        verb: like `predict`.
        args: flags and values; each becomes one quoted word.
    """
    started = Path(sys.argv[0]).resolve()
    if started.parent in (_CHECKOUT, _CHECKOUT / "tools", _CHECKOUT / "tools/accelerator"):
        words = ["python", os.path.relpath(_CHECKOUT / TOOLS.get(verb, f"tools/{verb}.py"))]
        words += ACTIONS.get(verb, ())
    elif started.stem == "ppcls-lite":
        words = ["ppcls-lite", verb]
    else:
        words = ["python", "-m", "ppcls_lite", verb]
    return shlex.join([*words, *map(str, args)])


def environment_hint() -> str:
    """Returns what to type when this interpreter lacks the packages this project needs."""
    activate = _CHECKOUT / ".venv/bin/activate"
    if activate.is_file():
        return shlex.join([".", os.path.relpath(activate)]) + ", then the same command again"
    return shlex.join(["pip", "install", "-r", os.path.relpath(_CHECKOUT / "requirements.txt")])
