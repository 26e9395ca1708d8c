"""What must be settled before paddle is imported: threads, and its import-time chatter."""

import contextlib
import io
import os
import types
import warnings


def load_paddle() -> types.ModuleType:
    """Imports paddle with one OpenMP thread per core of this process, and returns it.

    Paddle reads both variables once, at import; values the user has set stay. With KMP_BLOCKTIME
    above 0 MKL's idle threads spin and slow the others down, up to 4x on two cores.
    """
    processes = int(os.environ.get("PADDLE_LOCAL_SIZE", "1"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (cores or 1) // processes)))
    os.environ.setdefault("KMP_BLOCKTIME", "0")
    os.environ.setdefault("GLOG_minloglevel", "2")  # errors, not Paddle's own to-do notes
    warnings.filterwarnings("ignore", message="When training, we now always track global mean")
    # Paddle warns about any number of threads above one; the number is meant.
    with contextlib.redirect_stderr(io.StringIO()):
        import paddle
    return paddle
