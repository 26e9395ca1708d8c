"""What `doctor` asks of libraries, each question in a process of its own, which may crash.

python -m ppcls_lite.commands.doctor_probe compiled|training|engines     prints one line of JSON
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ppcls_lite.environment import cpu_flags, kernel_threads, load_paddle
from ppcls_lite.errors import UserError
from ppcls_lite.native import Unavailable

SHIPPED = "mobilenet_v3_small.clothing10"
SIZE = 64  # of the pictures of the training step, pixels
# Float32 sums in another order; the logits of a fresh network are of the size of 1.
ROUNDING = 1e-3


def compiled() -> dict[str, Any]:
    """Returns for each compiled part that it runs, or in one line why not."""
    paddle = load_paddle()
    from ppcls_lite.data import jpeg
    from ppcls_lite.kernels.build import load_kernels

    found = {}
    try:
        begin = time.monotonic()
        load_kernels()
        took = time.monotonic() - begin
        found["kernels"] = "run" + (f" (compiled in {took:.0f} s)" if took > 2 else "")
    except Unavailable as error:
        found["kernels"] = f"do not run, Paddle's own layers train: {error}"
    has_bf16 = cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"}
    found["bfloat16"] = "the CPU computes with it" if has_bf16 else "not of this CPU"
    reason = jpeg.unavailable()
    found["jpeg crops"] = "run" if reason is None else f"do not run, Pillow decodes: {reason}"
    gpus = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    found["gpu"] = f"Paddle sees {gpus}"
    return found


def training() -> dict[str, Any]:
    """Returns how far the kernels' logits of a training forward are from those of Paddle's layers.

    A gradient step of each follows, so that a backward pass that crashes does so here.
    """
    paddle = load_paddle()
    from ppcls_lite import create_model
    from ppcls_lite.kernels.accelerate import accelerate
    from ppcls_lite.kernels.calls import Kernels

    begin = time.monotonic()
    paddle.seed(0)
    model = create_model("mobilenet_v3_small", num_classes=10, dropout=0.0)
    images = paddle.randn([8, 3, SIZE, SIZE])
    model.train()
    try:
        fused = accelerate(model, Kernels(kernel_threads()))
    except Unavailable:
        model(images).square().mean().backward()
        return _said("a step of Paddle's own layers works", begin)
    ours = fused(images)
    ours.square().mean().backward()
    stock = model(images)
    difference = float((ours - stock).abs().max())
    said = f"a step of the kernels works, {difference:.1e} from Paddle's own layers"
    return _said(said, begin) | {"difference": difference, "agrees": difference < ROUNDING}


def _said(text: str, begin: float) -> dict[str, Any]:
    return {"said": text, "seconds": round(time.monotonic() - begin, 1)}


def engines() -> dict[str, Any]:
    """Exports a network that comes along; returns what each engine makes of it, and how fast."""
    from ppcls_lite.deploy.export import export_model

    with tempfile.TemporaryDirectory() as folder:
        sidecar = export_model(SHIPPED, Path(folder), formats=("pdmodel", "onnx"))
    return {"rows": sidecar.verification["engines"]}


def main(name: str) -> int:
    """Prints the answer to one question; returns the exit status."""
    try:
        print(json.dumps({"compiled": compiled, "training": training, "engines": engines}[name]()))
    except (UserError, Unavailable, OSError) as error:
        print(str(error).replace("\n", " "), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
