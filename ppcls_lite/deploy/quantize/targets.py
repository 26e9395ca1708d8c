"""Int8 files for three runtimes, each by the arithmetic that its runtime has kernels for."""

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx

from ppcls_lite.deploy.quantize.recipe import FREE_REMEDIES, Recipe, logits, prepare, quantize
from ppcls_lite.deploy.runtimes import FILE_RUNTIMES, import_engine
from ppcls_lite.errors import UserError

FILE = "inference.onnx"
FOR_COMPILER = "accelerator.onnx"
COMPILER_OPSET = 11  # the documents have none above
# ONNX Runtime's names of our modes; it has no search for the least squared error.
ORT_METHODS = {"percentile": "Percentile", "max": "MinMax", "kl_divergence": "Entropy"}
NNCF_SUBSET = 300  # pictures that nncf looks at, at most; its own default


def write_accelerator(
    model: onnx.ModelProto, images: Sequence[np.ndarray], recipe: Recipe, folder: Path
) -> set[str]:
    """Writes the simulated int8 graph, and beside it the float graph for the card's compiler.

    Returns:
        Names of the layers that have to stay float, for the build YAML.
    """
    made = quantize(model, images, recipe)
    onnx.save(made.int8, str(folder / FILE))
    onnx.save(for_compiler(made.graph), str(folder / FOR_COMPILER))
    return made.float_layers


def for_compiler(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The float graph as the compiler takes it: one picture at a time, opset 11."""
    single = onnx.ModelProto()
    single.CopyFrom(graph)
    del single.graph.value_info[:]
    for value in (single.graph.input[0], single.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    # Between 11 and 13 only these changed; ONNX's converter has no way down for Clip.
    axes = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in single.graph.initializer}
    for node in single.graph.node:
        if node.op_type in ("Squeeze", "Unsqueeze") and len(node.input) > 1:
            node.attribute.append(onnx.helper.make_attribute("axes", axes[node.input.pop()]))
    del single.opset_import[:]
    single.opset_import.append(onnx.helper.make_opsetid("", COMPILER_OPSET))
    onnx.checker.check_model(single, full_check=True)
    return single


def write_onnxruntime(
    model: onnx.ModelProto, images: Sequence[np.ndarray], recipe: Recipe, folder: Path
) -> set[str]:
    """Writes int8 by `onnxruntime.quantization`: uint8 activations with a zero point.

    Signed ones, as the accelerator has, take four times as long there.

    Raises:
        UserError: the recipe has a mode that ONNX Runtime does not know.
    """
    if recipe.mode not in ORT_METHODS:
        raise UserError(
            f"ONNX Runtime has no calibration mode {recipe.mode}",
            f"--calibration-mode {', '.join(ORT_METHODS)}",
        )
    tools = import_engine("onnxruntime.quantization", "onnxruntime")
    graph, layers = _prepared(model, images, recipe)
    name = graph.graph.input[0].name

    class Reader(tools.CalibrationDataReader):  # type: ignore[name-defined]
        def __init__(self) -> None:
            self._images = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self._images, None)
            return None if image is None else {name: image}

    with tempfile.TemporaryDirectory(prefix="ppcls-int8-") as temporary:
        source = Path(temporary) / "float.onnx"
        onnx.save(graph, str(source))
        tools.quantize_static(
            str(source),
            str(folder / FILE),
            Reader(),
            quant_format=tools.QuantFormat.QDQ,
            activation_type=tools.QuantType.QUInt8,
            weight_type=tools.QuantType.QInt8,
            per_channel=True,
            nodes_to_exclude=sorted(layers),
            calibrate_method=tools.CalibrationMethod[ORT_METHODS[recipe.mode]],
            extra_options={"CalibPercentile": 99.999},
        )
    return layers


def write_openvino(
    model: onnx.ModelProto, images: Sequence[np.ndarray], recipe: Recipe, folder: Path
) -> set[str]:
    """Writes int8 by nncf, OpenVINO's quantiser, which finds the ranges its own way; as ONNX.

    Raises:
        UserError: nncf is not installed.
    """
    import_engine("openvino", "openvino")
    nncf = import_engine("nncf", "nncf")
    graph, layers = _prepared(model, images, recipe)
    name = graph.graph.input[0].name
    result = nncf.quantize(
        graph,
        nncf.Dataset(list(images), lambda image: {name: image}),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=min(len(images), NNCF_SUBSET),
        ignored_scope=nncf.IgnoredScope(names=sorted(layers)) if layers else None,
    )
    onnx.save(result, str(folder / FILE))
    return layers


def _prepared(
    model: onnx.ModelProto, images: Sequence[np.ndarray], recipe: Recipe
) -> tuple[onnx.ModelProto, set[str]]:
    """A copy after the remedies that any arithmetic profits from, and the float layers in it."""
    costly = [name for name in recipe.remedies if name not in FREE_REMEDIES]
    if costly:
        raise UserError(
            f"--remedies {','.join(costly)}: made for the accelerator's arithmetic",
            f"here {', '.join(FREE_REMEDIES)}, or none",
        )
    graph, layers, _ = prepare(model, images, recipe)
    return graph, layers


@dataclasses.dataclass(frozen=True)
class Target:
    """How one runtime's file is written and run.

    Attributes:
        write: (float graph, calibration pictures, recipe, folder) -> layers that stay float.
        recipe: what is done unless the user says otherwise.
        engine: the one that runs the file; None computes as the accelerator does.
    """

    write: Callable[[onnx.ModelProto, Sequence[np.ndarray], Recipe, Path], set[str]]
    recipe: Recipe
    engine: str | None

    def answers(self, folder: Path, images: Sequence[np.ndarray]) -> np.ndarray:
        """The logits [N, K] of the file that was written, from its own runtime."""
        if self.engine is None:
            return logits(onnx.load(str(folder / FILE)), images)
        run = FILE_RUNTIMES[self.engine](folder / FILE)
        return np.concatenate([run(image) for image in images])


# Measured: docs/int8.md.
_REMEDIES, _FLOAT = ("gates", "equalise"), ("pool", "worst:12")
TARGETS = {
    "accelerator": Target(write_accelerator, Recipe("mse", _REMEDIES, _FLOAT), None),
    "onnxruntime": Target(write_onnxruntime, Recipe("max", _REMEDIES, _FLOAT), "onnxruntime"),
    "openvino": Target(write_openvino, Recipe("percentile", _REMEDIES, _FLOAT), "openvino"),
}
