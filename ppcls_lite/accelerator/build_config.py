"""The build YAML of the accelerator's compiler, in the forms of its two eras.

First era (`vamc build`): model, engine, dataset, workspace. Second (`vamc compile`): name,
frontend, graph, backend, dataset, workspace.
"""

from dataclasses import dataclass
from typing import Any

import yaml

from ppcls_lite.accelerator.pixels import CardPreprocess
from ppcls_lite.accelerator.yaml_lines import Document, KeyPath
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.errors import UserError

SOFTMAX_NONE = (None, "null")


@dataclass(frozen=True)
class BuildConfig:
    """What a build YAML says, whichever form it has.

    Attributes:
        era: 1 (`vamc build`) or 2 (`vamc compile`).
        name: of the model; prefix of what is built.
        checkpoint: the ONNX file.
        inputs: input name to shape [1, 3, H, W].
        dtype: int8 or fp16.
        softmax: a softmax is appended to the graph.
        mode: calibration mode, for int8.
        float_layers: kept in float: node names, or numbers counting convolutions.
        dataset: folder of calibration pictures.
        suffix: of their files.
        count: how many to use.
        ops: what is done to them, in order.
        work_dir: where results go.
    """

    era: int
    name: str
    checkpoint: str
    inputs: dict[str, list[int]]
    dtype: str
    softmax: bool
    mode: str
    dataset: str
    suffix: str
    count: int
    ops: list[dict[str, Any]]
    work_dir: str = "./deploy_weights/"
    float_layers: tuple[str | int, ...] = ()

    @property
    def shape(self) -> list[int]:
        """Of the one input."""
        return next(iter(self.inputs.values()))

    @property
    def folder(self) -> str:
        """Where the compiler of that era puts its result, without the ending that names who built
        it: `vacc` in the first era, nothing in the second.
        """
        if self.era == 2:
            return f"{self.work_dir.rstrip('/')}/{self.name}"
        kind = f"int8-{self.mode}" if self.dtype == "int8" else "fp16-none"
        sizes = "_".join(str(n) for n in self.shape[1:])
        return f"{self.work_dir.rstrip('/')}/{self.name}-{kind}-{sizes}"

    @property
    def prefix(self) -> str:
        """Name of the files in that folder, without suffix."""
        return self.name if self.era == 1 else "mod"


def transform_ops(spec: Preprocess) -> list[dict[str, Any]]:
    """Returns the calibration steps of a network, in the compiler's words."""
    return [
        {"type": "DecodeImage"},
        {"type": "Resize", "size": [spec.resize_size, spec.resize_size]},
        {"type": "CenterCrop", "crop_size": [spec.crop_size, spec.crop_size]},
        {"type": "Normalize", "mean": list(spec.mean), "std": list(spec.std)},
        {"type": "ToTensor"},
    ]


def to_yaml(config: BuildConfig) -> str:
    """Writes a configuration in the form of its era.

    The first era numbers convolutions and has no key for names, so layers that stay in float are
    in the second's only.
    """
    sampler = {"suffix": config.suffix, "get_data_num": config.count}
    is_int8 = config.dtype == "int8"
    if config.era == 1:
        content: dict[str, Any] = {
            "model": {
                "name": config.name,
                "inputs": dict(config.inputs),
                "checkpoint": config.checkpoint,
            },
            "engine": {
                "type": "vacc",
                "common": {"do_quantization": is_int8},
                "add_extra_ops_to_graph": {"type": "softmax" if config.softmax else None},
                "calibration": {"quant_mode": config.mode, "per_channel": True},
            },
            "dataset": {"path": config.dataset, "sampler": sampler, "transform_ops": config.ops},
            "workspace": {"work_dir": config.work_dir, "enable_ir": False, "save_log": True},
        }
        return yaml.safe_dump(content, sort_keys=False, default_flow_style=None)
    quantize: dict[str, Any] = {"calibrate_mode": config.mode, "quantize_per_channel": True}
    if config.float_layers:
        quantize["exclude_layers"] = list(config.float_layers)
    content = {
        "name": config.name,
        "frontend": {
            "type": "onnx",
            "checkpoint": config.checkpoint,
            "dtype": "fp32",
            "shape": dict(config.inputs),
        },
        **({"graph": {"extra_ops": {"type": "softmax"}}} if config.softmax else {}),
        "backend": {
            "type": "tvm_vacc",
            "dtype": config.dtype,
            "compile": {"cluster_mode": 0},
            **({"quantize": quantize} if is_int8 else {}),
        },
        "dataset": {
            "type": "tvm",
            "path": config.dataset,
            "sampler": sampler,
            "process_ops": config.ops,
        },
        "workspace": {"path": config.work_dir},
    }
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None)


def parse_build(document: Document) -> BuildConfig:
    """Takes a configuration from a file that `lint.check_document` found no error in."""
    get = document.get
    if document.era == 1:
        calibration = ("engine", "calibration")
        return BuildConfig(
            era=1,
            name=get("model", "name"),
            checkpoint=get("model", "checkpoint"),
            inputs=get("model", "inputs"),
            dtype="int8" if get("engine", "common", "do_quantization") is True else "fp16",
            softmax=get("engine", "add_extra_ops_to_graph", "type") not in SOFTMAX_NONE,
            mode=get(*calibration, "quant_mode") or "percentile",
            float_layers=tuple(get(*calibration, "skip_conv_layers") or ()),
            **_common(document, "transform_ops", ("workspace", "work_dir")),
        )
    quantize = ("backend", "quantize")
    skipped = [get(*quantize, key) or () for key in ("skip_conv_layers", "exclude_layers")]
    return BuildConfig(
        era=2,
        name=get("name"),
        checkpoint=get("frontend", "checkpoint"),
        inputs=get("frontend", "shape"),
        dtype=get("backend", "dtype"),
        softmax=get("graph", "extra_ops", "type") not in SOFTMAX_NONE,
        mode=get(*quantize, "calibrate_mode") or "percentile",
        float_layers=(*skipped[0], *skipped[1]),
        **_common(document, "process_ops", ("workspace", "path")),
    )


def _common(document: Document, ops: str, work_dir: KeyPath) -> dict[str, Any]:
    get = document.get
    return {
        "dataset": get("dataset", "path") or "",
        "suffix": get("dataset", "sampler", "suffix") or "JPEG",
        "count": get("dataset", "sampler", "get_data_num") or 1000,
        "ops": get("dataset", ops) or [],
        "work_dir": get(*work_dir) or "./deploy_weights/",
    }


def calibration_preprocess(config: BuildConfig) -> CardPreprocess:
    """Returns what the calibration pictures go through: mean and std in full precision.

    Raises:
        UserError: a step is missing, or cannot be simulated.
    """
    steps = {op["type"]: op for op in config.ops}
    for name in ("Resize", "CenterCrop", "Normalize"):
        if name not in steps:
            raise UserError(
                f"the calibration steps of {config.name} have no {name}",
                f"add {name} to preprocess_ops, as a bundle's build/ has it",
            )
    if "CustomFunc" in steps:
        raise UserError(
            "CustomFunc: code of your own is not run by the stand-in",
            "take CustomFunc out of preprocess_ops, or build with the card's compiler",
        )
    size, crop = steps["Resize"]["size"], steps["CenterCrop"]["crop_size"]
    sides = {*(size if isinstance(size, list) else [size])}
    crops = {*(crop if isinstance(crop, list) else [crop])}
    if len(sides) > 1 or len(crops) > 1:
        raise UserError(
            f"Resize {size}, CenterCrop {crop}: only squares are simulated",
            "give each one number, or the same number twice",
        )
    factor = 255 if steps["Normalize"].get("div255") is False else 1
    mean, std = ([x / factor for x in steps["Normalize"][key]] for key in ("mean", "std"))
    try:
        return CardPreprocess(
            resize=sides.pop(),
            squash=isinstance(size, list),
            crop=crops.pop(),
            mean=(mean[0], mean[1], mean[2]),
            std=(std[0], std[1], std[2]),
            half=False,
            bgr=steps.get("CvtColor", {}).get("code") == "COLOR_RGB2BGR",
        )
    except ValueError as error:
        raise UserError(
            f"the calibration steps of {config.name}: {error}",
            "change this value in preprocess_ops; a bundle's build/ has one that works",
        ) from None
