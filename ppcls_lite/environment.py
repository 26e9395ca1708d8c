"""What must be settled before paddle is imported: threads, and its import-time chatter."""

import contextlib
import io
import os
import types
import warnings


def cpu_threads() -> int:
    """Returns how many threads this process computes with on a CPU.

    OMP_NUM_THREADS if the user has set it, else the cores shared by the processes of the launcher.
    """
    if os.environ.get("OMP_NUM_THREADS", "").isdigit():
        return int(os.environ["OMP_NUM_THREADS"])
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (cores or 1) // int(os.environ.get("PADDLE_LOCAL_SIZE", "1")))


def load_paddle() -> types.ModuleType:
    """Imports paddle with its threads set, and returns it.

    Paddle reads the variables once, at import; values the user has set stay. With KMP_BLOCKTIME
    above 0 MKL's idle threads spin and slow the others down, up to 4x on two cores.
    """
    os.environ["OMP_NUM_THREADS"] = str(cpu_threads())
    os.environ.setdefault("KMP_BLOCKTIME", "0")
    os.environ.setdefault("GLOG_minloglevel", "2")  # errors, not Paddle's own to-do notes
    warnings.filterwarnings("ignore", message="When training, we now always track global mean")
    # Paddle warns about any number of threads above one; the number is meant.
    with contextlib.redirect_stderr(io.StringIO()):
        import paddle
    set_threads()
    return paddle


def set_threads() -> None:
    """Gives Paddle's CPU kernels `cpu_threads()` threads.

    A run of Paddle Inference leaves the whole process at one thread. Another number of threads sums
    in another order, so a training that evaluates in between would not repeat to the bit.
    """
    import paddle

    paddle.base.core.set_num_threads(cpu_threads())
