"""Compiles C++ files of this project at their first use; keeps the library in the cache folder."""

import ctypes
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from ppcls_lite.files import cache_folder

COMPILE_SECONDS = 300.0  # at most


class Unavailable(Exception):
    """Compiled code cannot run here; the text says why, in one line."""


def load_library(source: Path, flags: Sequence[str], included: Sequence[Path] = ()) -> ctypes.CDLL:
    """Loads the library made from a C++ file, compiling it if need be.

    It is kept under a name that changes with the source, the compiler, the flags and the CPU, not
    with the folder of the source: checkouts share it. Processes that ask at the same time compile
    once.

    Args:
        flags: of the compiler, beside those for a shared library for this very CPU.
        included: the files of this project that the source includes.

    Raises:
        Unavailable: no compiler, no folder to write to, a failed compilation.
    """
    compiler = _compiler()
    # x86 and ARM spell it differently.
    cpu = "-march=native" if platform.machine() in ("x86_64", "AMD64") else "-mcpu=native"
    command = [compiler, "-shared", "-fPIC", cpu, *flags]
    name = f"{source.stem}-{_fingerprint(command, [source, *included])}.so"
    target = cache_folder() / "compiled" / name
    try:
        if not target.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(target.with_suffix(".lock")):
                if not target.is_file():
                    _compile([command[0], str(source), *command[1:]], target)
    except OSError as error:
        reason = error.strerror or error
        raise Unavailable(f"compiled code cannot be kept in {target.parent}: {reason}") from None
    try:
        return ctypes.CDLL(str(target))
    except OSError as error:
        raise Unavailable(str(error).splitlines()[0]) from None


def _compiler() -> str:
    asked = os.environ.get("CXX")
    for name in [asked] if asked else ["c++", "g++", "clang++"]:
        if path := shutil.which(name):
            return path
    raise Unavailable(f"no C++ compiler: {asked or 'c++, g++, clang++'} not found")


def _fingerprint(command: list[str], files: list[Path]) -> str:
    """Changes with anything that the compiled code depends on."""
    version = subprocess.run([command[0], "--version"], capture_output=True, text=True).stdout
    digest = hashlib.sha256("\n".join([version, *command, _cpu()]).encode())
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:20]


def _cpu() -> str:
    """Model and instruction sets, of the first core."""
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return platform.processor()
    names = r"^(?:model name|flags|Features|CPU implementer|CPU part)\s*:.*$"
    return "\n".join([platform.machine(), *re.findall(names, text.partition("\n\n")[0], re.M)])


def _compile(command: list[str], target: Path) -> None:
    handle, temporary = tempfile.mkstemp(suffix=".so", dir=target.parent)
    os.close(handle)
    try:
        done = subprocess.run(
            [*command, "-o", temporary], capture_output=True, text=True, timeout=COMPILE_SECONDS
        )
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if "error" in line]
            reason = (errors or done.stderr.splitlines() or ["no message"])[0]
            raise Unavailable(f"{command[0]} cannot compile {target.stem}: {reason}")
        os.replace(temporary, target)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{command[0]} took longer than {COMPILE_SECONDS:.0f} s") from None
    finally:
        Path(temporary).unlink(missing_ok=True)
