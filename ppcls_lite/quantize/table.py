"""The table of docs/int8.md: one network, every calibration mode and technique."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import onnx

from ppcls_lite.int8.calibrate import MODES
from ppcls_lite.int8.half import insert_half
from ppcls_lite.quantize.job import Job
from ppcls_lite.quantize.recipe import TECHNIQUES, TRAINING, Recipe, quantize, score
from ppcls_lite.quantize.roles import WORDS
from ppcls_lite.quantize.sensitivity import SEARCHED, worst_layers
from ppcls_lite.quantize.targets import TARGETS

WORST = (0, 12, 24)
# What changes nothing where only convolutions and linear layers are rounded is not tried there.
OF_CARD = ("gates", "split", "affine", "stretch", "hswish", "pool", "elementwise")
HEADING = "| | top-1 | as fp32 | SNR, dB | train: as fp32 | SNR, dB |\n|---|---|---|---|---|---|"


def comparison(job: Job, best: Recipe) -> Iterator[tuple[str, Recipe]]:
    """The rows: each mode and technique alone, all, the best with more layers in float, training.

    Training takes minutes where the others take seconds; it is tried alone and with the best, and
    not at all when the job has no pictures for it.
    """
    plain = Recipe(target=best.target)
    unfit = OF_CARD if best.target != "accelerator" else ("channels",)
    techniques = tuple(name for name in TECHNIQUES if name not in (*unfit, TRAINING))
    for mode in MODES:
        yield f"int8, {mode}", replace(plain, mode=mode)
    for name in techniques:
        yield f"percentile + {name}", replace(plain, techniques=(name,))
    for word in WORDS:
        if word not in unfit:
            yield f"percentile, {word} in float", replace(plain, float_layers=(word,))
    yield "percentile + all of these techniques", replace(plain, techniques=techniques)
    words = tuple(word for word in best.float_layers if not word.startswith(SEARCHED))
    for mode in ("percentile", "mse"):
        recipe = replace(best, mode=mode, float_layers=words)
        worst = worst_layers(job.graph, job.calibration, recipe)
        name = " + ".join([mode, ", ".join(best.techniques)] if best.techniques else [mode])
        for count in WORST:
            kept = ", ".join([*words, f"{count} worst"])
            layers = (*words, *worst[:count])
            yield f"{name}; {kept} in float", replace(recipe, float_layers=layers)
    if not job.training:
        return
    yield f"percentile + {TRAINING}", replace(plain, techniques=(TRAINING,))
    trained = replace(best, techniques=(*best.techniques, TRAINING), float_layers=words)
    kept = f"; {', '.join(words)} in float" if words else ""
    yield f"{best.mode} + {', '.join(trained.techniques)}{kept}", trained


def compare(job: Job, best: Recipe) -> Iterator[dict[str, Any]]:
    """Measures float, half precision and every row of `comparison`, on val and on train.

    Yields:
        name; top1, agreement, snr of `score` on val; train_agreement, train_snr on pictures of
        train that were not calibrated with, by which a recipe is to be chosen.
    """
    target = TARGETS[best.target]

    def measured(name: str, graph: onnx.ModelProto) -> dict[str, Any]:
        own = target.answers(graph, job.others)
        train = score(own, job.others_reference, job.others_reference.argmax(1))
        row = {"name": name} | score(target.answers(graph, job.pictures), job.reference, job.labels)
        return row | {f"train_{key}": train[key] for key in ("agreement", "snr")}

    yield measured("fp32", job.graph)
    if target.engine is None:
        yield measured("fp16", insert_half(job.graph))
    for name, recipe in comparison(job, best):
        yield measured(name, quantize(job.graph, job.calibration, recipe, job.training).int8)


def line(row: dict[str, Any]) -> str:
    """One row of `compare` as a row of a Markdown table."""
    val, train = (f"{s:.1f}" if s < 100 else "-" for s in (row["snr"], row["train_snr"]))
    return (
        f"| {row['name']} | {row['top1']:.3f} | {row['agreement']:.1%} | {val}"
        f" | {row['train_agreement']:.1%} | {train} |"
    )
