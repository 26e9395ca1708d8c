"""Which chain a text file and a mode stand for, and which of them `make tipc` runs."""

import re
from collections.abc import Callable
from pathlib import Path

from ppcls_lite.errors import UserError
from ppcls_lite.tipc import deployment, training
from ppcls_lite.tipc.prepare import preparation
from ppcls_lite.tipc.steps import Chain, Step
from ppcls_lite.tipc.table import CONFIGS
from ppcls_lite.tipc.textfile import CPP, LITE, ONNX, PTQ, SERVING, TRAIN, TextFile, parse

Builder = Callable[[TextFile, str, Path], list[Step]]
TRAIN_MODES = (
    "lite_train_lite_infer",
    "lite_train_whole_infer",
    "whole_train_whole_infer",
    "whole_infer",
)
# (first line of the file, mode) -> name, builder, results file as upstream calls it
CHAINS: dict[tuple[str, str], tuple[str, Builder, str]] = {
    **{
        (TRAIN[0], mode): ("train_inference", training.train_inference, "results_python.log")
        for mode in TRAIN_MODES
    },
    (TRAIN[0], "dy2static_train"): ("dy2static", training.dy2static, "results_python.log"),
    (TRAIN[0], "benchmark_train"): ("benchmark", training.benchmark, "results.log"),
    (PTQ[0], "whole_infer"): ("ptq_inference", deployment.ptq, "results_ptq_python.log"),
    (ONNX[0], "paddle2onnx_infer"): (
        "paddle2onnx", deployment.paddle2onnx, "results_paddle2onnx.log"),
    (SERVING[0], "serving_infer"): ("serving_infer", deployment.serving, "results_serving.log"),
    (CPP[0], "cpp_infer"): ("inference_cpp", deployment.cpp, "results_cpp.log"),
    (LITE[0], "lite_infer"): ("lite_arm_cpu_cpp", deployment.lite_arm, "results_lite.log"),
}  # fmt: skip

SMALL = "mobilenet_v3_small"
CPU_SUBSET = (
    (SMALL, "lite_train_lite_infer", "train_infer_python_cpu"),
    (SMALL, "lite_train_lite_infer", "train_parallel_infer_python_cpu"),
    (SMALL, "lite_train_lite_infer", "train_pact_infer_python_cpu"),
    (SMALL, "lite_train_lite_infer", "train_fpgm_infer_python_cpu"),
    (SMALL, "whole_infer", "train_infer_python_cpu"),
    (SMALL, "whole_infer", "train_ptq_infer_python"),
    (SMALL, "paddle2onnx_infer", "paddle2onnx_infer_python"),
    (SMALL, "serving_infer", "serving_infer_python"),
    (SMALL, "cpp_infer", "inference_cpp"),
    *(
        (model, "lite_train_lite_infer", "train_infer_python_cpu")
        for model in ("mobilenet_v3_large", "mnasnet1_0", "MobileNetV3_large_x1_0")
    ),
)


def chain(mode: str, path: Path, output: Path, only_prepare: bool = False) -> Chain:
    """Returns the steps of a chain, those that prepare it first.

    Raises:
        UserError: the file is broken, or has no such mode.
    """
    config = parse(path)
    key = (config.form[0], mode)
    if key not in CHAINS:
        modes = [m for head, m in CHAINS if head == key[0]]
        raise UserError(f"{path}: no mode {mode}", f"give --mode one of {', '.join(modes)}")
    name, build, results = CHAINS[key]
    variant = re.search(r"train_(\w+?)_infer", path.stem)
    if variant and config.form is TRAIN:  # files of one model and mode must not share a result
        results = f"results_{variant.group(1)}_python.log"
    logs = output / config.model / mode
    steps = preparation(config.model, mode, logs)
    if only_prepare:
        return Chain("prepare", config.model, mode, steps, logs / "results_prepare.log")
    return Chain(name, config.model, mode, [*steps, *build(config, mode, logs)], logs / results)


def cpu_subset(output: Path) -> list[Chain]:
    """Returns the chains of `make tipc`."""
    return [
        chain(mode, CONFIGS / model / f"{stem}.txt", output) for model, mode, stem in CPU_SUBSET
    ]
