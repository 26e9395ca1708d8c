"""Writes zoo_SOURCE.npz: what the models of another framework compute from formula.py's numbers.

Run where that framework is installed (none is a requirement of this project):

    cd tests
    python -m golden.make_zoo_golden timm          # torch 2.13, timm 1.0.31
    python -m golden.make_zoo_golden showlo FILE   # torch 2.13; FILE: ShowLo's mobileNetV3.py
    python -m golden.make_zoo_golden ppcls FOLDER  # FOLDER: paddleclas/ of its unpacked 2.6.0 wheel
    python -m golden.make_zoo_golden mindcv        # mindspore 2.10, mindcv 0.3, numpy 1.26

Everything is computed in float64, but by MindSpore, which has no float64 convolution.
Layers are told by their order; layouts are Paddle's.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from golden import formula
from golden.zoo_frameworks import Framework, mindcv, ppcls, showlo, timm


def is_mnasnet(name: str) -> bool:
    """MnasNet's relatives have one linear layer, MobileNetV3 two, whatever they are made of."""
    return "mnasnet" in name or "lite" in name


def fill(framework: Framework, model: Any, name: str) -> None:
    """Gives every tensor the formula's values, made in the layout this project has.

    There, squeeze-excite is of 1x1 convolutions and the head of linear layers in every model.
    """
    layers = framework.tensors(model)
    first_linear = len(layers) - (1 if is_mnasnet(name) else 2)
    for i, tensors in enumerate(layers):
        for kind, tensor in tensors.items():
            shape = theirs = framework.read(tensor).shape
            transposed = False
            if kind == "weight" and i >= first_linear:
                transposed = len(theirs) == 4 or not framework.linear_in_first
                shape = theirs[1::-1] if transposed else theirs
            elif len(theirs) == 2:
                shape = (*theirs, 1, 1)
            values = formula.weight_at(i, kind, shape)
            values = values.T if transposed else values
            framework.write(tensor, np.ascontiguousarray(values.reshape(theirs)))


def golden(framework: Framework, name: str) -> dict[str, np.ndarray]:
    fresh = framework.build(name, 1000)
    layers = framework.tensors(fresh)
    arrays = [{k: framework.read(t) for k, t in layer.items()} for layer in layers]
    everything = sum(a.size for layer in arrays for a in layer.values())
    statistics = sum(a.size for layer in arrays for k, a in layer.items() if k.startswith("_"))
    weights = [layer["weight"] for layer in arrays if layer["weight"].ndim > 1]
    model = framework.build(name, formula.NUM_CLASSES)
    fill(framework, model, name)
    logits, gradient = framework.run(model, formula.zoo_images(), formula.zoo_labels())
    return {
        "counts": np.array([everything - statistics, everything, framework.macs(fresh)]),
        "facts": np.array(framework.facts(fresh)),
        "initial": np.array([(w.std(), np.abs(w).max()) for w in weights], np.float32),
        "logits": logits.astype(np.float32),
        "input_gradient": gradient[:, :, ::16, ::16].astype(np.float32),
        "gradient_print": formula.fingerprints({"images": gradient}),
    }


def main(source: str, *paths: str) -> None:
    framework = {"timm": timm, "showlo": showlo, "ppcls": ppcls, "mindcv": mindcv}[source](*paths)
    parts = {
        f"{name}/{part}": values
        for name in framework.names
        for part, values in golden(framework, name).items()
    }
    np.savez_compressed(Path(__file__).with_name(f"zoo_{source}.npz"), **parts)


if __name__ == "__main__":
    main(*sys.argv[1:])
