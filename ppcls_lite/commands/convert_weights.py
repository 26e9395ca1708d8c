"""`tools/convert_weights.py`: weights from one framework's file into another's."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle

from ppcls_lite.arch.download import fetch
from ppcls_lite.arch.formats import read_weights
from ppcls_lite.arch.mapping import from_ours, to_ours
from ppcls_lite.arch.tags import resolve_pretrained
from ppcls_lite.config import ConvertConfig
from ppcls_lite.engine.checkpoint import read_json, read_model_info, save_weights
from ppcls_lite.errors import UserError
from ppcls_lite.files import write_atomically
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.program import command
from ppcls_lite.slim.network import network_of

SUFFIXES = (".pdparams", ".safetensors", ".npz")


def run(config: ConvertConfig) -> int:
    """Reads, maps and writes weights, and says what was mapped."""
    config.require("weights", "out")
    out = Path(config.out)
    is_for_torch = config.to in ("torchvision", "timm")
    if out.suffix not in SUFFIXES or (is_for_torch and out.suffix == ".pdparams"):
        raise UserError(
            f"--out {out} with --to {config.to}: .pdparams is for Paddle's layouts, .safetensors"
            " and .npz for any; .pth is not written, because reading one may run code",
            f"--out {out.with_suffix('.safetensors' if is_for_torch else '.pdparams')}",
        )
    tag = resolve_pretrained(config.weights, config.model)
    file = tag if isinstance(tag, Path) else fetch(tag)
    arrays = read_weights(file)
    known = isinstance(tag, Path) and read_json(tag) is not None
    if isinstance(tag, Path):
        info = described(tag, config.model, known)
    else:
        info = replace(read_model_info(file, tag.model), preprocess=tag.preprocess)
    model = network_of(info)
    ours, layout = to_ours(arrays, model, label=str(file))
    if config.to == "ours" and out.suffix == ".pdparams":
        save_weights(out, ours, info)
        if not known:
            print(f"assuming {info.preprocess}; written to {out.stem}.json")
    else:
        write_arrays(out, from_ours(ours, model, config.to))
    print(
        f"{file}: {len(ours)} tensors of {info.name}, {info.num_classes} classes,"
        f" in the layout {layout}"
    )
    print(f"wrote {out} in the layout {config.to}")
    if config.to == "ours" and out.suffix == ".pdparams":
        print(f"next: {command('predict', '--pretrained', out, '--img-path', 'PICTURE')}")
    return 0


def described(file: Path, model: str | None, known: bool) -> ModelInfo:
    """Returns what the JSON beside the weights says, if it is `known`, else what `model` implies.

    Raises:
        UserError: the weights are of another network, or nothing tells which.
    """
    if not known and model is None:
        raise UserError(f"{file}: of which network?", f"--model NAME; {command('list_models')}")
    info = read_model_info(file, model or "")
    if model not in (None, info.name):
        raise UserError(f"--model {model}: {file} holds {info.name}", "leave it out")
    return info


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes named arrays as .pdparams, .safetensors or .npz, by the suffix."""
    if path.suffix == ".pdparams":
        paddle.save({name: paddle.to_tensor(array) for name, array in arrays.items()}, str(path))
        return
    if path.suffix == ".npz":
        np.savez(path, **arrays)  # type: ignore[arg-type]  # its stub knows no dict of arrays
        return
    from safetensors.numpy import save

    write_atomically(path, save(arrays))
