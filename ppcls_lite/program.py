"""How this program was started, so that the commands it suggests can be pasted as they are."""

import errno
import os
import shlex
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent

# Every other name of a command of `verbs`, in one table: files of the checkout, whose stems are
# names for `ppcls-lite`, too, and words. Hints name the first file of a command. The file of a
# subject, like tools/data.py, takes the action as its first argument.
NAMES = {
    "train.py": "train",
    "tools/finetune.py": "finetune",
    "tools/launch.py": "launch",
    "tools/validate.py": "validate",
    "validate.py": "validate",  # MindCV's
    "tools/predict.py": "predict",
    "tools/embed.py": "predict embed",
    "tools/search.py": "predict search",
    "tools/export_model.py": "export",
    "tools/export.py": "export",
    "tools/compare.py": "export check",
    "tools/export_mobile.py": "export mobile",
    "tools/paddle_serving_convert.py": "export paddle_serving",
    "tools/export_accelerator.py": "export accelerator",
    "tools/accelerator/export_bundle.py": "export accelerator",
    "accelerator export": "export accelerator",
    "tools/accelerator/export_timm_torchvision_model.py": "export timm_torchvision",
    "tools/quantize.py": "quantize",
    "tools/sensitivity.py": "quantize sensitivity",
    "tools/serve.py": "serve",
    "tools/benchmark.py": "benchmark",
    "tools/weights.py": "weights",
    "tools/convert_weights.py": "weights convert",
    "tools/average_checkpoints.py": "weights average",
    "tools/list_models.py": "list_models",
    "tools/report.py": "report",
    "tools/plot_run.py": "report plot",
    "tools/data.py": "data",
    "tools/check_data.py": "data check",
    "tools/show_augment.py": "data show",
    "tools/pack_dataset.py": "data pack",
    "tools/make_lite_data.py": "data make_lite",
    "tools/accelerator/sim.py": "accelerator",
    "tools/accelerator/lint.py": "accelerator lint",
    "tools/accelerator/sample_cls.py": "accelerator run",
    "tools/accelerator/image2npz.py": "accelerator image2npz",
    "tools/accelerator/eval_topk.py": "accelerator eval_topk",
    "tools/accelerator/eval_imagenet.py": "accelerator eval_imagenet",
    "tools/accelerator/valprep.py": "accelerator valprep",
    "tools/tipc.py": "tipc",
    "tools/doctor.py": "doctor",
}
_STEMS = {Path(name).stem: name for name in NAMES if name.endswith(".py")}


def command_of(name: str) -> str:
    """Returns the command that a name of the table stands for; any other name as it is.

    Args:
        name: words, like `data check`, `check_data` or `accelerator export`; or a file.
    """
    name = _STEMS.get(name, name)
    return NAMES.get(name, name)


def command(name: str, *args: object) -> str:
    """Returns the command line of a command, in the form this process was started in.

    Args:
        name: of the command, like `predict` or `data check`.
        args: flags and values; each becomes one quoted word.
    """
    started = Path(sys.argv[0]).resolve()
    name = command_of(name)
    if started.parent in (CHECKOUT, CHECKOUT / "tools", CHECKOUT / "tools/accelerator"):
        words = ["python", *_file_words(name)]
    else:
        words = [*console_words(), *name.split()]
    return " ".join(quoted(word) for word in (*words, *map(str, args)))


def quoted(word: str) -> str:
    """Returns a word as a shell takes it; bytes that are no UTF-8 as bash's $'\\xca'."""
    data = os.fsencode(word)
    if data.decode("utf-8", errors="ignore") == word:
        return shlex.quote(word)
    plain = (chr(b) if 32 <= b < 127 and b not in b"'\\" else f"\\x{b:02x}" for b in data)
    return "$'" + "".join(plain) + "'"


def _file_words(name: str) -> "list[str]":
    """The command's own file, or that of its subject and the action."""
    subject, *action = name.split()
    for wanted, more in ((name, []), (subject, action)):
        for file, named in NAMES.items():
            if named == wanted and file.endswith(".py"):
                return [os.path.relpath(CHECKOUT / file), *more]
    raise KeyError(name)


def export_command(folder: object, *weights: str) -> str:
    """Returns the command line that writes an export folder.

    Args:
        folder: to write.
        weights: the flags that name them; a placeholder without.
    """
    named = weights or ("--pretrained", "WEIGHTS")
    return command("export", *named, "--save-inference-dir", folder)


def help_command(prog: str, what: str = "") -> str:
    """Returns the command line that explains a command.

    Args:
        prog: its name in messages, like `train.py`; empty for the console command.
        what: `all` for all of its flags.
    """
    file, *action = prog.split() or ["ppcls-lite"]
    if file in NAMES:
        words = ["python", os.path.relpath(CHECKOUT / file)]
    else:
        words = console_words() if file == "ppcls-lite" else [file]
    words += [word for word in (*action, "--help", what) if word]
    return " ".join(map(quoted, words))


def console_words() -> "list[str]":
    """Returns the words that start the console command, installed or not."""
    is_installed = Path(sys.argv[0]).stem == "ppcls-lite"
    return ["ppcls-lite"] if is_installed else ["python", "-m", "ppcls_lite"]


def list_command(path: Path) -> str:
    """Returns the command line that shows what lies where a file was looked for, or next to it."""
    folder = next(parent for parent in path.absolute().parents if parent.is_dir())
    return f"ls {quoted(os.path.relpath(folder))}"


def os_remedy(error: OSError, path: "Path | None" = None) -> str:
    """Returns what to do about a file that the operating system refused.

    Args:
        error: what it said.
        path: of the file; None takes the error's own, if it has one.
    """
    if path is None and error.filename is not None:
        path = Path(os.fsdecode(error.filename))
    if path is None:  # the program's own output
        return "df -h  # shows which disk is full, if one is"
    folder = next(parent for parent in (path, *path.absolute().parents) if parent.is_dir())
    place = quoted(os.path.relpath(folder))
    shown = quoted(os.path.relpath(path)) if os.path.lexists(path) else place
    full = f"df -h {place}  # free some space, or name a folder on another disk"
    return {
        errno.ENOENT: f"ls {place}  # shows what is there; the rest of the path does not exist",
        errno.ENOSPC: full,
        errno.EDQUOT: full,
        errno.ENOTDIR: "name another path: a file is where a folder should be",
        errno.EEXIST: "name another path: a file is where a folder should be",
        errno.EISDIR: "name a file: this is a folder",
        errno.ENAMETOOLONG: "give a shorter name",
        errno.EROFS: "name a folder on a disk that can be written",
    }.get(
        error.errno or 0, f"ls -ld {shown}  # shows who may read and write there; or name another"
    )


def git_commit() -> "str | None":
    """Returns the checkout's commit, marked when files differ from it; None outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    if not (CHECKOUT / "train.py").is_file():
        return None  # installed: the repository around it, if any, is somebody else's
    try:
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def python_path() -> str:
    """Returns what a shell line begins with so that `python -m ppcls_lite` runs in any folder."""
    found = subprocess.run(
        [sys.executable, "-c", "import ppcls_lite"], cwd="/", stderr=subprocess.DEVNULL
    )
    return f"PYTHONPATH={quoted(str(CHECKOUT))} " if found.returncode else ""


def environment_hint() -> str:
    """Returns what to type when this interpreter lacks the packages this project needs; also read
    by Pythons too old for it."""
    activate = CHECKOUT / ".venv/bin/activate"
    if activate.is_file():
        return f". {quoted(os.path.relpath(str(activate)))}  # then the same command again"
    install = f"pip install -r {quoted(os.path.relpath(str(CHECKOUT / 'requirements.txt')))}"
    if (3, 10) <= sys.version_info < (3, 13):  # what pyproject.toml allows
        return install
    return f"python3.11 -m venv .venv && . .venv/bin/activate && {install}"


def install_hint(extra: str) -> str:
    """Returns what to type for the packages of one of pyproject.toml's extras.

    An installed package has no requirements files beside it.
    """
    file = CHECKOUT / f"requirements-{extra}.txt"
    if file.is_file():
        return shlex.join(["pip", "install", "-r", os.path.relpath(file)])
    return shlex.join(["pip", "install", f"ppcls-lite[{extra}]"])
