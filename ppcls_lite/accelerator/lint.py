"""Checks a build YAML, or a whole bundle, and names the line of what will go wrong on the card."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from PIL import Image

from ppcls_lite.accelerator.build_config import (
    SOFTMAX_NONE,
    BuildConfig,
    calibration_preprocess,
    parse_build,
)
from ppcls_lite.accelerator.build_keys import KEYS_1, KEYS_2, OPS
from ppcls_lite.accelerator.finding import Finding
from ppcls_lite.accelerator.yaml_lines import Document, KeyPath, read_document
from ppcls_lite.data.pictures import image_files
from ppcls_lite.deploy.first_load import check_form
from ppcls_lite.errors import UserError, nearest, shortened
from ppcls_lite.int8.calibrate import ALIASES, MODES
from ppcls_lite.int8.softmax import ends_in_softmax
from ppcls_lite.untrusted import reading

# What must be there: key paths of both eras.
REQUIRED: dict[int, tuple[KeyPath, ...]] = {
    1: (
        ("model", "name"), ("model", "inputs"), ("model", "checkpoint"),
        ("engine", "common", "do_quantization"),
        ("dataset", "transform_ops"), ("workspace", "work_dir"),
    ),
    2: (
        ("name",), ("frontend", "checkpoint"), ("frontend", "shape"), ("backend", "dtype"),
        ("dataset", "process_ops"), ("workspace", "path"),
    ),
}  # fmt: skip


def lint_yaml(path: Path, root: Path) -> list[Finding]:
    """Checks a build YAML.

    Args:
        path: the file.
        root: what the paths in it are relative to.

    Raises:
        UserError: the file cannot be read as YAML.
    """
    document = read_document(path)
    with reading(path, "build YAML", "compare it with a YAML in a bundle's build/"):
        findings = [*_check_keys(document), *_check_values(document)]
        if any(finding.level == "error" for finding in findings):
            return findings
        config = parse_build(document)
        findings += _check_graph(document, config, root)
        findings += _check_dataset(document, config, root)
        return findings


def _finding(document: Document, level: str, keys: KeyPath, message: str) -> Finding:
    return Finding(level, document.path, document.line(*keys), message)


def _check_keys(document: Document) -> Iterator[Finding]:
    keys = KEYS_1 if document.era == 1 else KEYS_2
    yield from _unknown(document, document.content, keys, ())
    for required in REQUIRED[document.era]:
        if document.get(*required) is None:
            message = f"{'.'.join(map(str, required))} is missing"
            yield _finding(document, "error", required, message)


def _unknown(
    document: Document, content: Mapping[str, Any], known: Mapping[str, Any], keys: KeyPath
) -> Iterator[Finding]:
    for key, value in content.items():
        where = (*keys, key)
        if key not in known:
            close = nearest(str(key), known)
            name = shortened(repr(key))
            message = f"unknown key {name}{close}; the compiler ignores it silently"
            yield _finding(document, "error", where, message)
        elif known[key] and isinstance(value, dict):
            yield from _unknown(document, value, known[key], where)
        elif known[key] and value is not None:
            given = shortened(repr(value))
            yield _finding(document, "error", where, f"{key} needs keys below it, not {given}")


def _check_values(document: Document) -> Iterator[Finding]:
    era, get = document.era, document.get
    calibration: KeyPath = ("engine", "calibration") if era == 1 else ("backend", "quantize")
    mode = (*calibration, "quant_mode" if era == 1 else "calibrate_mode")
    word = get(*mode)
    if word is not None and word not in MODES:
        alias = ALIASES.get(str(word))
        hint = f"; the compiler calls it {alias}" if alias else ""
        allowed = ", ".join(MODES)
        given = shortened(repr(word))
        yield _finding(document, "error", mode, f"{given} is none of {allowed}{hint}")
    channels = (*calibration, "per_channel" if era == 1 else "quantize_per_channel")
    if get(*channels) is False:
        message = "one scale for all channels of a layer: no published file has it, the stand-in"
        yield _finding(document, "error", channels, f"{message} cannot do it")
    extra: KeyPath = ("engine", "add_extra_ops_to_graph") if era == 1 else ("graph", "extra_ops")
    if get(*extra, "type") not in (*SOFTMAX_NONE, "softmax"):
        yield _finding(document, "error", (*extra, "type"), "allowed: softmax, null")
    if era == 2 and get("backend", "dtype") not in (None, "int8", "fp16"):
        yield _finding(document, "error", ("backend", "dtype"), "allowed: int8, fp16")
    for key in ("ops_usingfp", "skip_matmul_layers"):
        if get(*calibration, key):
            keys = (*calibration, key)
            yield _finding(document, "warning", keys, f"{key} is not simulated by the stand-in")
    skipped = (*calibration, "skip_conv_layers")
    if any(isinstance(layer, int) for layer in get(*skipped) or ()):
        message = (
            "numbers count convolutions in the stand-in; the compiler counts converted operators,"
            " too, so they may name other layers there"
        )
        yield _finding(document, "warning", skipped, message)
    inputs: KeyPath = ("model", "inputs") if era == 1 else ("frontend", "shape")
    shapes = get(*inputs)
    if shapes is not None and not (
        isinstance(shapes, dict) and len(shapes) == 1 and _is_shape(*shapes.values())
    ):
        yield _finding(document, "error", inputs, "expected one `input name: [1, 3, H, W]`")
    yield from _check_ops(document, "transform_ops" if era == 1 else "process_ops")


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(type(n) is int for n in value)


def _check_ops(document: Document, key: str) -> Iterator[Finding]:
    steps = document.get("dataset", key)
    for number, op in enumerate(steps if isinstance(steps, list) else ()):
        keys = ("dataset", key, number)
        kind = op.get("type") if isinstance(op, dict) else op
        if kind not in OPS:
            message = f"unknown step {shortened(repr(kind))}{nearest(str(kind), OPS)}"
            yield _finding(document, "error", keys, message)
            continue
        for name in op:
            if name not in ("type", *OPS[kind]):
                close = nearest(str(name), OPS[kind])
                message = f"unknown key {shortened(repr(name))} of {kind}{close}"
                yield _finding(document, "error", (*keys, name), message)


def _check_graph(document: Document, config: BuildConfig, root: Path) -> Iterator[Finding]:
    era = document.era
    checkpoint: KeyPath = ("model", "checkpoint") if era == 1 else ("frontend", "checkpoint")
    inputs: KeyPath = ("model", "inputs") if era == 1 else ("frontend", "shape")
    extra: KeyPath = ("engine", "add_extra_ops_to_graph") if era == 1 else ("graph", "extra_ops")
    file = root / config.checkpoint
    if not file.is_file():
        message = f"no file {config.checkpoint} (paths are relative to the current folder)"
        yield _finding(document, "error", checkpoint, message)
        return
    if file.suffix != ".onnx":
        yield _finding(document, "error", checkpoint, "the stand-in reads .onnx only")
        return
    try:
        check_form(file)
        model = onnx.load(str(file), load_external_data=False)
        value = model.graph.input[0]
    except (DecodeError, IndexError, UserError) as error:
        message = f"{file.name} is no ONNX file ({shortened(error)})"
        yield _finding(document, "error", checkpoint, message)
        return
    (name,) = config.inputs
    if name != value.name:
        message = f"input {name!r}, but {file.name} calls it {value.name!r}"
        yield _finding(document, "error", (*inputs, name), message)
    sizes = [d.dim_value for d in value.type.tensor_type.shape.dim]
    pairs = zip(sizes, config.shape, strict=True) if len(sizes) == 4 else [(-1, 0)]
    if any(has not in (0, wants) for has, wants in pairs):
        message = f"shape {config.shape}, but {file.name} has {sizes}"
        yield _finding(document, "error", (*inputs, name), message)
    if config.softmax and ends_in_softmax(model):
        message = f"{file.name} ends in a softmax already; a second one flattens all probabilities"
        yield _finding(document, "error", (*extra, "type"), message)
    if not config.softmax and not ends_in_softmax(model):
        message = f"no softmax is added and {file.name} has none: the results are logits"
        yield _finding(document, "warning", extra, message)


def _check_dataset(document: Document, config: BuildConfig, root: Path) -> Iterator[Finding]:
    try:
        spec = calibration_preprocess(config)
    except UserError as error:
        yield _finding(document, "error", ("dataset",), error.message)
        return
    if spec.crop != config.shape[-1]:
        message = f"calibration images of {spec.crop} pixels, the input has {config.shape[-1]}"
        keys = (*_step(document, config, "CenterCrop"), "crop_size")
        yield _finding(document, "error", keys, message)
    pictures = calibration_pictures(config, root)
    if not pictures and config.dtype == "int8":
        message = f"no *.{config.suffix} in {config.dataset}: int8 needs calibration images"
        yield _finding(document, "warning", ("dataset", "path"), message)
    for path in pictures:
        try:
            with Image.open(path) as image:
                width, height = image.size
        except Exception as error:  # Pillow's readers raise whatever broken bytes lead to
            yield _finding(document, "error", ("dataset", "path"), shortened(error))
            continue
        if spec.squash and width != height:
            message = (
                f"Resize {[spec.resize] * 2} squashes {path.name} ({width} x {height}); models"
                " are trained and evaluated with the short side resized"
            )
            keys = (*_step(document, config, "Resize"), "size")
            yield _finding(document, "warning", keys, message)
            return


def _step(document: Document, config: BuildConfig, kind: str) -> KeyPath:
    """Where a calibration step is in the file."""
    number = [op["type"] for op in config.ops].index(kind)
    return ("dataset", "transform_ops" if document.era == 1 else "process_ops", number)


def calibration_pictures(config: BuildConfig, root: Path) -> list[Path]:
    """The calibration pictures of a build, sorted; evenly spread when there are more than asked."""
    folder = root / config.dataset
    found = [Path(f) for f in image_files(str(folder)) if f.endswith("." + config.suffix)]
    if len(found) <= config.count:
        return found
    return [found[i * len(found) // config.count] for i in range(config.count)]
