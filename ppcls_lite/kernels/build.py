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
SOURCE, *INCLUDED = (
    Path(__file__).with_name(name)
    for name in ("kernels.cc", "block.h", "ends.h", "dense.h", "squeeze_excite.h",
                 "depthwise.h", "pointwise.h", "batch_norm.h", "threads.h", "lanes.h")
)  # fmt: skip


@functools.cache
def load_kernels() -> ctypes.CDLL:
    """The kernels, ready to be called with the structs of `abi`.

    Raises:
        Unavailable: no compiler, no folder to write to, a failed compilation, or a Paddle without
            oneDNN's matrix product.
    """
    library = load_library(SOURCE, FLAGS, INCLUDED)
    for name, struct in abi.FUNCTIONS.items():
        function = getattr(library, name)
        function.argtypes, function.restype = (ctypes.POINTER(struct),), None
    library.mobile_set_gemm.argtypes, library.mobile_set_gemm.restype = (ctypes.c_void_p,), None
    library.mobile_set_gemm(_matrix_product())
    return library


def _matrix_product() -> ctypes.c_void_p:
    """The address of a plain C function of the oneDNN inside of Paddle's wheel."""
    for path in sorted((Path(paddle.__file__).parent / "libs").glob("libdnnl.so*")):
        return ctypes.cast(ctypes.CDLL(str(path)).dnnl_sgemm, ctypes.c_void_p)
    raise Unavailable("this paddle comes without oneDNN (libdnnl.so)")
