"""Whether a training can work: before it, by its number of steps; in it, by what it answers."""

from collections import Counter

import numpy as np
from paddle import nn

from ppcls_lite.data.image_dataset import ImageDataset
from ppcls_lite.engine.counts import Counts
from ppcls_lite.engine.run import Run
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.errors import some
from ppcls_lite.label_metric import LabelAccuracy
from ppcls_lite.metric import Accuracy
from ppcls_lite.program import command

# From nothing, 100 steps end at chance; those of configs/lite.yaml, 188, end at 0.77 of 1.
FEWEST_STEPS = 150
MOST_INITIAL = 0.2  # share of batch norm's initial statistics that may be left at the end
ENOUGH = 20  # evaluated pictures from which on a share says something
UNEVEN = 10  # times as many pictures in a class as in another
GAP = 0.25  # between the accuracy on training and on validation pictures
LAG = "--norm-eval keeps those of pretrained weights, --bn-estimate 1000 takes fresh ones"


def before(run: Run) -> list[str]:
    """Says, as lines of the plan, when a training from nothing has too few steps, and what to type.

    Batch norm starts with mean 0 and variance 1 and keeps a share of that at each step, which is
    still in the statistics that evaluation uses.
    """
    config = run.config
    if run.loaded.loaded or run.progress.epoch:
        return []
    per_epoch = -(-len(run.loader) // config.gradient_accumulation_steps)
    steps = per_epoch * (config.epochs - config.start_epoch)
    norms = [layer for layer in run.model.sublayers() if isinstance(layer, nn.BatchNorm2D)]
    left = max((float(norm._momentum) ** steps for norm in norms), default=0.0)
    if steps >= FEWEST_STEPS and left <= MOST_INITIAL:
        return []
    finetune = command(
        "finetune", "--data-path", config.data_path, "--output-dir", config.output_dir
    )
    return [
        f"warning   from untrained weights, {steps} steps ({per_epoch} per epoch x {config.epochs})"
        f" are too few: batch norm ends with {left:.0%} of its initial statistics",
        f"          next: {finetune}",
    ]


def of_the_data(config: TrainConfig, train: ImageDataset, val: ImageDataset) -> list[str]:
    """Says, as lines of the plan, when pictures are too few or too uneven for top-1 to say much."""
    if train.labels.ndim == 2:
        return []
    said = []
    if 0 < (known := int((val.labels >= 0).sum())) < ENOUGH:
        said.append(
            f"note      {known} val images say little: one of them is {1 / known:.2f} of top-1."
            " Without a val/ folder, --folds 5 asks every image once"
        )
    counts = np.bincount(train.labels[train.labels >= 0])
    shown = np.flatnonzero(counts)
    answered = config.sampler == "balanced" or config.class_weights == "balanced"
    if answered or config.logit_adjustment or not len(shown):
        return said
    few, many = shown[counts[shown].argmin()], shown[counts[shown].argmax()]
    if counts[many] >= UNEVEN * counts[few]:
        said.append(
            f"note      {counts[many]} training images of {train.classes[many]}, {counts[few]} of"
            f" {train.classes[few]}: top-1 hardly sees the rare ones. Try --class-weights balanced"
            " --best-metric balanced_accuracy"
        )
    return said


def after_epoch(run: Run, trained: Counts, accuracy: Counts) -> list[str]:
    """Says what is wrong with an epoch's answers, and what to try.

    Args:
        trained: counts over the training pictures as they were shown, before each step.
        accuracy: over the validation pictures.
    """
    said: list[str] = []
    if isinstance(accuracy, LabelAccuracy) or isinstance(trained, LabelAccuracy):
        return _after_labels(run, accuracy) if isinstance(accuracy, LabelAccuracy) else []
    kinds = Counter[int]()
    answers = Counter[int]()
    for (true, predicted), count in accuracy.pairs.items():
        kinds[true] += count
        answers[predicted] += count
    if accuracy.count < ENOUGH or len(kinds) < 2:
        return said
    (favourite, most), commonest = answers.most_common(1)[0], max(kinds.values())
    names = run.info.classes
    name = names[favourite] if favourite < len(names) else str(favourite)
    if most >= 0.95 * accuracy.count and most > 1.2 * kinds[favourite]:
        said.append(f"{most} of {accuracy.count} val images are taken for {some([name], 1)}")
    if accuracy.top1_hits <= commonest:
        share = commonest / accuracy.count
        said.append(f"val top1 {accuracy.top1:.3f} is no better than chance ({share:.3f})")
    if said:
        return [f"note      {'; '.join(said)}{_remedy(run, trained)}"]
    if trained.count >= ENOUGH and trained.top1 > accuracy.top1 + GAP:
        return [
            f"note      train top1 {trained.top1:.3f} is far above val top1 {accuracy.top1:.3f}:"
            f" {_causes(run)}"
        ]
    return []


def _causes(run: Run) -> str:
    """Why training images may be known much better than those of val, and what to try."""
    by_heart = "more of them, --auto-augment ra, --label-smoothing 0.1, or fewer --epochs"
    if run.config.norm_eval or run.config.bn_estimate:
        return f"images are learned by heart. Try {by_heart}"
    return (
        f"batch norm's statistics lag behind, or images are learned by heart. Try {LAG};"
        f" against the other, {by_heart}"
    )


def _after_labels(run: Run, accuracy: LabelAccuracy) -> list[str]:
    """The same where a picture has several labels: a class by chance has its share as precision."""
    labels = accuracy.answers[1]
    shares = labels.mean(axis=0)[labels.any(axis=0)]
    if accuracy.count < ENOUGH or not len(shares) or accuracy.mean_precision > 1.1 * shares.mean():
        return []
    chance = f"val mAP {accuracy.mean_precision:.3f} is no better than chance ({shares.mean():.3f})"
    return [f"note      {chance}{_last_remedy(run)}"]


def _remedy(run: Run, trained: Accuracy) -> str:
    """What to try against answers that are no better than chance."""
    if trained.count >= ENOUGH and trained.top1 > 2 / max(run.info.num_classes, 2):
        return (
            f", while train top1 is {trained.top1:.3f}: batch norm's statistics lag behind. {LAG}"
        )
    return _last_remedy(run)


def _last_remedy(run: Run) -> str:
    if not run.loaded.loaded:
        finetune = command("finetune", "--data-path", run.config.data_path)
        return f". Start from trained weights: {finetune}"
    return f". Try a tenth of the rate, --lr {run.config.lr / 10:g}, or --norm-eval"
