"""Files for phones: an export converted by each runtime's own tool, and run by that runtime."""

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ppcls_lite.deploy.sidecar import read_sidecar
from ppcls_lite.deploy.tflite import run_tflite, tflite_file
from ppcls_lite.errors import UserError
from ppcls_lite.files import temporary_folder
from ppcls_lite.int8.qdq import float_graph
from ppcls_lite.program import command, export_command, install_hint
from ppcls_lite.runtimes import import_engine

PADDLE_LITE_RUNNER = Path(__file__).with_name("paddle_lite_runner.py")
# MNN's own command mnnconvert would install a package with pip and report the conversion to its
# makers, with the machine's id. This is the compiled function that it calls.
MNN_CONVERT = "import sys, _tools; _tools.mnnconvert(sys.argv)"
# By how much two kinds of kernels may differ, of the largest answer. In int8 a value that lies
# between two steps goes up in one and down in the other, and later layers follow.
KERNELS, INT8_KERNELS = 1e-5, 0.25
INSTALL = install_hint("mobile")
INSTALL_PNNX = "pip install --no-deps pnnx"  # its dependencies are torch, which is not needed


@dataclass(frozen=True)
class Format:
    """How one runtime's files are written and run.

    Attributes:
        sources: what is read of the export folder.
        files: what is written, the network first.
        names: of the input and the output; None are those of the export.
        convert: (export folder, folder to write to, side of the input in pixels).
        answers: (folder written to, export folder, images float32 [N, 3, H, W]) -> float32 [N, K];
            None where the runtime cannot be had here.
        channels_last: the file takes one picture, [1, H, W, 3].
    """

    sources: Sequence[str]
    files: Sequence[str]
    names: tuple[str, str] | None
    convert: Callable[[Path, Path, int], None]
    answers: Callable[[Path, Path, np.ndarray], np.ndarray | None]
    channels_last: bool = False


def convert_mnn(export: Path, folder: Path, size: int) -> None:
    """ONNX to MNN, float32, any batch size.

    Raises:
        UserError: MNN is missing or cannot convert the network.
    """
    _need("MNN", install_hint("mobile"))
    source, file = export / "inference.onnx", folder / "inference.mnn"
    argv = [sys.executable, "-c", MNN_CONVERT, "-f", "ONNX", "--modelFile", str(source)]
    _run("MNN", [*argv, "--MNNModel", str(file), "--bizCode", "ppcls_lite"], source, [file])


def answers_mnn(folder: Path, export: Path, images: np.ndarray) -> np.ndarray:
    """What MNN answers, one picture at a time, float32 [N, K]."""
    mnn: Any = import_engine("MNN", "MNN")
    network = mnn.Interpreter(str(folder / "inference.mnn"))
    session = network.createSession({})
    entry = network.getSessionInput(session)
    network.resizeTensor(entry, (1, *images.shape[1:]))
    network.resizeSession(session)

    def tensor(values: np.ndarray) -> Any:  # Caffe's order of dimensions is N, C, H, W
        kind, order = mnn.Halide_Type_Float, mnn.Tensor_DimensionType_Caffe
        return mnn.Tensor(values.shape, kind, values, order)

    rows = []
    for image in images:
        entry.copyFromHostTensor(tensor(image[np.newaxis]))
        network.runSession(session)
        output = network.getSessionOutput(session)
        host = tensor(np.zeros(output.getShape(), np.float32))
        output.copyToHostTensor(host)
        rows.append(np.array(host.getNumpyData()))
    return np.concatenate(rows)


def convert_ncnn(export: Path, folder: Path, size: int) -> None:
    """ONNX to ncnn by pnnx, float32, one picture at a time.

    Raises:
        UserError: pnnx is missing or cannot convert the network.
    """
    _need("ncnn", install_hint("mobile"))
    _need("pnnx", INSTALL_PNNX)
    spec = importlib.util.find_spec("pnnx")  # not imported: its Python part wants torch
    program = Path(spec.origin if spec and spec.origin else "pnnx").with_name("pnnx")
    with temporary_folder("ppcls-mobile-") as temporary:
        copy = Path(temporary) / "inference.onnx"  # it writes nine files beside what it reads
        shutil.copyfile(export / copy.name, copy)
        wanted = [copy.with_name(name) for name in FORMATS["ncnn"].files]
        # Weights are halved unless fp16=0.
        argv = [str(program), str(copy), f"inputshape=[1,3,{size},{size}]", "fp16=0"]
        _run("pnnx", argv, export / copy.name, wanted)
        for file in wanted:
            shutil.copyfile(file, folder / file.name)


def answers_ncnn(folder: Path, export: Path, images: np.ndarray) -> np.ndarray:
    """What ncnn answers in float32 arithmetic, float32 [N, K]."""
    ncnn: Any = import_engine("ncnn", "ncnn")
    network = ncnn.Net()
    network.opt.num_threads = 1  # threads that wait for each other lose more than they gain
    for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic"):
        setattr(network.opt, name, False)  # it would round the weights to half precision
    network.load_param(str(folder / "inference.ncnn.param"))
    network.load_model(str(folder / "inference.ncnn.bin"))
    rows = []
    for image in images:
        extractor = network.create_extractor()
        extractor.input("in0", ncnn.Mat(image))
        rows.append(np.array(extractor.extract("out0")[1]))  # [K]
    return np.stack(rows)


def convert_paddle_lite(export: Path, folder: Path, size: int, target: str = "arm") -> None:
    """A .pdmodel to Paddle Lite by `paddle_lite_opt`.

    Raises:
        UserError: it is not on the PATH, or cannot convert the network.
    """
    source, params = (export / name for name in FORMATS["paddle_lite"].sources)
    argv = [_paddle_lite_opt(), f"--model_file={source}", f"--param_file={params}"]
    argv += ["--optimize_out_type=naive_buffer", f"--valid_targets={target}"]
    argv += [f"--optimize_out={folder / 'inference'}"]  # .nb is appended
    _run("paddle_lite_opt", argv, source, [folder / "inference.nb"])


def answers_paddle_lite(folder: Path, export: Path, images: np.ndarray) -> np.ndarray | None:
    """What Paddle Lite answers, float32 [N, K]; None without an interpreter beside the converter.

    A file for ARM does not run here, so the network is converted once more, for x86. The package
    paddlelite has both, for old Pythons only: it runs in its own interpreter.
    """
    python = Path(_paddle_lite_opt()).with_name("python")
    if not python.is_file():
        return None
    with temporary_folder("ppcls-mobile-") as temporary:
        work = Path(temporary)
        convert_paddle_lite(export, work, images.shape[2], "x86")
        np.save(work / "images.npy", images)
        files = [work / name for name in ("inference.nb", "images.npy", "answers.npy")]
        argv = [str(python), str(PADDLE_LITE_RUNNER), *map(str, files)]
        _run("Paddle Lite", argv, files[0], files[2:])
        return np.load(files[2])


def _paddle_lite_opt() -> str:
    program = shutil.which("paddle_lite_opt")
    if program is None:
        raise UserError(
            "paddle_lite_opt is not on the PATH; the package paddlelite has it, for old Pythons",
            "python3.7 -m venv lite && lite/bin/pip install paddlelite==2.12 numpy"
            ' && PATH="$PWD/lite/bin:$PATH"',
        )
    return program


def _need(module: str, install: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise UserError(f"the Python package {module} is not installed", install)


def _run(tool: str, argv: Sequence[str], source: Path, wanted: Sequence[Path]) -> None:
    """Runs a converter; some end with status 0 whatever happened, so its files tell."""
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode == 0 and all(file.is_file() for file in wanted):
        return
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    said = lines[-1] if lines else f"status {done.returncode}"
    raise UserError(f"{tool} did not take {source}: {said}", "export a float32 model")


def convert_tflite(export: Path, folder: Path, size: int) -> None:
    """ONNX to TFLite, float32 or int8, one picture at a time, channels last; the classes' names.

    Raises:
        UserError: the network has an operator that is not written, or int8 of another target.
    """
    sidecar, file = read_sidecar(export), export / "inference.onnx"
    if sidecar is None:
        raise UserError(f"no description of the model in {export}", export_command(export))
    target = sidecar.int8_target
    if sidecar.info.quant_skip is not None or target not in (None, "tflite"):
        raise UserError(
            f"{export} has the int8 of {target or '--pact-quant'}, which TFLite cannot compute",
            command("quantize", "--target", "tflite", "--out", "int8"),
        )
    model = float_graph(file) if target is None else onnx.load(str(file))
    (folder / "inference.tflite").write_bytes(tflite_file(model, size))
    info = sidecar.info
    names = [" ".join(info.class_name(i).split()) for i in range(info.num_classes)]
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def answers_tflite(folder: Path, export: Path, images: np.ndarray) -> np.ndarray:
    """What LiteRT answers, float32 [N, K]: its default kernels, which its reference ones confirm.

    Raises:
        UserError: LiteRT is missing, or the two differ.
    """
    _need("ai_edge_litert", install_hint("mobile"))
    file = folder / "inference.tflite"
    found, plain = (run_tflite(file, images, reference) for reference in (False, True))
    sidecar = read_sidecar(export)
    limit = KERNELS if sidecar is None or sidecar.int8_target is None else INT8_KERNELS
    if np.abs(found - plain).max() > limit * max(1.0, float(np.abs(plain).max())):
        raise UserError(
            f"LiteRT's two kinds of kernels differ by {np.abs(found - plain).max()}",
            "--format mnn  # writes another file of the same model",
        )
    return found


FORMATS = {
    "mnn": Format(("inference.onnx",), ("inference.mnn",), None, convert_mnn, answers_mnn),
    "ncnn": Format(
        ("inference.onnx",),
        ("inference.ncnn.param", "inference.ncnn.bin"),
        ("in0", "out0"),  # pnnx's
        convert_ncnn,
        answers_ncnn,
    ),
    "paddle_lite": Format(
        ("inference.pdmodel", "inference.pdiparams"),
        ("inference.nb",),
        None,
        convert_paddle_lite,
        answers_paddle_lite,
    ),
    "tflite": Format(
        ("inference.onnx",),
        ("inference.tflite", "labels.txt"),
        None,
        convert_tflite,
        answers_tflite,
        channels_last=True,
    ),
}
