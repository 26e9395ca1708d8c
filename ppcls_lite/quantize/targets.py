"""Int8 files for three runtimes, each by the arithmetic that its runtime has kernels for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from ppcls_lite.files import temporary_folder
from ppcls_lite.int8.qdq import COMPILER_OPSET, FOR_COMPILER
from ppcls_lite.quantize.folding import fold_channel_steps, integer_biases, spell_out
from ppcls_lite.quantize.gates import join_hard_swish
from ppcls_lite.quantize.integers import float_where_unrounded, integer_hard_swish
from ppcls_lite.quantize.recipe import Quantized, Recipe, logits, quantize, score
from ppcls_lite.quantize.sensitivity import with_worst
from ppcls_lite.runtimes import FILE_RUNTIMES

FILE = "inference.onnx"
# dB on calibration pictures. Every recipe of docs/measurements/int8_tables.md that leaves as much
# for ONNX Runtime or OpenVINO keeps 98.5 % of the classes; ImageNet's network needs the slower one.
ENOUGH = 28.0


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


@dataclass(frozen=True)
class Target:
    """How one runtime's file is written and run.

    Attributes:
        recipe: what is done unless the user says otherwise.
        engine: the one that runs the file; None computes as the graph says.
        fast: a faster one, that is tried first and kept where it leaves `ENOUGH`.
    """

    recipe: Recipe
    engine: str | None
    fast: Recipe | None = None

    def try_fast(
        self, graph: onnx.ModelProto, images: Sequence[np.ndarray], log: Callable[[str], None]
    ) -> tuple[Recipe, Quantized] | None:
        """What the fast recipe makes of a float graph; None where it leaves too little, or is none.

        Args:
            graph: of `float_graph`.
            images: calibration pictures, float32 [1, 3, H, W] each; measured on, too.
            log: takes a line of what was found.
        """
        if self.fast is None:
            return None
        recipe = with_worst(graph, images, self.fast)
        made = quantize(graph, images, recipe)
        wanted = logits(graph, images)
        left = score(logits(self.final(made.int8), images), wanted, wanted.argmax(1))["snr"]
        judged = "enough" if left >= ENOUGH else "too little"
        log(f"the fast recipe: {left:.1f} dB on calibration images, {judged} ({ENOUGH:.0f})")
        return (recipe, made) if left >= ENOUGH else None

    def final(self, graph: onnx.ModelProto) -> onnx.ModelProto:
        """An int8 graph in the operators that the target's engine runs fastest."""
        result = onnx.ModelProto()
        result.CopyFrom(graph)
        if self.recipe.target != "accelerator":
            join_hard_swish(result)
            fold_channel_steps(result)
        if self.engine == "onnxruntime":
            spell_out(result)
            float_where_unrounded(result)
            integer_hard_swish(result)
            integer_biases(result)
        return result

    def write(self, made: Quantized, folder: Path) -> None:
        """Writes the int8 graph; for the accelerator the float graph for its compiler, too."""
        onnx.save(self.final(made.int8), str(folder / FILE))
        if self.recipe.target == "accelerator":
            onnx.save(for_compiler(made.graph), str(folder / FOR_COMPILER))

    def answers(self, graph: onnx.ModelProto, images: Sequence[np.ndarray]) -> np.ndarray:
        """The logits [N, K] of a graph from its own runtime."""
        if self.engine is None:
            return logits(graph, images)
        with temporary_folder("ppcls-int8-") as temporary:
            file = Path(temporary) / FILE
            onnx.save(self.final(graph), str(file))
            run = FILE_RUNTIMES[self.engine](file)
            return np.concatenate([run(image) for image in images])


# Chosen on a network trained on ImageNet; the fast ones by time: docs/measurements/int8.md.
TARGETS = {
    "accelerator": Target(
        Recipe("mse", ("equalise", "affine", "stretch"), ("elementwise", "budget:20")), None
    ),
    "onnxruntime": Target(
        Recipe("percentile", ("channels",), ("se", "worst:16"), "onnxruntime"),
        "onnxruntime",
        Recipe("percentile", (), ("budget:20",), "onnxruntime_fast"),
    ),
    "openvino": Target(
        Recipe("percentile", ("channels",), ("se", "worst:12"), "openvino"),
        "openvino",
        Recipe("percentile", ("channels",), (), "openvino"),
    ),
    "tflite": Target(
        Recipe("percentile", ("channels",), ("se", "worst:16"), "tflite"),
        None,
        Recipe("percentile", (), (), "tflite"),
    ),
}
