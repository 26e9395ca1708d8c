"""The stand-in of vamp: npz pictures in, npz scores and a printout out."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from ppcls_lite.accelerator.simulator import NOTE, SimulatedModel
from ppcls_lite.errors import UserError
from ppcls_lite.files import whole
from ppcls_lite.program import command
from ppcls_lite.untrusted import read_lines, read_npz, reading

INPUT, OUTPUT = "input_0", "output_0"  # arrays in the npz files
RESULT_NAME, RESULT_PATTERN = "output_{:06d}.npz", "output_*.npz"
PERCENTILES = (50, 90, 95, 99)
STAMP = "%Y-%m-%d %H:%M:%S"


@dataclass(frozen=True)
class Load:
    """How vamp was told to load the card; printed, the stand-in runs one picture after another.

    Attributes:
        instances: per device.
        processes: that drive it.
        batch_size: pictures per call.
        devices: numbers of the cards.
    """

    instances: int
    processes: int
    batch_size: int
    devices: str


def _write(datalist: Path | str) -> str:
    """The command line that writes npz files and their list."""
    argv = ("--dataset_path", "VAL", "--target_path", "input_npz", "--text_path", datalist)
    return command("accelerator image2npz", *argv)


def read_datalist(file: Path) -> list[Path]:
    """Returns the npz files of a list, one a line.

    Raises:
        UserError: the list or a file of it is missing, or it is empty.
    """
    if not file.is_file():
        raise UserError(f"no data list {file}", _write(file))
    paths = [Path(line) for line in read_lines(file, "data list", _write(file)) if line.strip()]
    if not paths:
        raise UserError(f"{file} is empty", _write(file))
    with reading(file, "data list", _write(file)):
        missing = [path for path in paths if not path.is_file()]
    if missing:
        raise UserError(
            f"{file}: {len(missing)} files are not there, the first is {missing[0]}", _write(file)
        )
    return paths


def read_picture(path: Path) -> np.ndarray:
    """Returns the picture of an npz: uint8 [3, H, W].

    Raises:
        UserError: it holds something else.
    """
    return read_array(path, INPUT, _write("npz.txt"))


def read_array(path: Path, name: str, hint: str) -> np.ndarray:
    """Returns an array of an npz.

    Raises:
        UserError: the file is missing, damaged, or has no such array.
    """
    return read_npz(path, name, hint)


@dataclass(frozen=True)
class Measured:
    """What a run took.

    Attributes:
        e2e: seconds per picture, with resize and normalisation.
        model: seconds per picture in the network alone.
        input_shape: of the first picture.
        output_shape: of the scores.
    """

    e2e: list[float]
    model: list[float]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]


def measure(
    model: SimulatedModel,
    pictures: Iterable[np.ndarray],
    keep: Callable[[int, np.ndarray], None] | None = None,
) -> Measured:
    """Runs pictures uint8 [3, H, W], one after another.

    Args:
        model: the built network.
        pictures: one or more.
        keep: is given the number of a picture and its scores, float16 [1, K].
    """
    e2e, alone = [], []
    shapes: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    for number, picture in enumerate(pictures):
        begin = time.perf_counter()
        prepared = model.prepare(picture)
        middle = time.perf_counter()
        scores = model.output(prepared)
        end = time.perf_counter()
        e2e.append(end - begin)
        alone.append(end - middle)
        shapes = shapes if number else (picture.shape, scores.shape)
        if keep is not None:
            keep(number, scores)
    return Measured(e2e, alone, *shapes)


def run_list(model: SimulatedModel, paths: Sequence[Path], folder: Path) -> Measured:
    """Runs the npz files of a list and writes `output_%06d.npz` in its order.

    Raises:
        UserError: the folder holds results of a longer list, which would count as this one's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = {RESULT_NAME.format(number) for number in range(len(paths))}
    others = sorted({entry.name for entry in folder.glob(RESULT_PATTERN)} - written)
    if others:
        raise UserError(
            f"{folder} holds {len(others)} results of a longer list, such as {others[0]}; they"
            " would be paired with this one's lines",
            "remove them, or give another folder",
        )

    def keep(number: int, scores: np.ndarray) -> None:
        with whole(folder / RESULT_NAME.format(number)) as part:
            np.savez(part, output_0=scores)

    return measure(model, map(read_picture, paths), keep)


def made_up(shape: Sequence[int], samples: int) -> Iterator[np.ndarray]:
    """Yields the same noise uint8 [3, H, W] again and again, for a run without a list."""
    return itertools.repeat(np.random.default_rng(0).integers(0, 256, shape, np.uint8), samples)


def printout(measured: Measured, load: Load, begin: datetime) -> list[str]:
    """Returns lines of vamp's shape; what a CPU cannot know reads `not simulated`.

    Args:
        measured: by `measure`.
        load: what vamp was told.
        begin: when the run began.
    """
    total, samples = sum(measured.e2e), len(measured.e2e)
    shapes = (measured.input_shape, measured.output_shape)
    sizes = ["[" + ",".join(map(str, shape)) + "]" for shape in shapes]
    return [
        f"*** {NOTE} ***",
        f"[max_batch_size_]: {load.batch_size}",
        "[input_count]: 1",
        f"input[0]: {sizes[0]}, dtype:u1",
        "[output_count]: 1",
        f"output[0]: {sizes[1]}, dtype:f2",
        f"*** number of instances in each device:{load.instances} ****",
        f"Inference start time: [{begin.strftime(STAMP)}]",
        f"Inference end time: [{datetime.now().strftime(STAMP)}]",
        f"number of samples in each process: {samples}",
        f"number of process:{load.processes}",
        f"- number of instances in each device: {load.instances}",
        f"  devices: [{load.devices}]",
        f"  batch size: {load.batch_size}",
        f"  samples: {samples}",
        f"  forwad time (s): {total:.6g}",  # their spelling
        f"  throughput (qps): {samples / total:.6g}",
        "  ai utilize (%): not simulated",
        "  temperature (°C): not simulated",
        "  die memory used (MB): not simulated",
        *_latency("e2e", measured.e2e),
        *_latency("model", measured.model),
    ]


def _latency(name: str, seconds: Sequence[float]) -> list[str]:
    micro = 1e6 * np.asarray(seconds)
    pairs = {"avg": micro.mean(), "min": micro.min(), "max": micro.max()}
    pairs |= {f"p{p}": float(np.percentile(micro, p)) for p in PERCENTILES}
    return [
        f"  {name} latency (us):",
        *(f"    {key} latency: {round(float(value))}" for key, value in pairs.items()),
    ]
