"""Which layers int8 damages: each alone in int8, all others in float."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from ppcls_lite.errors import UserError
from ppcls_lite.files import whole
from ppcls_lite.int8.qdq import insert_qdq, layer_names, rounded_tensors
from ppcls_lite.quantize.recipe import Recipe, logits, prepare, score, thresholds_of
from ppcls_lite.quantize.roles import multiplications, roles
from ppcls_lite.quantize.scaling import Layers, channel_peaks, groups_of, input_shares

PLAIN = Recipe()
MOST_BARS = 30  # more cannot be read
NEGLIGIBLE = 0.01  # of the layers' noise together: what makes less of it stays in int8
SEARCHED = ("worst:", "budget:")
RANKED_WITH = 24  # calibration pictures; the ranking's top is the same with more


@dataclass(frozen=True)
class Damage:
    """What int8 in one layer alone does.

    Attributes:
        layer: name of the node.
        role: of `roles.roles`.
        noise: mean square error of the logits over their variance; 0.01 is 20 dB.
        agreement: share of pictures that keep their class.
        threshold: at which its first rounded input is clipped.
        peak: the largest |x| there.
        imbalance: the largest channel's |x| over the median channel's; at 127 the median channel
            has one step left.
        weight_imbalance: the same of the weights by input channel; 1 for depthwise and no weights.
    """

    layer: str
    role: str
    noise: float
    agreement: float
    threshold: float
    peak: float
    imbalance: float
    weight_imbalance: float


def sensitivity(
    model: onnx.ModelProto,
    images: Sequence[np.ndarray],
    recipe: Recipe = PLAIN,
    float_layers: Collection[str] = (),
    calibration: Sequence[np.ndarray] = (),
) -> list[Damage]:
    """Measures every int8 layer of a graph of `float_graph`, the most damaged first.

    Labels are not needed: the yardstick is the float network's own answers.

    Args:
        model: the float graph.
        images: pictures to calibrate with and to measure on, float32 [1, 3, H, W] each.
        recipe: of which target, calibration mode and techniques count.
        float_layers: nodes that are not measured.
        calibration: pictures to calibrate with; empty: those that are measured on.
    """
    reference = logits(model, images)
    thresholds = thresholds_of(model, calibration or images, recipe, float_layers)
    peaks = channel_peaks(model, list(thresholds), images)
    layers = Layers(model)
    weighted = {node.name: node for node in layers.nodes}
    role, names = roles(model), layer_names(model, recipe.arithmetic.ops)
    rows = []
    for name in names:
        if name in float_layers:
            continue
        others = set(names) - {name}
        own = rounded_tensors(model, others, recipe.arithmetic)
        chosen = {tensor: thresholds[tensor] for tensor in own}
        small = insert_qdq(model, chosen, others, recipe.weight_steps)
        measured = score(logits(small, images), reference, reference.argmax(1))
        rows.append(
            Damage(
                layer=name,
                role=role[name],
                noise=10 ** (-measured["snr"] / 10),
                agreement=measured["agreement"],
                threshold=float(np.abs(thresholds[own[0]]).max()),
                peak=float(peaks[own[0]].max()),
                imbalance=_imbalance(peaks[own[0]]),
                weight_imbalance=_imbalance(input_shares(layers, weighted[name]))
                if name in weighted and groups_of(weighted[name]) == 1
                else 1.0,
            )
        )
    return sorted(rows, key=lambda row: -row.noise)


def with_worst(model: onnx.ModelProto, images: Sequence[np.ndarray], recipe: Recipe) -> Recipe:
    """Replaces `worst:N` and `budget:P` among a recipe's float layers by names of layers.

    `worst:N` is the N most damaged; `budget:P` are those whose damage is the largest for what they
    cost, until P % of the network's products are in float. Layers that the recipe keeps in float
    anyway do not count, and its gates are clipped before.

    Raises:
        UserError: there is no number after the colon.
    """
    words = [word for word in recipe.float_layers if word.startswith(SEARCHED)]
    if not words:
        return recipe
    kind, _, text = words[-1].partition(":")
    if not text.isdecimal():
        raise UserError(f"float layers {words[-1]!r}: no number", f"--float-layers {kind}:6")
    others = tuple(word for word in recipe.float_layers if word not in words)
    graph, taken, _ = prepare(model, images, replace(recipe, float_layers=others))
    rows = sensitivity(graph, images[:RANKED_WITH], recipe, taken, images)
    if kind == "worst":
        names = [row.layer for row in rows[: int(text)]]
    else:
        names = within_budget(rows, multiplications(graph), int(text) / 100)
    return replace(recipe, float_layers=(*others, *names))


def within_budget(rows: Sequence[Damage], products: Mapping[str, int], share: float) -> list[str]:
    """Names of layers to keep in float: the most noise for each product, while they fit.

    Args:
        rows: of `sensitivity`.
        products: of `multiplications`; what is not in it has no weights, and is not chosen.
        share: of all products that may be computed in float, 0 to 1.
    """
    left = share * sum(products.values())
    least = NEGLIGIBLE * sum(row.noise for row in rows)
    chosen = []
    weighted = [row for row in rows if products.get(row.layer)]
    for row in sorted(weighted, key=lambda row: -row.noise / products[row.layer]):
        cost = products[row.layer]
        if cost <= left and row.noise >= least:
            left -= cost
            chosen.append(row.layer)
    return chosen


def worst_layers(model: onnx.ModelProto, images: Sequence[np.ndarray], recipe: Recipe) -> list[str]:
    """Names of the layers that a recipe does not keep in float, the most damaged first."""
    graph, taken, _ = prepare(model, images, recipe)
    return [row.layer for row in sensitivity(graph, images[:RANKED_WITH], recipe, taken, images)]


def _imbalance(sizes: np.ndarray) -> float:
    """The largest over the median of those that are not 0; 1 when all are."""
    alive = sizes[sizes > 0]
    return float(alive.max() / np.median(alive)) if len(alive) else 1.0


def noise_by_role(rows: Sequence[Damage]) -> dict[str, float]:
    """The noise of each role's layers together, the noisiest first."""
    sums: dict[str, float] = {}
    for row in rows:
        sums[row.role] = sums.get(row.role, 0.0) + row.noise
    return dict(sorted(sums.items(), key=lambda item: -item[1]))


def as_json(rows: Sequence[Damage]) -> dict:
    """The result as plain values."""
    return {"noise_by_role": noise_by_role(rows), "layers": [asdict(row) for row in rows]}


def lines(rows: Sequence[Damage], count: int) -> list[str]:
    """The first rows as a table."""
    result = [
        f"{'layer':<28}{'role':<11}{'noise':>10}{'agreement':>11}{'threshold':>11}{'peak':>9}"
        f"{'channels':>10}{'weights':>9}"
    ]
    for row in rows[:count]:
        result.append(
            f"{row.layer[:27]:<28}{row.role:<11}{row.noise:>10.5f}{row.agreement:>11.1%}"
            f"{row.threshold:>11.2f}{row.peak:>9.2f}{row.imbalance:>10.1f}"
            f"{row.weight_imbalance:>9.1f}"
        )
    return result


def plot(rows: Sequence[Damage], title: str, picture: Path) -> None:
    """Draws the noise of the most damaged layers, coloured by role, and their imbalance."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    shown = list(rows[:MOST_BARS])[::-1]
    kinds = sorted({row.role for row in rows})
    colours = {kind: f"C{i}" for i, kind in enumerate(kinds)}
    figure = Figure(figsize=(11, 2 + 0.25 * len(shown)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    names = [row.layer for row in shown]
    for axes, values, label in (
        (left, [row.noise for row in shown], "noise of the logits (1 = as large as they are)"),
        (right, [row.imbalance for row in shown], "largest channel / median channel"),
    ):
        axes.barh(names, values, color=[colours[row.role] for row in shown])
        axes.set_xscale("log")
        axes.set_xlabel(label)
        axes.grid(axis="x", alpha=0.3)
    # Not empty bars: a legend takes their first bar's colour, or the default one, which is blue.
    handles = [Patch(color=colours[kind], label=kind) for kind in kinds]
    figure.legend(handles=handles, loc="outside right upper")  # it would cover bars
    figure.suptitle(title)
    with whole(picture) as part:
        figure.savefig(part, dpi=100)
