"""The compiled kernels, with the matrix product that they call."""

import ctypes
import functools
from pathlib import Path

import paddle

from ppcls_lite.kernels import abi
from ppcls_lite.native import Unavailable, load_library

# Contracting a * b + c into one rounding and not tracking errno are all that departs from what the
# source says; NaN and infinity behave as IEEE 754 has it, unlike with -ffast-math.
FLAGS = (
    "-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-fopenmp",
)  # fmt: skip
SOURCE = Path(__file__).with_name("kernels.cc")
INCLUDED = sorted(SOURCE.parent.glob("*.h"))


@functools.cache
def load_kernels(bf16: bool = False) -> ctypes.CDLL:
    """The kernels, ready to be called with the structs of `abi`.

    Args:
        bf16: what is kept between forward and backward has 16 bits instead of 32; so has what 1x1
            convolutions multiply, where `calls.multiplies_bf16`.

    Raises:
        Unavailable: no compiler, no folder to write to, a failed compilation, or a Paddle without
            oneDNN's matrix product.
    """
    library = load_library(SOURCE, (*FLAGS, "-DMOBILE_BF16") if bf16 else FLAGS, INCLUDED)
    _keep_freed_memory()
    for name, struct in abi.FUNCTIONS.items():
        function = getattr(library, name)
        function.argtypes, function.restype = (ctypes.POINTER(struct),), None
    library.mobile_set_gemm.argtypes = (ctypes.c_void_p,) * 3
    library.mobile_set_gemm.restype = None
    library.mobile_set_gemm(*_matrix_product())
    library.mobile_watch_stages.argtypes = (ctypes.POINTER(ctypes.c_int64),)
    library.mobile_watch_stages.restype = None
    return library


def _keep_freed_memory() -> None:
    """Lets the C library keep what a step frees, for the next one.

    glibc gives arrays of many megabytes back to the system, which fills their pages with zeros when
    the same step asks for them again: 3,000 to 13,000 page faults a step of mobilenet_v3_small.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt:
        trim_threshold, mmap_max = -1, -4  # malloc.h's numbers
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_max, 0)


def _matrix_product() -> list[ctypes.c_void_p]:
    """The addresses of oneDNN's product and of what gets and sets the number of its threads."""
    libs = Path(paddle.__file__).parent / "libs"
    for path in sorted(libs.glob("libdnnl.so*")):
        onednn = ctypes.CDLL(str(path))
        # The wheel for x86 brings Intel's OpenMP and binds oneDNN to it; elsewhere it is GCC's.
        intel = libs / "libiomp5.so"
        openmp = ctypes.CDLL(str(intel)) if intel.is_file() else onednn
        functions = onednn.dnnl_sgemm, openmp.omp_get_max_threads, openmp.omp_set_num_threads
        return [ctypes.cast(function, ctypes.c_void_p) for function in functions]
    raise Unavailable("this paddle comes without oneDNN (libdnnl.so)")
