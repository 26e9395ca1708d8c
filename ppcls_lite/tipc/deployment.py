"""Chains of what was exported before: ONNX, int8, the server, C++, a phone."""

import json
import os
import re
import shutil
import socket
import sys
import time
from pathlib import Path

from ppcls_lite.data.preprocess import find_images
from ppcls_lite.tipc.checks import Check, answers_of_client, files_exist
from ppcls_lite.tipc.steps import Step, StepFailed, StepSkipped
from ppcls_lite.tipc.textfile import TextFile
from ppcls_lite.tipc.training import compare, ground_truth, join

START_SECONDS = 120
CONVERSION = ("model_path", "model_filename", "params_filename", "serving_server", "serving_client")


def paddle2onnx(config: TextFile, mode: str, logs: Path) -> list[Step]:
    """Converts with paddle2onnx's own command; ONNX Runtime must answer as the ground truth."""
    names = ("model_path", "model_filename", "params_filename", "save_file", "opset_version",
             "enable_onnx_checker")  # fmt: skip
    convert = join(config["2onnx"].value, *(config[name].flag() for name in names))
    answers = logs / "paddle2onnx_infer_cpu.log"
    infer = join(
        config["python"].value,
        config["inference"].value,
        config["img_path"].flag(),
        config["model_dir"].flag(),
    )
    written = files_exist(Path(config["save_file"].value))
    return [
        Step("paddle2onnx", convert, logs / "paddle2onnx.log", written),
        Step("infer", infer, answers),
        compare("compare", ground_truth(config.model), answers, 1e-3),
    ]


def ptq(config: TextFile, mode: str, logs: Path) -> list[Step]:
    """Quantizes with tools/quantize.py, which measures the loss itself, and infers."""
    script, out = Path(config["train"].value.split()[0]), Path(config["output_dir"].value)
    quantize = join(
        config["python"].value,
        config["train"].value,
        *(config[name].flag() for name in ("model_path", "data_dir", "output_dir")),
    )
    infer = join(
        config["python"].value,
        config["inference"].value,
        *(config[name].flag() for name in ("infer_device", "model_dir", "img_path")),
    )

    def clear(text: str) -> str:
        if not script.is_file():
            raise StepSkipped(f"{script} is not there")
        shutil.rmtree(out, ignore_errors=True)  # an earlier run's; the tool wants it empty
        return ""

    def answered(text: str) -> str:
        rows = [line for line in text.splitlines() if line.startswith("{")]
        pictures = find_images(config["img_path"].value)
        if len(rows) != len(pictures) or any("topk" not in json.loads(row) for row in rows):
            raise StepFailed(f"{len(rows)} answers to {len(pictures)} images")
        return f"{len(rows)} images"

    return [
        Step("clear", "", logs / "clear.log", clear),
        Step("quantize", quantize, logs / "quantize.log", files_exist(out / "inference.yml")),
        Step("infer", infer, logs / "python_infer_cpu_batchsize_1.log", answered),
    ]


def serving(config: TextFile, mode: str, logs: Path) -> list[Step]:
    """Converts for Paddle Serving; starts our server, asks it for every picture, compares, ends it.

    As in upstream's script, server and client run in serving_dir.
    """
    python, log, answers = config["python"].value, logs / "server.log", logs / "answers.txt"
    folder = Path(config["serving_dir"].value)
    service, port = with_port(config["web_service"].value)
    export = Path(config["model_path"].value)
    written = [
        Path(config[f"serving_{side}"].value, f"serving_{side}_conf.prototxt")
        for side in ("server", "client")
    ]
    flags = [config[name].flag() for name in CONVERSION]
    steps = [
        Step(
            "convert",
            join(python, config["trans_model"].value, *flags),
            logs / "convert.log",
            files_exist(*written),
        ),
        Step("start", f"{python} {service}", log, _started(log, answers), server=True, cwd=folder),
    ]
    pictures = find_images(str(folder / config["img_path"].value))
    for number, picture in enumerate(Path(os.path.relpath(each)) for each in sorted(pictures)):
        url = f"http://127.0.0.1:{port}/imagenet/prediction"
        command = f"{python} {config['pipline'].value} --url={url}"
        steps.append(
            Step(
                f"request {picture.name}",
                f"{command} {config['img_path'].key}={picture.resolve()}",
                logs / f"server_infer_{number}.log",
                answers_of_client(str(picture), export, answers),
                cwd=folder,
            )
        )
    return [*steps, compare("compare", ground_truth(config.model), answers, 1e-3)]


def with_port(command: str) -> tuple[str, int]:
    """Returns a server's command and its port; without `--port=N` it is one that is free now."""
    found = re.search(r"--port=(\d+)", command)
    if found:
        return command, int(found.group(1))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return f"{command} --port={port}", port


def _started(log: Path, answers: Path) -> Check:
    """Waits until the server says it is ready; every line of its log is JSON."""

    def check(text: str) -> str:
        answers.write_text("")
        for _ in range(10 * START_SECONDS):
            text = log.read_text()
            if '"ready after' in text:
                return ""
            refused = [row for row in text.splitlines() if row and not row.startswith("{")]
            if refused:  # a plain message: it does not start
                time.sleep(1)
                raise StepFailed(f"the server did not start: {log.read_text().strip()[:300]}")
            time.sleep(0.1)
        raise StepFailed(f"the server was not ready after {START_SECONDS} s")

    return check


def cpp(config: TextFile, mode: str, logs: Path) -> list[Step]:
    """Builds deploy/cpp and infers with its program; its answers must be the ground truth."""
    program = Path(config["inference"].value.split()[0])
    answers = logs / "infer_cpp_use_cpu.log"

    def can_build(text: str) -> str:
        if not Path("deploy/cpp/CMakeLists.txt").is_file():
            raise StepSkipped("deploy/cpp is not there: the C++ program was not built or run")
        if not shutil.which("cmake"):
            raise StepSkipped("cmake is not installed: the C++ program was not built or run")
        return ""

    infer = (
        f"{config['inference'].value} --json --topk=10"
        f" --pretrained={config['model_path'].value} --img-path={config['img_path'].value}"
    )
    configure = f"cmake -S deploy/cpp -B {program.parent} -DPython3_EXECUTABLE={sys.executable}"
    return [
        Step("can build", "", logs / "can_build.log", can_build),
        Step("configure", configure, logs / "cmake.log", optional=True),
        Step("build", f"cmake --build {program.parent}", logs / "build.log", files_exist(program)),
        Step("infer", infer, answers),
        compare("compare", ground_truth(config.model), answers, 1e-3),
    ]


def lite_arm(config: TextFile, mode: str, logs: Path) -> list[Step]:
    """Needs a phone and paddle_lite_opt; there is no program for it here, so it never passes."""

    def attached(text: str) -> str:
        if not shutil.which("adb"):
            raise StepSkipped("no adb: no device can be attached, nothing was run on a phone")
        raise StepSkipped("the program for a phone is not part of this repository")

    return [Step("device", "", logs / "device.log", attached)]
