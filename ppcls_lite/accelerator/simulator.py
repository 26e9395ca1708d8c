"""A stand-in for the card: builds a graph with its arithmetic and runs it on ONNX Runtime.

Nothing here is the vendor's: results lie in folders that end in `-sim`, hold an ONNX file and a
JSON, and say so. What is known of the arithmetic is in docs/accelerator.md.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from ppcls_lite.accelerator.build_config import (
    BuildConfig,
    calibration_preprocess,
    parse_build,
)
from ppcls_lite.accelerator.finding import Finding
from ppcls_lite.accelerator.lint import calibration_pictures, lint_yaml
from ppcls_lite.accelerator.pixels import CardPreprocess
from ppcls_lite.accelerator.yaml_lines import read_document
from ppcls_lite.data.decode import load_image
from ppcls_lite.errors import UserError, shortened
from ppcls_lite.files import file_sha256, write_atomically
from ppcls_lite.int8.calibrate import Activations, Threshold, calibrate
from ppcls_lite.int8.half import insert_half
from ppcls_lite.int8.pictures import Pictures
from ppcls_lite.int8.qdq import (
    EXACT,
    float_graph,
    insert_qdq,
    resolve_layers,
    rounded_tensors,
)
from ppcls_lite.int8.softmax import append_softmax, ends_in_softmax
from ppcls_lite.int8.stretch import unstretched
from ppcls_lite.program import command
from ppcls_lite.runtimes import OnnxRuntime
from ppcls_lite.untrusted import field, read_json, reading

ENDING = "-sim"
CARD_ENDING = "-vacc"
WORK_FOLDER = "deploy_weights"  # of the published build files
CHECKED = 100  # calibration pictures, at most, whose classes are compared with the float graph's
NOTE = "simulated on a CPU by ppcls_lite; not a product of the accelerator's compiler"


def load_planar(path: Path) -> np.ndarray:
    """Reads a picture as the card takes it: uint8 [3, H, W], R, G, B."""
    return np.asarray(load_image(path)).transpose(2, 0, 1)


@dataclass(frozen=True)
class Built:
    """What `build` did.

    Attributes:
        prefix: of the files written, without suffix.
        findings: what the linter had to say.
        pictures: calibration pictures used.
        float_layers: layers kept in float.
        kept: of up to CHECKED calibration pictures, whether int8 gives the float graph's class;
            empty for half precision.
    """

    prefix: Path
    findings: list[Finding]
    pictures: int
    float_layers: list[str]
    kept: list[bool]


def build(file: Path, float_layers: Sequence[str] = (), mode: str | None = None) -> Built:
    """Does what the compiler does with a build YAML, as far as its arithmetic is known.

    Args:
        file: build YAML of either era; paths in it are relative to the current folder.
        float_layers: names of layers to keep in float, beside those the file names.
        mode: calibration mode instead of the file's.

    Raises:
        UserError: the linter finds an error, or the graph cannot be read.
    """
    document = read_document(file)
    findings = lint_yaml(file, Path())
    errors = [str(finding) for finding in findings if finding.level == "error"]
    if errors:
        raise UserError("\n".join(errors), f"mend these lines of {file}")
    config = parse_build(document)
    if mode is not None:
        config = replace(config, mode=mode)
    source = Path(config.checkpoint)
    graph = float_graph(source)
    pictures = calibration_pictures(config, Path()) if config.dtype == "int8" else []
    layers = resolve_layers(graph, [*config.float_layers, *float_layers])
    if config.dtype == "int8":
        preprocess = calibration_preprocess(config)
        images = Pictures(pictures, lambda path: preprocess(load_planar(path)))
        activations = Activations(graph, rounded_tensors(graph, layers), images)
        thresholds: dict[str, Threshold] = calibrate(activations, config.mode)
        result = insert_qdq(graph, thresholds, layers)
        kept = _kept_classes(unstretched(graph), result, images)
    else:
        thresholds, kept = {}, []
        result = insert_half(graph)
    if config.softmax:
        append_softmax(result)
    prefix = Path(config.folder + ENDING) / config.prefix
    _write(prefix, result, config, thresholds, sorted(layers), len(pictures))
    return Built(prefix, findings, len(pictures), sorted(layers), kept)


def _kept_classes(graph: onnx.ModelProto, int8: onnx.ModelProto, images: Pictures) -> list[bool]:
    """Whether int8 gives the float graph's class, for CHECKED pictures spread over the given."""
    chosen = [images[i] for i in range(0, len(images), -(-len(images) // CHECKED) or 1)]
    best = []
    for model in (graph, int8):
        name = model.graph.output[0].name
        best.append([v[name].argmax() for v in Activations(model, [name], chosen, EXACT)])
    return [bool(mine == theirs) for mine, theirs in zip(*best, strict=True)]


def _write(
    prefix: Path,
    model: onnx.ModelProto,
    config: BuildConfig,
    thresholds: Mapping[str, Threshold],
    layers: list[str],
    pictures: int,
) -> None:
    prefix.parent.mkdir(parents=True, exist_ok=True)
    graph_file = prefix.with_name(prefix.name + ".onnx")
    write_atomically(graph_file, model.SerializeToString())
    description = {
        "note": NOTE,
        "name": config.name,
        "input": dict(config.inputs),
        "dtype": config.dtype,
        "calibrate_mode": config.mode if config.dtype == "int8" else None,
        "calibration_pictures": pictures,
        "float_layers": layers,
        "softmax": ends_in_softmax(model),
        "checkpoint": {"file": config.checkpoint, "sha256": file_sha256(Path(config.checkpoint))},
        "sha256": file_sha256(graph_file),
        "thresholds": thresholds,
    }
    text = json.dumps(description, indent=1) + "\n"
    write_atomically(prefix.with_name(prefix.name + ".json"), text.encode())


def simulated_prefix(prefix: str | Path) -> Path:
    """Returns the stand-in's files for a prefix of the card's: `X-vacc/name` is `X-sim/name`,
    `X/mod` is `X-sim/mod`; below deploy_weights/ too, which the documents leave out with vamp.
    """
    prefix = Path(prefix)
    folder = prefix.parent.name
    if not folder.endswith(ENDING):
        folder = folder.removesuffix(CARD_ENDING) + ENDING
    found = prefix.parent.parent / folder / prefix.name
    built = WORK_FOLDER / found
    return built if built.parent.is_dir() and not found.parent.is_dir() else found


class SimulatedModel:
    """What `build` wrote, ready to run.

    Args:
        prefix: of its files without suffix, or of the card's (`simulated_prefix`).
        preprocess: what pictures go through, as read from a parameter file.

    Raises:
        UserError: nothing was built, or the parameter file is for another input size.
    """

    def __init__(self, prefix: str | Path, preprocess: CardPreprocess) -> None:
        self.prefix = simulated_prefix(prefix)
        file = self.prefix.with_name(self.prefix.name + ".onnx")
        if not file.is_file():
            raise UserError(
                f"no file {file}: the stand-in has not built {prefix}",
                command("accelerator build", "BUILD.yaml") + "  # writes it",
            )
        beside = self.prefix.with_name(self.prefix.name + ".json")
        what, hint = "description of a built model", "build it again"
        description = read_json(beside, what, hint)
        with reading(beside, what, hint):
            (self.shape,) = field(description, dict, "input").values()
            if len(self.shape) != 4 or any(type(size) is not int for size in self.shape):
                raise ValueError(f"input {shortened(self.shape)}")
            self._softmax = field(description, bool, "softmax")
        if description.get("sha256", "") not in ("", file_sha256(file)):
            raise UserError(f"{file} is not the file that {beside} describes", hint)
        if self.shape[-1] != preprocess.crop:
            raise UserError(
                f"{self.prefix} takes {self.shape[-1]} pixels, the parameter file crops"
                f" {preprocess.crop}",
                "take the parameter file of the same bundle",
            )
        self._preprocess = preprocess
        self._run = OnnxRuntime(file, "cpu", EXACT)

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """What the vision processor does: uint8 [3, H, W] -> float32 [1, 3, S, S]."""
        return self._preprocess(image)

    def output(self, prepared: np.ndarray) -> np.ndarray:
        """What the network does: float32 [1, 3, S, S] -> float16 [1, K], as the card gives it."""
        return self._run(prepared).astype(np.float16)

    def ranking(self, image: np.ndarray, topk: int) -> list[tuple[int, float]]:
        """uint8 [3, H, W] -> the best classes and their probabilities, best first."""
        scores = self.output(self.prepare(image))[0].astype(np.float32)
        if not self._softmax:
            scores = np.exp(scores - scores.max())
            scores /= scores.sum()
        best = np.argsort(-scores, kind="stable")[:topk]
        return [(int(i), float(scores[i])) for i in best]
