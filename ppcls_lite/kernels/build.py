"""Compiles the kernels at first use and keeps them in the user's cache folder."""

import ctypes
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import paddle
from filelock import FileLock

from ppcls_lite.arch.download import cache_folder
from ppcls_lite.kernels import abi

# Contracting a * b + c into one rounding and not tracking errno are all that departs from what the
# source says; NaN and infinity behave as IEEE 754 has it, unlike with -ffast-math.
FLAGS = (
    "-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-fopenmp",
    "-fPIC", "-shared",
)  # fmt: skip
COMPILE_SECONDS = 300.0  # at most; 6 to 15 are usual


class Unavailable(Exception):
    """The kernels cannot run here; the text says why, in one line."""


@functools.cache
def load_kernels() -> ctypes.CDLL:
    """The compiled kernels, ready to be called with the structs of `abi`.

    Raises:
        Unavailable: no compiler, no folder to write to, a failed compilation, or a Paddle without
            oneDNN's matrix product.
    """
    try:
        library = ctypes.CDLL(str(compiled()))
        gemm = ctypes.cast(_onednn().dnnl_sgemm, ctypes.c_void_p)
    except (OSError, AttributeError) as error:
        raise Unavailable(str(error).splitlines()[0]) from None
    for name, struct in abi.FUNCTIONS.items():
        function = getattr(library, name)
        function.argtypes, function.restype = (ctypes.POINTER(struct),), None
    library.mobile_set_gemm.argtypes, library.mobile_set_gemm.restype = (ctypes.c_void_p,), None
    library.mobile_set_gemm(gemm)
    return library


def compiled() -> Path:
    """The shared library for these sources, this compiler and this CPU; compiled if need be.

    Processes that ask at the same time compile once.
    """
    compiler = _compiler()
    folder = cache_folder() / "kernels"
    target = folder / f"kernels-{_fingerprint(compiler)}.so"
    try:
        if not target.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(target.with_suffix(".lock")):
                if not target.is_file():
                    _compile(compiler, target)
    except OSError as error:
        raise Unavailable(f"cannot keep them in {folder}: {error.strerror or error}") from None
    return target


def _compiler() -> str:
    asked = os.environ.get("CXX")
    for name in [asked] if asked else ["c++", "g++", "clang++"]:
        if path := shutil.which(name):
            return path
    raise Unavailable(f"no C++ compiler: {asked or 'c++, g++, clang++'} not found")


def _flags() -> list[str]:
    """FLAGS and the one for this very CPU, which x86 and ARM spell differently."""
    cpu = "-march=native" if platform.machine() in ("x86_64", "AMD64") else "-mcpu=native"
    return [*FLAGS, cpu]


def _fingerprint(compiler: str) -> str:
    """Changes with anything that the compiled code depends on."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout
    digest = hashlib.sha256("\n".join([compiler, version, *_flags(), _cpu()]).encode())
    for name in (*abi.SOURCES, *abi.HEADERS):
        digest.update(name.encode() + b"\0" + _source(name).read_bytes())
    return digest.hexdigest()[:20]


def _cpu() -> str:
    """Model and instruction sets, of the first core."""
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return platform.processor()
    names = r"^(model name|flags|Features|CPU implementer|CPU part)\s*:.*$"
    lines = re.findall(names.replace("(", "(?:", 1), text.partition("\n\n")[0], re.M)
    return "\n".join([platform.machine(), *lines])


def _source(name: str) -> Path:
    return Path(__file__).with_name(name)


def _compile(compiler: str, target: Path) -> None:
    handle, temporary = tempfile.mkstemp(suffix=".so", dir=target.parent)
    os.close(handle)
    sources = [str(_source(name)) for name in abi.SOURCES]
    command = [compiler, *_flags(), *sources, "-o", temporary]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_SECONDS)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if "error" in line]
            reason = (errors or done.stderr.splitlines() or ["no message"])[0]
            raise Unavailable(f"{compiler} cannot compile them: {reason}")
        os.replace(temporary, target)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{compiler} took longer than {COMPILE_SECONDS:.0f} s") from None
    finally:
        Path(temporary).unlink(missing_ok=True)


def _onednn() -> ctypes.CDLL:
    """The oneDNN inside of Paddle's wheel; its matrix product is a plain C function."""
    found = sorted((Path(paddle.__file__).parent / "libs").glob("libdnnl.so*"))
    if not found:
        raise Unavailable("this paddle comes without oneDNN (libdnnl.so)")
    return ctypes.CDLL(str(found[0]))
