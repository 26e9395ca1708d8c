"""Writes layouts.json.gz: names and shapes of other frameworks' state dicts, in their order.

Run once per framework, where that framework is installed (none is a requirement of this project);
each run puts its own part into the file:

    cd tests
    python -m golden.make_layouts_golden torchvision    # torch 2.13, torchvision 0.28
    python -m golden.make_layouts_golden timm           # torch 2.13, timm 1.0.31
    python -m golden.make_layouts_golden showlo FILE    # torch 2.13; FILE: ShowLo's mobileNetV3.py
    python -m golden.make_layouts_golden showlo_early FILE  # the same, of its commit 832a8e8
    python -m golden.make_layouts_golden d-li14 FILE    # torch 2.13; FILE: d-li14's mobilenetv3.py
    python -m golden.make_layouts_golden ppcls FOLDER   # FOLDER: paddleclas/ of its 2.6.0 wheel
    python -m golden.make_layouts_golden mindcv         # mindspore 2.10, mindcv 0.3, numpy 1.26

Logits for these networks are in arch.npz and zoo_SOURCE.npz.
"""

import gzip
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from golden import formula, zoo_frameworks

FILE = Path(__file__).with_name("layouts.json.gz")
TORCHVISION = ("mobilenet_v3_small", "mobilenet_v3_large", "mnasnet0_5", "mnasnet0_75",
               "mnasnet1_0", "mnasnet1_3")  # fmt: skip
D_LI14 = {"mobilenet_v3_small": "mobilenetv3_small", "mobilenet_v3_large": "mobilenetv3_large"}


def torchvision_states() -> dict[str, Any]:
    zoo_frameworks.timm()  # imports torchvision after it has made that possible
    from torchvision import models

    build = {name: getattr(models, name) for name in TORCHVISION}
    return {n: b(num_classes=formula.NUM_CLASSES).state_dict() for n, b in build.items()}


def d_li14_states(file: str) -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location("d_li14", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    build = {ours: getattr(module, theirs) for ours, theirs in D_LI14.items()}
    return {n: b(num_classes=formula.NUM_CLASSES).state_dict() for n, b in build.items()}


def zoo_states(framework: zoo_frameworks.Framework, state: Callable[[Any], Any]) -> dict[str, Any]:
    return {n: state(framework.build(n, formula.NUM_CLASSES)) for n in framework.names}


def states(source: str, *paths: str) -> dict[str, Any]:
    """Our name of a network -> its state dict there."""
    if source == "torchvision":
        return torchvision_states()
    if source == "d-li14":
        return d_li14_states(*paths)
    build = getattr(zoo_frameworks, source.removesuffix("_early"))
    if source == "mindcv":
        return zoo_states(build(), lambda model: model.parameters_dict())
    return zoo_states(build(*paths), lambda model: model.state_dict())


def main(source: str, *paths: str) -> None:
    known = json.loads(gzip.decompress(FILE.read_bytes())) if FILE.exists() else {}
    known[source] = {
        name: [[key, list(tensor.shape)] for key, tensor in state.items()]
        for name, state in states(source, *paths).items()
    }
    # No time stamp: the same content is the same file.
    FILE.write_bytes(gzip.compress(json.dumps(known, sort_keys=True).encode(), 9, mtime=0))


if __name__ == "__main__":
    main(*sys.argv[1:])
