"""This library doing the work that is measured, in a process of its own.

Other builds start it, too: its path, what `train`, `epoch`, `loader` and `infer` are asked and what
they answer stay as they are in commit e9ae75b (`builds`); a new key of a request needs a default.

python our_peer.py '{"kind": "train", "model": "mobilenet_v3_small", …}'
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from ppcls_lite.benchmark.channel import serve
from ppcls_lite.data.dataset import open_split
from ppcls_lite.data.loader import Batch, Loader
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.data.transforms import TrainTransform
from ppcls_lite.dygraph_runtime import DygraphRuntime
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.environment import load_paddle
from ppcls_lite.errors import UserError
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.runtimes import FILE_RUNTIMES, Runtime, load_network

PROGRAM = Path(__file__).resolve().parents[2] / "train.py"

WARM_UP = 3  # steps before the profiled ones
CLASSES = 1000  # of ImageNet, as torchvision's and timm's builders have


class Endless:
    """Stands for the pictures of a run whose epoch never ends."""

    def __len__(self) -> int:
        return 10**6


def train(request: dict[str, Any]) -> None:
    """Takes `train.py`'s step on one random batch."""
    load_paddle()
    import paddle

    from ppcls_lite.engine.build import build_network, build_optimizers, training_model
    from ppcls_lite.engine.checkpoint import Progress
    from ppcls_lite.engine.distributed import start_world, sum_over_ranks
    from ppcls_lite.engine.log import RunLog
    from ppcls_lite.engine.resolve import Resolved
    from ppcls_lite.engine.run import Run
    from ppcls_lite.engine.signals import StopRequest
    from ppcls_lite.engine.train import train_batch

    batch_size, size = request["batch_size"], request["size"]
    config = TrainConfig(
        model=request["model"], batch_size=batch_size, train_crop_size=size, lr=request["lr"],
        device="cpu", cpu_kernels=request.get("cpu_kernels", "auto"),
    )  # fmt: skip
    world = start_world("cpu")
    resolved = Resolved(config, seed=0)
    model, info, loaded = build_network(resolved, ModelInfo(config.model, CLASSES), world)
    model, optimizer, scaler = build_optimizers(model, resolved, world)
    model.train()
    parallel, kernels = training_model(model, config, world)
    run = Run(
        config=config, info=info, whole=info, model=model, loaded=loaded, parallel=parallel,
        kernels=kernels, optimizer=optimizer, scaler=scaler, progress=Progress(), world=world,
        log=RunLog(None, enabled=False), stop=StopRequest(), folder=Path(),
        loader=Endless(), evaluate=None,  # type: ignore[arg-type]
    )  # fmt: skip
    run.stop.restore()
    draws = np.random.default_rng(world.rank)
    images = draws.integers(0, 256, (batch_size, size, size, 3), np.uint8)
    batch = Batch(images, draws.integers(0, CLASSES, batch_size), np.arange(batch_size))

    def step() -> float:
        return train_batch(run, batch)[0].item()

    def share(count: int) -> int:
        return int(sum_over_ranks(np.array([count]), world)[0])

    facts: dict[str, Any] = {"images": batch_size, "kernels": kernels}
    facts["versions"] = {"paddle": paddle.__version__}
    if count := request.get("profile"):
        from ppcls_lite.benchmark.stages import profile
        from ppcls_lite.engine import train as loop

        outside = {"optimizer": (optimizer, "step"), "images and targets": (loop, "inputs")}
        for _ in range(WARM_UP):
            step()
        facts["profile"] = profile(step, outside, count)
    serve(request["socket"], step, facts, world.is_main, share)


def epoch(request: dict[str, Any]) -> None:
    """Runs `train.py` for one epoch, as a user starts it."""
    size = request["size"]
    flags = {
        "model": request["model"], "data-path": request["data"], "epochs": 1,
        "batch-size": request["batch_size"], "workers": request["workers"], "lr": request["lr"],
        "train-crop-size": size, "val-crop-size": size, "val-resize-size": size * 8 // 7,
        "cpu-kernels": request["cpu_kernels"], "device": "cpu",
    }  # fmt: skip
    command = [sys.executable, str(PROGRAM), *(f"--{k}={v}" for k, v in flags.items())]
    # The program chooses its threads itself.
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}

    def step() -> float:
        with tempfile.TemporaryDirectory(prefix="ppcls-bench-") as folder:
            command_here = [*command, f"--output-dir={folder}"]
            return float(subprocess.run(command_here, env=environment, check=True).returncode)

    images = len(open_split(request["data"], "train", None))
    serve(request["socket"], step, {"images": images}, warm_up=0)


def evaluate(request: dict[str, Any]) -> None:
    """Runs the validation pictures through a network while workers decode the next ones."""
    load_paddle()
    from ppcls_lite.engine.evaluate import dygraph_forward, exported_forward
    from ppcls_lite.graph import StaticGraph

    info = ModelInfo.from_dict(request["info"])
    data = open_split(request["data"], "val", None)
    spec, workers = info.preprocess, request["workers"]
    loader = Loader(data, spec, request["batch_size"], training=False, workers=workers)
    engine = request["engine"]
    model, _ = load_network(Path(request["weights"]), info)
    with closing(loader):
        forward: Callable[[np.ndarray], np.ndarray] = dygraph_forward(model)
        if engine == "exported":
            forward = exported_forward(StaticGraph(model, spec.crop_size))
        elif engine != "dygraph":
            forward = FILE_RUNTIMES[engine](Path(request["file"]))

        def step() -> float:
            hits = 0
            for batch in loader.epoch(0):
                scores = forward(spec.normalize(batch.images))
                hits += int((scores.argmax(1) == batch.labels).sum())
            return hits / len(data)

        serve(request["socket"], step, {"images": len(data)}, warm_up=1)


def load(request: dict[str, Any]) -> None:
    """Reads the training pictures as `train.py` does, without training."""
    data = open_split(request["data"], "train", None)
    transform = TrainTransform(crop_size=request["size"])
    workers = request["workers"]
    loader = Loader(
        data,
        transform,
        request["batch_size"],
        training=True,
        workers=workers,
        decode=request["decode"],
    )

    def step() -> float:
        return float(sum(len(Preprocess().normalize(b.images)) for b in loader.epoch(0)))

    try:
        serve(request["socket"], step, {"images": len(data)}, warm_up=1)
    finally:
        loader.close()


def infer(request: dict[str, Any]) -> None:
    """Runs the network alone; every runtime takes as many threads as the process may use cores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: request["threads"]])
    run = open_runtime(request)
    images = np.load(request["images"], mmap_mode="r")  # [N, 3, H, W]
    if request["answers"]:
        rows = [run(np.ascontiguousarray(images[i : i + 1])) for i in range(len(images))]
        np.save(request["answers"], np.concatenate(rows))
    batch = np.resize(images, (request["batch_size"], *images.shape[1:]))

    def step() -> float:
        return float(run(batch)[0, 0])

    serve(request["socket"], step, {"images": len(batch)})


def open_runtime(request: dict[str, Any]) -> Runtime:
    """Opens what the request names: a checkpoint for dygraph, else an exported file."""
    file = Path(request["file"])
    if request["engine"] == "dygraph":
        network, _ = load_network(file, ModelInfo.from_dict(request["info"]))
        return DygraphRuntime(network)
    return FILE_RUNTIMES[request["engine"]](file, **request["options"])


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    kinds = {"train": train, "epoch": epoch, "eval": evaluate, "loader": load, "infer": infer}
    try:
        kinds[asked["kind"]](asked)
    except UserError as error:
        sys.exit(error.message)
