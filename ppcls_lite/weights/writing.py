"""Weights files as we write them: .pdparams, .safetensors or .npz, whole or not at all."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ppcls_lite.files import write_atomically

SUFFIXES = (".pdparams", ".safetensors", ".npz")


def write_weights(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes named arrays in the format that the suffix, one of SUFFIXES, tells."""
    buffer = io.BytesIO()
    if path.suffix == ".pdparams":
        import paddle  # the two other formats do without

        paddle.save({name: paddle.to_tensor(array) for name, array in arrays.items()}, buffer)
    elif path.suffix == ".npz":
        np.savez(buffer, **arrays)  # type: ignore[arg-type]  # its stub knows no dict of arrays
    else:
        from safetensors.numpy import save

        buffer.write(save(dict(arrays)))
    write_atomically(path, buffer.getvalue())
