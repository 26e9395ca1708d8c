"""What every engine needs: its module, its errors, the instructions it asks of the CPU."""

import importlib
import types
from pathlib import Path
from typing import Any

from ppcls_lite.environment import cpu_flags, load_paddle
from ppcls_lite.errors import UserError
from ppcls_lite.files import check_utf8


def check_bf16() -> None:
    """Raises UserError where the CPU does not compute with bfloat16: it would be emulated."""
    if not cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"}:
        raise UserError("this CPU does not compute with bfloat16", "use f32")


def import_engine(module: str, package: str) -> types.ModuleType:
    """Imports the module of an engine.

    Raises:
        UserError: it is missing or broken; the hint is the pip line for its package.
    """
    try:
        return load_paddle() if module == "paddle" else importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"the Python package {package} is not installed or does not load: {error}",
            f"pip install {package}",
        ) from error


def unreadable(path: Path, engine: str, error: Exception) -> UserError:
    """Returns what to tell of a model file that an engine refused."""
    check_utf8(path)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return UserError(
        f"{engine} cannot read {path}: {lines[-1] if lines else type(error).__name__}",
        "copy all files of the export folder again, or export the model again",
    )


def paddle_uses_gpu(paddle: Any, device: str) -> bool:
    """Tells whether Paddle is to compute on a GPU.

    Args:
        paddle: the module.
        device: auto, cpu or gpu.

    Raises:
        UserError: a GPU is asked for and there is none.
    """
    available = paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0
    if device == "gpu" and not available:
        raise UserError(
            "Paddle sees no GPU; allowed: --device cpu or auto",
            "pip install paddlepaddle-gpu  # on a machine with an NVIDIA driver",
        )
    return device != "cpu" and available
