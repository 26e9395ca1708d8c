"""Settings of the benchmark, and which of them each measurement reads."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from ppcls_lite.config import DEFAULT_MODEL, Count, CountOrZero, Pixels, Settings
from ppcls_lite.errors import UserError, nearest

BENCHMARK_FLAGS = {
    "start": "model data_path batch_size size workers versus",
    "train": "model batch_size size threads processes versus versus_python profile",
    "epoch": "model data_path batch_size size workers versus versus_python",
    "eval": "model pretrained data_path batch_size workers",
    "loader": "data_path imagenet_sized decode batch_size size workers versus versus_python",
    "infer": "model pretrained data_path batch_size size threads versus plot",
    "serve": "model pretrained data_path workers clients seconds int8 versus versus_command",
}
BUILD = "build:PATH[,PYTHON]"
COMPARED = {
    "start": (BUILD,),
    "train": ("bf16", "paddle", "torch", "torch.compile", BUILD),
    "epoch": ("bf16", "paddle", "torch", BUILD),
    "loader": ("torch", BUILD),
    "infer": (BUILD,),
    "serve": (BUILD,),
}


@dataclass(frozen=True)
class BenchmarkConfig(Settings):
    """Measure how fast training, evaluation, reading images and inference are on this CPU.

    python tools/benchmark.py train --versus paddle,torch --versus-python ENV/bin/python
    python tools/benchmark.py epoch --data-path my_pictures --rounds 1 --versus paddle
    python tools/benchmark.py eval --data-path my_pictures --pretrained output/best.pdparams
    python tools/benchmark.py loader --data-path my_pictures --versus torch
    python tools/benchmark.py infer --pretrained output/best.pdparams --batch-size 1,32
    python tools/benchmark.py serve --data-path my_pictures --clients 1,8,32
    python tools/benchmark.py train --versus build:../other,../other/.venv/bin/python
    python tools/benchmark.py start --data-path my_pictures --versus build:../other

    What is compared is measured in turns, each in a process of its own; medians are reported. A
    list gives a table: --batch-size 8,32,128. The limit that train prints is what this machine's
    matrix product (GFLOP/s) and memory (GB/s), both measured, allow a training step:
    images/s = 1 / (6 * MACs / product + 6 * 4 bytes * outputs of all convolutions / copying).
    """

    what: Annotated[
        Literal["start", "train", "epoch", "eval", "loader", "infer", "serve"] | None,
        Meta(extra={"positional": True}),
    ] = None
    """What to measure."""
    model: str = DEFAULT_MODEL
    """Model; weights with a .json know their own."""
    pretrained: str | None = None
    """eval, infer, serve: a checkpoint, a tag, or weights of any framework. Without it: random
    weights."""
    data_path: str | None = None
    """Folder with train/ and val/; infer and serve take its val images, else patterns; infer
    calibrates int8 with train."""
    batch_size: Annotated[tuple[Count, ...], Meta(min_length=1, extra={"flags": ["-b"]})] = (32,)
    """Number of images per step and process; one row for each number."""
    size: Annotated[tuple[Pixels, ...], Meta(min_length=1)] = (224,)
    """Side of the images, pixels; one row for each."""
    threads: Annotated[tuple[CountOrZero, ...], Meta(min_length=1)] = (0,)
    """Number of threads of all processes together, 0 for all cores; one row for each number."""
    workers: Annotated[tuple[CountOrZero, ...], Meta(min_length=1, extra={"flags": ["-j"]})] = (2,)
    """Number of processes that decode images; one row for each number. serve: of server processes,
    0 for one a core."""
    processes: Count = 1
    """train: number of processes that train together, started by each framework's launcher."""
    versus: tuple[str, ...] = ()
    """What to compare with, with commas between. train: bf16 (--cpu-kernels bf16), paddle (Paddle's
    own layers), torch, torch.compile; epoch: bf16, paddle, torch; loader: torch. All but eval:
    build:PATH[,PYTHON], another checkout of this project, run by this interpreter or by its own."""
    versus_python: str | None = None
    """Interpreter that has torch and torchvision (and timm, for its names). Without it: this
    one."""
    imagenet_sized: bool = False
    """loader: read 512 copies of the images at ImageNet's usual 500 x 375 pixels."""
    decode: tuple[Literal["exact", "fast"], ...] = ("exact",)
    """loader: ways to read JPEGs, see train; one row for each."""
    profile: bool = False
    """train: print where the time of our steps goes, by the kernels' stages and by the network's
    parts, with the arithmetic and memory rates that each reached."""
    rounds: Count = 5
    """Number of times that each one is measured, in turns."""
    steps: Count | None = None
    """Number of timed steps of one turn. Without it: 3 in train, 20 in infer, and one pass over the
    data else."""
    clients: Annotated[tuple[Count, ...], Meta(min_length=1)] = (1, 8, 32)
    """serve: number of connections that send at the same time; one row for each number."""
    seconds: Annotated[float, Meta(gt=0)] = 5.0
    """serve: length of one turn, seconds."""
    int8: bool = False
    """serve: ours serves what quantize writes for OpenVINO, calibrated with train of --data-path;
    the others stay float."""
    versus_command: str | None = None
    """serve: starts another server of the documents' request, with {folder} (the export) and {port}
    in it, beside the minimal FastAPI handler around ONNX Runtime; an empty text leaves out both."""
    plot: str | None = None
    """infer: PNG to draw latency and agreement into."""
    json: bool = False
    """Print one JSON object with everything as the last line."""

    def __post_init__(self) -> None:
        common = {"what", "rounds", "steps", "json"}
        used = common | set(BENCHMARK_FLAGS.get(self.what or "", "").split())
        idle = [name for name in self.sources if name not in used and self.changed(name)]
        allowed = COMPARED.get(self.what or "", ())
        for name in self.competitors():
            if allowed and (BUILD if name.startswith("build:") else name) not in allowed:
                raise UserError(
                    f"{self.what} cannot be compared with {name!r}{nearest(name, allowed)}",
                    f"{self.what} --versus takes {', '.join(allowed)}",
                )
        if self.what and idle:
            raise UserError(
                f"--{idle[0].replace('_', '-')} has no effect on {self.what}",
                f"{self.what} takes {', '.join(sorted(used - {'what'}))}".replace("_", "-"),
            )

    def competitors(self) -> tuple[str, ...]:
        """Returns whom `versus` names, each once: build:PATH,PYTHON has the list's own comma."""
        found: list[str] = []
        for word in ",".join(self.versus).split(",") if self.versus else ():
            ends_a_build = found and found[-1].startswith("build:") and "," not in found[-1]
            if ends_a_build and word not in COMPARED["train"] and not word.startswith("build:"):
                found[-1] += f",{word}"
            else:
                found.append(word)
        return tuple(dict.fromkeys(found))
