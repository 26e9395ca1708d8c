"""What must be settled before paddle is imported: threads, and its import-time chatter."""

import atexit
import contextlib
import ctypes
import gc
import importlib.util
import io
import os
import signal
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

# What Paddle imports with itself, for compiling extensions and for downloads, and nobody asks for.
UNASKED = ("setuptools", "httpx", "paddle.utils.cpp_extension")
# How often a thread of our kernels that waits looks before it sleeps; see load_paddle.
SPINS = "30000"


def cpu_cores() -> int:
    """Returns how many cores this process may use, shared with the launcher's other processes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (cores or 1) // int(os.environ.get("PADDLE_LOCAL_SIZE", "1")))


def take_cores(cores: float) -> None:
    """Makes this process use so many cores, whatever the machine has; to be called first."""
    os.environ["PADDLE_LOCAL_SIZE"] = "1"
    os.environ["PADDLE_LOCAL_SIZE"] = str(max(1, int(cpu_cores() / cores)))


def kernel_threads() -> int:
    """Returns the number of threads for our own kernels: OMP_NUM_THREADS if the user set it."""
    return int(os.environ.get("PPCLS_LITE_KERNEL_THREADS") or cpu_cores())


def cpu_flags() -> frozenset[str]:
    """Returns the CPU's instruction sets by Linux' names, such as avx2; none on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    # "flags" on x86, "Features" on ARM
    listed = (line for line in lines if line.startswith(("flags", "Features")))
    return frozenset(next(listed, "").partition(":")[2].split())


def end_with_parent() -> None:
    """Asks the kernel for a SIGTERM when the process that started this one ends, however that is.

    Linux only; elsewhere the launcher has to end its processes itself.
    """
    parent = os.getppid()
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)


def in_company() -> bool:
    """Tells whether a launcher started this process as one of several that train together."""
    return int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) > 1


def leave(status: int) -> NoReturn:
    """Ends this process.

    One of several does without the destructors of C++: those of gloo and of Paddle's store abort,
    now and then, when another process has ended before. All that Python does at its end is done.
    """
    if in_company():
        atexit._run_exitfuncs()  # workers, temporary folders
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)
    sys.exit(status)


def load_paddle() -> types.ModuleType:
    """Imports paddle quietly and returns it.

    Paddle reads these variables once, at import; values the user has set stay. Without
    OMP_NUM_THREADS it trains with one thread per process, which is meant: a second one gains
    nothing in its depthwise kernels and takes the core that decodes pictures.
    """
    # Above 0 MKL's idle threads spin and slow the others down.
    os.environ.setdefault("KMP_BLOCKTIME", "0")
    # Our kernels' OpenMP is GCC's. Its threads spin for milliseconds at the end of a stage, on a
    # core that the thread they wait for may need; asleep at once, they wake up too slowly for small
    # pictures. Half a millisecond trains fastest beside decoding workers:
    # docs/measurements/training.md.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    # Importing paddle sets OMP_NUM_THREADS, so what the user asked for is kept here; a second call
    # would take paddle's 1 for it.
    asked = os.environ.get("OMP_NUM_THREADS")
    if asked and "paddle" not in sys.modules:
        os.environ.setdefault("PPCLS_LITE_KERNEL_THREADS", asked)
    os.environ.setdefault("GLOG_minloglevel", "2")  # errors, not Paddle's own to-do notes
    warnings.filterwarnings("ignore", message="When training, we now always track global mean")
    warnings.filterwarnings("ignore", message="Tensor do not have 'place' interface")  # tracing
    warnings.filterwarnings("ignore", message="The input state dict is empty")  # before a step
    warnings.filterwarnings("ignore", message="Skip loading for")  # load_weights reports better
    quiet = contextlib.redirect_stderr(io.StringIO())  # of more than one thread, of ccache
    with uncollected(), _signal_handlers_kept(), _postponed(*UNASKED), quiet:
        import paddle
    return paddle


class _Postponed(types.ModuleType):
    """Stands for a module until something of it is asked for.

    Differs from importlib.util.LazyLoader, which imports as soon as anything looks for `__file__`,
    as Paddle does with all that it has.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        root, *inner = name.split(".")
        spec = importlib.util.find_spec(root)
        found = (spec.submodule_search_locations if spec else None) or []
        self.__path__ = [str(Path(folder, *inner)) for folder in found]  # of modules inside

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"{self.__name__} is not imported yet: {name}")
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


@contextlib.contextmanager
def _postponed(*names: str) -> Iterator[None]:
    """Has modules that are imported inside imported at their first use; a fifth of Paddle's time.

    Whoever imports them later gets them at once, as always.
    """
    standing = {name: _Postponed(name) for name in names if name not in sys.modules}
    sys.modules.update(standing)
    try:
        yield
    finally:
        for name, module in standing.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Keeps Python's collector away from what is imported inside, then and later.

    It would look through a hundred thousand objects of the libraries, 0.1 s at a time, for garbage
    that is not there.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def _signal_handlers_kept() -> Iterator[None]:
    """Puts the handlers back which Paddle's import replaces, below Python's notice.

    Paddle's own print what they can find out, and may wait forever for the lock of the memory that
    was just found broken; without them an abort ends the process, and SIGTERM reaches Python's.
    `paddle.disable_signal_handler()` would take Python's and faulthandler's away as well.
    """
    libc = ctypes.CDLL(None)
    names = ("SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGTERM")
    kept = {}
    for number in (getattr(signal, name) for name in names):
        kept[number] = ctypes.create_string_buffer(512)  # a struct sigaction has 152 bytes or less
        libc.sigaction(number, None, kept[number])
    try:
        yield
    finally:
        for number, action in kept.items():
            libc.sigaction(number, action, None)


def set_threads() -> None:
    """Gives Paddle's CPU kernels the number of threads of OMP_NUM_THREADS again.

    A run of Paddle Inference leaves the whole process at one thread. Another number of threads sums
    in another order, so a training that evaluates in between would not repeat to the bit.
    """
    import paddle

    paddle.base.core.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
