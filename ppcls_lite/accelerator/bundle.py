"""One folder with everything the accelerator's tools read, made from a checkpoint."""

import json
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from ppcls_lite.accelerator import scripts
from ppcls_lite.accelerator.build_config import BuildConfig, to_yaml, transform_ops
from ppcls_lite.accelerator.calibration import SUFFIX, write_calibration
from ppcls_lite.accelerator.labels import val_folder, write_labels
from ppcls_lite.accelerator.quantized import read_quantized
from ppcls_lite.accelerator.static_onnx import write_onnx
from ppcls_lite.accelerator.vdsp import FORMS, vdsp_params
from ppcls_lite.arch.zoo import model_spec
from ppcls_lite.data.classes import ClassMatch
from ppcls_lite.data.dataset import open_split
from ppcls_lite.data.image_dataset import ImageDataset
from ppcls_lite.data.shares import Shares
from ppcls_lite.deploy.sidecar import Sidecar
from ppcls_lite.errors import UserError
from ppcls_lite.files import check_utf8, file_sha256, naming
from ppcls_lite.graph import INPUT_NAME
from ppcls_lite.int8.qdq import COMPILER_OPSET
from ppcls_lite.int8.stretch import save_unstretched
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.weights.find import find_weights

HW_CONFIG: dict[str, Any] = {
    "model": {"batch_size": "1", "idma": "0"},
    "global": {
        "odma": {
            "prefetch_threshold": "0",
            "data_exp_wr_qos": "0",
            "outstand_num_rd": "127",
            "outstand_num_wr": "127",
            "burst_len": "11",
        },
        "wddma": {"rd_qos": "0", "outstand_num_rd": "3", "burst_len": "15"},
        "cdma": {"rd_qos": "1", "outstand_num_rd": "10"},
    },
    "pipelines": [],
}


@dataclass(frozen=True)
class Request:
    """What a bundle is made of.

    Attributes:
        pretrained: a checkpoint, weights of any framework, the tag of published ones, or the folder
            that `quantize --target accelerator` wrote.
        model: their network, when they do not say.
        num_classes: their classes, when they do not say.
        data_path: data root with the pictures of calibration and evaluation; None leaves them out.
        split: where calibration pictures come from.
        count: how many.
        mode: calibration mode; None takes that of the folder, else the documents'.
        opset_version: of the ONNX file.
        image_size: side of the input; None takes the checkpoint's.
        created_by: the command.
    """

    pretrained: str
    model: str | None
    num_classes: int | None
    data_path: str | None
    split: str
    count: int
    mode: str | None
    opset_version: int
    image_size: int | None
    created_by: str


@dataclass(frozen=True)
class Network:
    """The network of a bundle, whose ONNX file is written.

    Attributes:
        sidecar: what is known of it.
        given: what it was made of, for messages; a run's folder knows its split.
        weights: the flags that name its weights on a command line, with absolute paths.
        accuracy: of the float network; None where it was never measured.
        mode: calibration mode.
        float_layers: names of the layers that int8 leaves in float.
    """

    sidecar: Sidecar
    given: str
    weights: tuple[str, ...]
    accuracy: dict[str, float] | None
    mode: str
    float_layers: tuple[str, ...] = ()

    @property
    def info(self) -> ModelInfo:
        """The network and how to feed it."""
        return self.sidecar.info


def write_bundle(folder: Path, request: Request) -> dict[str, Any]:
    """Writes a bundle and returns the content of its `bundle.json`.

    The folder appears when it is complete.

    Raises:
        UserError: the folder is not empty, or something given cannot work.
    """
    check_utf8(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there and not empty", "give another folder, or remove it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
    try:
        with naming(folder):
            work.mkdir()
            description = _fill(work, request)
            os.replace(work, folder)  # which may be there, empty
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return description


def _fill(work: Path, request: Request) -> dict[str, Any]:
    """Writes all files of a bundle into an empty folder and returns its description."""
    (work / "onnx").mkdir()
    draft = work / "onnx/network.onnx"
    network = _write_network(draft, request)
    info = network.info
    _check_card(info, request.pretrained)
    name = info.name
    file = draft.rename(work / f"onnx/{name}.onnx")
    train, val, matches = _open_data(network, request)
    _write_build(work, network, request.count)
    _write_runtime_files(work, info, network.mode)
    write_labels(work, info, val, matches)
    calibration = {"pictures": 0, "split": request.split, "missing_classes": []}
    if train is not None:
        calibration |= write_calibration(work, info, train, request.count)
    size, mode = info.preprocess.crop_size, network.mode
    script = scripts.run_script(name, size, source(name), mode, network.float_layers)
    (work / "run.sh").write_text(script, encoding="utf-8")
    (work / "run.sh").chmod(0o755)
    description = {
        "name": name,
        "num_classes": info.num_classes,
        "preprocess": info.preprocess.to_dict(),
        "onnx": {"file": str(file.relative_to(work)), "opset": request.opset_version}
        | {"input": INPUT_NAME, "softmax": False},
        "float_layers": list(network.float_layers),
        "fp32_accuracy": network.accuracy,
        "verification": network.sidecar.verification,
        "calibration": calibration,
        "val": val_folder(request.data_path),
        "val_images": None if val is None else {"count": len(val), "notes": list(val.notes)},
        "classes_matched": [match.how for match in matches],
        "source": network.sidecar.source,
        "versions": network.sidecar.versions | {"python": platform.python_version()},
        "created_by": request.created_by,
        "quantize": _quantize_flags(network, request.data_path),
        "files": {
            str(path.relative_to(work)): file_sha256(path)
            for path in sorted(work.rglob("*"))
            if path.is_file()
        },
    }
    text = json.dumps(description, indent=1, ensure_ascii=False) + "\n"
    (work / "bundle.json").write_text(text, encoding="utf-8")
    return description


def _check_card(info: ModelInfo, pretrained: str) -> None:
    """Raises UserError for a network whose pictures or answers the card cannot process."""
    if info.multi_label:
        raise UserError(
            f"{pretrained} gives several labels an image; the card's own postprocessing"
            " knows a softmax and one class",
            "export it with tools/export_model.py, for a CPU or GPU: those files end in a sigmoid",
        )
    if info.preprocess.fit != "crop":
        raise UserError(
            f"{pretrained} was trained for --fit {info.preprocess.fit}; the card's own"
            " preprocessing resizes the short side and crops",
            "train with --fit crop for a card",
        )


def _open_data(
    network: Network, request: Request
) -> tuple[ImageDataset | None, ImageDataset | None, list[ClassMatch]]:
    """Returns the pictures to calibrate with and val, as the network numbers their classes, and
    how those were matched; nothing where the request names no data."""
    if not request.data_path:
        return None, None, []
    shares = Shares(run=network.given)
    train, val = (
        open_split(request.data_path, split, shares=shares) for split in (request.split, "val")
    )
    known, hint = network.info.class_set(network.given), "give the data of the model's classes"
    train, of_train = train.matched(known, request.split, hint)
    val, of_val = val.matched(known, "val", hint)
    return train, val, [of_train, of_val]


def source(model: str) -> str:
    """Whose network it is, as the documents' file names begin: timm, torchvision, ppcls ..."""
    return model_spec(model).source


def _write_network(file: Path, request: Request) -> Network:
    """Writes the ONNX file of what a request names."""
    quantized = read_quantized(Path(request.pretrained))
    if quantized is not None:
        given = (request.model, request.num_classes, request.image_size)
        if given != (None, None, None) or request.opset_version != COMPILER_OPSET:
            raise UserError(
                f"{request.pretrained} holds a graph of opset {COMPILER_OPSET} whose model and"
                " size are fixed: --model, --num-classes, --img-size and --opset-version have no"
                " effect",
                "leave these flags out",
            )
        quantized.copy_graph(file)
        return Network(
            quantized.sidecar,
            request.pretrained,
            ("--pretrained", "WEIGHTS"),  # the folder knows their name, not where they are
            {"top1": quantized.top1},
            request.mode or quantized.mode,
            quantized.float_layers,
        )
    weights = find_weights(request.pretrained, request.model, request.num_classes)
    sidecar = write_onnx(
        weights, file, opset_version=request.opset_version, image_size=request.image_size
    )
    flag, path, *more = weights.flags
    accuracy = (weights.description or {}).get("metrics") or None
    named = (flag, str(Path(path).absolute()), *more)
    return Network(sidecar, str(weights.path), named, accuracy, request.mode or "percentile")


def _quantize_flags(network: Network, data_path: str | None) -> list[str]:
    """The flags with which quantize looks for what int8 can follow, given the same data."""
    data = str(Path(data_path).absolute()) if data_path else "DATA"
    more = ["--float-layers", "elementwise,budget:60"] if network.float_layers else []
    return ["--target", "accelerator", *network.weights, "--data-path", data, *more]


def _write_build(work: Path, network: Network, count: int) -> None:
    info = network.info
    (work / "build").mkdir()
    graph = onnx.load(str(work / f"onnx/{info.name}.onnx"), load_external_data=False)
    value = graph.graph.input[0]
    shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
    half = save_unstretched(work / f"onnx/{info.name}.onnx")
    for era in (1, 2):
        for dtype in ("int8", "fp16"):
            config = BuildConfig(
                era=era,
                name=info.name if era == 1 else f"{info.name}_{dtype}",
                checkpoint=f"onnx/{half if dtype == 'fp16' else info.name + '.onnx'}",
                inputs={value.name: shape},
                dtype=dtype,
                softmax=True,
                mode=network.mode,
                dataset="calib",
                suffix=SUFFIX,
                count=count,
                ops=transform_ops(info.preprocess),
                float_layers=network.float_layers,
            )
            (work / f"build/v{era}_{dtype}.yaml").write_text(to_yaml(config), encoding="utf-8")


def _write_runtime_files(work: Path, info: ModelInfo, mode: str) -> None:
    name, size = info.name, info.preprocess.crop_size
    prefix = scripts.prefix(name, size, f"int8-{mode}")
    files: dict[str, dict[str, Any]] = {
        f"model_info/model_info_{name}.json": {
            "model_name": name,
            "model_lib_path": f"{prefix}.so",
            "model_graph_path": f"{prefix}.json",
            "model_params_path": f"{prefix}.params",
            "hw_config_file": "hw_config/hw_config.json",
        },
        "hw_config/hw_config.json": HW_CONFIG,
    }
    for form in FORMS:
        file = f"vdsp_params/{form}/{source(name)}-{name}-vdsp_params.json"
        files[file] = vdsp_params(info.preprocess, form)
    for path, content in files.items():
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")
