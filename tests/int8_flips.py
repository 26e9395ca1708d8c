"""Which images change their class in int8, how sure the model was of them, and what is the least.

Half of the folders of val calibrate and the other half is measured, then the other way round, so
every image is measured once and none with its own calibration. For each target's default:

- flips: images with another class than float, as the graph says and in the target's runtime;
- what would flip if weights, or activations, were not rounded at all: no way of choosing each
  weight's rounding can leave its layer a better output than the weights themselves;
- what noise would do that is as large as the measured error of each image and knows no class
  (100 draws), and what the measured errors of other images would do;
- what flips in all four calibration modes: an oracle that chooses the best for each image.

    PYTHONPATH=. python tests/int8_flips.py WEIGHTS MODEL FOLDER_WITH_VAL [PLOT] [TARGET...]
"""

import dataclasses
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx

from ppcls_lite.int8.calibrate import MODES
from ppcls_lite.int8.qdq import WEIGHTED_OPS, insert_qdq
from ppcls_lite.quantize.job import open_job
from ppcls_lite.quantize.recipe import logits, quantize
from ppcls_lite.quantize.sensitivity import with_worst
from ppcls_lite.quantize.settings import QuantizeConfig
from ppcls_lite.quantize.targets import TARGETS

DRAWS = 100


def jobs(weights, model, val, folder):
    """The two halves of val's folders as train and val of two jobs."""
    names = sorted(path.name for path in val.iterdir() if path.is_dir())
    for number, halves in enumerate([(names[::2], names[1::2]), (names[1::2], names[::2])]):
        for split, chosen in zip(("train", "val"), halves, strict=True):
            (folder / str(number) / split).mkdir(parents=True)
            for name in chosen:
                (folder / str(number) / split / name).symlink_to(val / name)
        yield open_job(
            QuantizeConfig(
                pretrained=weights, model=model, data_path=str(folder / str(number)),
                calibration_images=len(names) // 2,
            )
        )  # fmt: skip


def float_weights(made):
    """The int8 graph with its weights as they were before they were rounded."""
    graph = onnx.ModelProto()
    graph.CopyFrom(made.int8)
    before = {node.name: node for node in made.graph.graph.node}
    constants = {tensor.name: tensor for tensor in made.graph.graph.initializer}
    known = {tensor.name for tensor in graph.graph.initializer}
    for node in graph.graph.node:
        if node.op_type in WEIGHTED_OPS and before[node.name].input[1] in constants:
            node.input[1] = before[node.name].input[1]
            if node.input[1] not in known:
                known.add(node.input[1])
                graph.graph.initializer.append(constants[node.input[1]])
    return graph


def answers(job, target):
    """Logits [N, K] of a half by what was rounded."""
    fast = target.try_fast(job.graph, job.calibration, lambda line: None)
    if fast is None:
        recipe = with_worst(job.graph, job.calibration, target.recipe)
        made = quantize(job.graph, job.calibration, recipe)
    else:
        recipe, made = fast
    found = {"graph": logits(made.int8, job.pictures)}
    if target.engine:
        found["runtime"] = target.answers(made.int8, job.pictures)
    found["weights not rounded"] = logits(float_weights(made), job.pictures)
    only = insert_qdq(made.graph, {}, made.float_layers, recipe.weight_steps)
    found["activations not rounded"] = logits(only, job.pictures)
    for mode in MODES:
        if mode != recipe.mode:
            other = quantize(job.graph, job.calibration, dataclasses.replace(recipe, mode=mode))
            found[f"mode {mode}"] = logits(other.int8, job.pictures)
    return found


def expected_flips(reference, error):
    """Mean number of flips by noise of each image's size, and by other images' errors."""
    rng = np.random.default_rng(0)
    size = error.std(axis=1, keepdims=True)
    flips = [[], []]
    for _ in range(DRAWS):
        other = error[rng.permutation(len(error))]
        other = other[:, rng.permutation(error.shape[1])]
        for kind, noise in enumerate((size * rng.standard_normal(error.shape), other)):
            flips[kind].append(((reference + noise).argmax(1) != reference.argmax(1)).sum())
    return [(np.mean(kind), np.std(kind)) for kind in flips]


def draw(margins, flipped, file):
    """Margins of all images in order, and where the flips of each target lie among them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    order = np.argsort(margins)
    upper.plot(np.arange(1, len(margins) + 1), margins[order], ".", markersize=3)
    upper.set_yscale("log")
    upper.set_ylabel("best two logits apart,\nin standard deviations")
    for row, flips in enumerate(flipped.values()):
        ranks = np.flatnonzero(flips[order]) + 1
        lower.plot(ranks, np.full(len(ranks), row), "|", markersize=14, markeredgewidth=2)
    lower.set_yticks(range(len(flipped)), list(flipped))
    lower.set_ylim(-0.7, len(flipped) - 0.3)
    lower.set_xlabel("images, the least sure first; a line is one that changes its class in int8")
    figure.savefig(file)


def main(weights, model, folder, plot="", *names):
    """Prints a block for each target; draws them all."""
    flipped = {}
    with tempfile.TemporaryDirectory() as temporary:
        halves = list(jobs(weights, model, Path(folder).resolve() / "val", Path(temporary)))
        reference = np.concatenate([job.reference for job in halves])
        labels = np.concatenate([job.labels for job in halves])
        best = np.sort(reference, axis=1)[:, ::-1]
        margins = (best[:, 0] - best[:, 1]) / reference.std()
        rank = margins.argsort().argsort() + 1
        print(f"{len(labels)} images, float top-1 {(reference.argmax(1) == labels).mean():.3f}")
        for name in names or TARGETS:
            parts = [answers(job, TARGETS[name]) for job in halves]
            found = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
            flips = {key: x.argmax(1) != reference.argmax(1) for key, x in found.items()}
            print(f"\n{name}")
            for key, x in found.items():
                error = x - reference
                right = (x.argmax(1) == labels) * 1.0 - (reference.argmax(1) == labels)
                snr = 10 * np.log10(reference.var() / np.mean(error**2))
                print(
                    f"  {key:24} {flips[key].sum():3} flip, {snr:.1f} dB, top-1"
                    f" {100 * right.mean():+.1f} +- {100 * right.std() / len(right) ** 0.5:.1f}"
                )
            modes = [flips["graph"], *(x for key, x in flips.items() if key.startswith("mode"))]
            print(f"  {'in every mode':24} {np.logical_and.reduce(modes).sum():3} flip")
            for kind, (mean, spread) in zip(
                ("noise as large", "other images' errors"),
                expected_flips(reference, found["graph"] - reference),
                strict=True,
            ):
                print(f"  {kind:24} {mean:5.1f} +- {spread:.1f} flip")
            flipped[name] = flips["graph"]
            shown = sorted(zip(rank[flipped[name]], margins[flipped[name]], strict=True))
            print("  rank, margin: " + ", ".join(f"{i} {margin:.3f}" for i, margin in shown))
    if plot:
        draw(margins, flipped, plot)


if __name__ == "__main__":
    main(*sys.argv[1:])
