"""A float graph, the techniques asked for, and what int8 then makes of its answers."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import onnx

from ppcls_lite.environment import load_paddle
from ppcls_lite.int8.calibrate import Activations, Threshold, calibrate
from ppcls_lite.int8.qdq import (
    ARITHMETIC,
    EXACT,
    Arithmetic,
    insert_qdq,
    rounded_tensors,
)
from ppcls_lite.int8.stretch import WHOLE_STEPS, stretch_weights
from ppcls_lite.quantize.affine import spread_affine
from ppcls_lite.quantize.channels import spread_channels
from ppcls_lite.quantize.correct import correct_biases, round_by_least_squares
from ppcls_lite.quantize.gates import clip_gates, join_hard_swish, split_hard_swish
from ppcls_lite.quantize.roles import float_layers_of
from ppcls_lite.quantize.scaling import equalise

# In the order in which they are applied; the first ones leave the float answers as they are.
FREE_TECHNIQUES = ("gates", "split", "equalise", "channels", "affine")
TRAINING = "train"
TECHNIQUES = (*FREE_TECHNIQUES, "rounding", "bias", TRAINING, "stretch")


@dataclass(frozen=True)
class Recipe:
    """How a float graph becomes int8.

    Attributes:
        mode: how thresholds are found, a name of `calibrate.MODES`.
        techniques: any of TECHNIQUES.
        float_layers: names of layers, or words of `roles.WORDS`.
        target: a name of `qdq.ARITHMETIC`.
    """

    mode: str = "percentile"
    techniques: tuple[str, ...] = ()
    float_layers: tuple[str, ...] = ()
    target: str = "accelerator"

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and texts for JSON and YAML, where techniques have always been `remedies`."""
        fields = asdict(self)
        return {"mode": fields.pop("mode"), "remedies": fields.pop("techniques")} | fields

    @property
    def arithmetic(self) -> Arithmetic:
        """What the target rounds."""
        return ARITHMETIC[self.target]

    @property
    def weight_steps(self) -> int:
        """How many steps of int8 the largest weight of an output channel is long in the end."""
        return WHOLE_STEPS if "stretch" in self.techniques else self.arithmetic.weight_steps


@dataclass(frozen=True)
class Quantized:
    """What `quantize` made.

    Attributes:
        graph: the float graph after the techniques; what the accelerator's compiler is to be given.
        int8: the same with int8 written into it.
        thresholds: per tensor.
        float_layers: names of the nodes that stay float.
        blocked: per reason, how many groups of tensors could not be equalised.
    """

    graph: onnx.ModelProto
    int8: onnx.ModelProto
    thresholds: dict[str, Threshold]
    float_layers: set[str]
    blocked: dict[str, int] = field(default_factory=dict)


def quantize(
    model: onnx.ModelProto,
    images: Sequence[np.ndarray],
    recipe: Recipe,
    training: Sequence[np.ndarray] = (),
    log: Callable[[str], None] = lambda line: None,
) -> Quantized:
    """Applies a recipe to a graph of `float_graph`, which stays as it is.

    Args:
        model: the float graph.
        images: calibration pictures, float32 [1, 3, H, W] each.
        recipe: what to do.
        training: pictures for the technique train, as those.
        log: takes the lines in which it tells how far it is.

    Raises:
        UserError: the graph has an operator that cannot be trained.
    """
    graph, layers, blocked = prepare(model, images, recipe)
    steps = recipe.weight_steps
    with_int8 = partial(insert_qdq, weight_steps=steps)
    reference = onnx.ModelProto()
    reference.CopyFrom(graph)
    if "rounding" in recipe.techniques:
        round_by_least_squares(graph, images, layers, steps)
    thresholds = thresholds_of(graph, images, recipe, layers)
    if "bias" in recipe.techniques:
        correct_biases(graph, reference, thresholds, images, layers, steps)
        # Once more, as the compiler will: it sees the corrected graph only.
        thresholds = thresholds_of(graph, images, recipe, layers)
    if TRAINING in recipe.techniques:
        load_paddle()
        # Not at the top of the file: it imports paddle, which load_paddle must do first.
        from ppcls_lite.quantize.finetune import fine_tune

        def int8_of(trained: onnx.ModelProto) -> onnx.ModelProto:
            return with_int8(trained, thresholds_of(trained, images, recipe, layers), layers)

        fine_tune(graph, reference, training, int8_of, log, steps)
        thresholds = thresholds_of(graph, images, recipe, layers)
    if "stretch" in recipe.techniques:
        stretch_weights(graph, layers)
        # The compiler sees this graph only, and divides by its own number of steps.
        thresholds = thresholds_of(graph, images, recipe, layers)
        with_int8 = partial(insert_qdq, weight_steps=recipe.arithmetic.weight_steps)
    return Quantized(graph, with_int8(graph, thresholds, layers), thresholds, layers, blocked)


def thresholds_of(
    graph: onnx.ModelProto,
    images: Sequence[np.ndarray],
    recipe: Recipe,
    float_layers: Collection[str] = (),
) -> dict[str, Threshold]:
    """Calibrates every tensor that the recipe's target rounds."""
    tensors = rounded_tensors(graph, float_layers, recipe.arithmetic)
    own = spread_channels(graph, tensors, images) if "channels" in recipe.techniques else {}
    others = [name for name in tensors if name not in own]
    if not others:
        return own
    activations = Activations(graph, others, images)
    return calibrate(activations, recipe.mode, unsigned=recipe.arithmetic.unsigned) | own


def prepare(
    model: onnx.ModelProto, images: Sequence[np.ndarray], recipe: Recipe
) -> tuple[onnx.ModelProto, set[str], dict[str, int]]:
    """The function-preserving part of a recipe, whatever the arithmetic.

    Returns:
        A changed copy; names of the nodes that stay float; `Quantized.blocked`.
    """
    graph = onnx.ModelProto()
    graph.CopyFrom(model)
    if recipe.arithmetic.joined:
        join_hard_swish(graph)
    if "split" in recipe.techniques:
        split_hard_swish(graph)
    if "gates" in recipe.techniques:
        clip_gates(graph)
    layers = float_layers_of(graph, recipe.float_layers)
    blocked: dict[str, int] = {}
    if "equalise" in recipe.techniques:
        for group in equalise(graph, images, rounded_tensors(graph, layers, recipe.arithmetic)):
            for reason in group.blocked[:1]:
                blocked[reason] = blocked.get(reason, 0) + 1
    if "affine" in recipe.techniques:
        layers |= spread_affine(graph, images, layers)
    return graph, layers, blocked


def logits(model: onnx.ModelProto, images: Sequence[np.ndarray]) -> np.ndarray:
    """The answers of a graph, rounding where it says so: float32 [N, K]."""
    name = model.graph.output[0].name
    return np.concatenate([v[name] for v in Activations(model, [name], images, EXACT)])


def score(answers: np.ndarray, reference: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Compares logits [N, K] with those of float, and with the labels [N].

    With several labels a picture, [N, K], a class is right or float's where the logit is above 0.

    Returns:
        top1; top1_error: the standard error of its difference from float's, on the same pictures;
        agreement: the share of pictures with float's class; snr: signal to noise of the logits, dB.
    """
    several = labels.ndim == 2
    found, before = ((x > 0) if several else x.argmax(1) for x in (answers, reference))
    right, same = found == labels, found == before
    change = right.astype(float) - (before == labels)
    # Labels of one picture depend on each other: pictures are counted.
    spread = np.std(change.mean(1) if several else change)
    noise = float(np.mean((answers - reference) ** 2))
    signal = float(np.var(reference))
    return {
        "top1": float(np.mean(right)),
        "top1_error": float(spread / np.sqrt(len(labels))),
        "agreement": float(np.mean(same)),
        "snr": 10 * float(np.log10(signal / noise)) if noise else float("inf"),
    }
