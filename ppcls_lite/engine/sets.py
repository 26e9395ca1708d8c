"""The pictures of a run: opened, their classes matched, and what the plan should say of them."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ppcls_lite.data.classes import NONE, ClassMatch, ClassSet, match_names, warnings
from ppcls_lite.data.dataset import SAME_CLASSES
from ppcls_lite.data.decode import ImageError
from ppcls_lite.data.image_dataset import ImageDataset
from ppcls_lite.data.imagenet import spoken_name
from ppcls_lite.data.named import open_train, open_val
from ppcls_lite.data.packed import read_source
from ppcls_lite.data.shares import write_split
from ppcls_lite.data.unlabelled import WithUnlabelled
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.errors import UserError, some
from ppcls_lite.model_info import ModelInfo


@dataclass(frozen=True)
class Sets:
    """What a run trains on and is measured with.

    Attributes:
        train: the training pictures, unlabelled ones at their end.
        val: those to validate on, with the class ids of train.
        classes: of train.
        remarks: lines of the plan: how the data was read, and classes with few pictures.
        share_of: the folder without a split whose pictures these are; "" for others.
    """

    train: ImageDataset
    val: ImageDataset
    classes: ClassSet
    remarks: tuple[str, ...]
    share_of: str = ""

    def keep_split(self, run: Path) -> None:
        """Keeps the split of a folder without one in a run's folder, for every later command."""
        if self.share_of:
            sides = {
                name: (
                    [data.path(i) for i in np.flatnonzero(data.labels >= 0)],
                    data.labels[data.labels >= 0].tolist(),
                )
                for name, data in (("train", self.train), ("val", self.val))
            }
            write_split(run, self.share_of, self.classes.names, sides)


def open_sets(config: TrainConfig, goes_on: ModelInfo | None = None, run: str = "") -> Sets:
    """Opens both splits.

    Args:
        config: the settings.
        goes_on: the network of the run that is resumed, whose class ids stay what they were.
        run: the folder of that run, whose split stays, too.

    Raises:
        UserError: a split is not there, val has a class that train lacks, or all training pictures
            are the same.
    """
    train, val = _open_both(config, run)
    check_differ(train)
    if goes_on:
        match = match_names(goes_on.class_set("the run"), train.class_set("train"))
        if sorted(match.ids) == list(range(len(goes_on.classes))):
            train = train.mapped(match)
    remarks = [f"note      {line}" for line in (*train.remarks, *val.remarks)]
    classes = train.class_set("train")
    names = tuple(val.classes)
    val, match = val.matched(classes, "val", SAME_CLASSES)
    if names != classes.names:
        remarks.append(f"classes   {match.how}")
    few = warnings(classes, (0, 1)) + warnings(val.class_set("val"), (0,))
    remarks += [f"warning   {line}" for line in few]
    remarks += ["          next: add images of these classes, or remove these classes"] * bool(few)
    share_of = train.share_of
    if config.unlabelled_path:
        train = WithUnlabelled(train, config.unlabelled_path)
    return Sets(train, val, classes, tuple(remarks), share_of)


def _open_both(config: TrainConfig, run: str) -> tuple[ImageDataset, ImageDataset]:
    """Both splits; where one list has several labels a picture, the other is read like it."""
    train = open_train(config, config.dry_run, config.val_list, run)
    val = open_val(config, config.dry_run, config.train_list, run)
    if train.labels.ndim == val.labels.ndim:
        return train, val
    config = dataclasses.replace(config, labels="several")
    if train.labels.ndim == 1:
        return open_train(config, config.dry_run, config.val_list, run), val
    return train, open_val(config, config.dry_run, config.train_list, run)


def check_differ(data: ImageDataset) -> None:
    """Raises UserError where every picture is the same file; two are read, where they differ.

    A folder without a split has been looked at for near copies, too.
    """
    try:
        first = read_source(data.source(0)) if len(data) > 1 else b""
        if first and all(read_source(data.source(i)) == first for i in range(1, len(data))):
            raise UserError(
                f"all {len(data)} training images are the same: {data.path(0)}, {data.path(1)} ...",
                "give images that differ",
            )
    except ImageError:
        return  # what cannot be read is said when it is its turn


def by_user(config: TrainConfig, name: str) -> bool:
    """Tells whether a setting was given now; a run that goes on brings all that it had."""
    return config.given(name) and not config.sources[name].endswith(".pdparams")


def check_multi_label(config: TrainConfig, count: int) -> None:
    """Raises UserError where the settings know one label a picture only.

    Args:
        config: of a training with several labels a picture.
        count: K, as found in the data.
    """
    asked = {
        "--teacher": config.teacher is not None,
        "--unlabelled-path": config.unlabelled_path is not None,
        "--cutmix": config.cutmix > 0,
        "--sampler balanced": config.sampler == "balanced",
        "--logit-adjustment": config.logit_adjustment > 0,
        "--calibrate": by_user(config, "calibrate") and config.calibrate,
        "--unknown": by_user(config, "unknown") and config.unknown,
        "--best-metric balanced_accuracy": config.best_metric == "balanced_accuracy",
        "--loss ce": by_user(config, "loss") and config.loss == "ce",
        f"--num-classes {config.num_classes}": config.num_classes not in (None, count),
    }
    if found := [flag for flag, is_asked in asked.items() if is_asked]:
        raise UserError(
            f"{' and '.join(found)}: {config.data_path} has several labels an image ({count}"
            " classes), and this knows one",
            "leave it out; --mixup, --label-smoothing and --class-weights balanced work, or"
            " --labels one if an image has one label",
        )


def class_count(config: TrainConfig, data: ImageDataset) -> int:
    """Returns K: as asked for, or as found in the data."""
    found = len(data.classes)
    if data.labels.ndim == 2:
        check_multi_label(config, found)
    if found < 2:
        raise UserError(
            f"{config.data_path} has one class, {data.classes[0]}; telling apart needs two",
            "add the class folders of the other kinds to train/ and val/",
        )
    if config.num_classes is not None and config.num_classes < found:
        raise UserError(
            f"--num-classes {config.num_classes}: the data has {found} classes",
            "leave --num-classes out to take the number from the data",
        )
    return config.num_classes or found


def head_rows(start: ModelInfo, data: ClassSet, count: int) -> tuple[Sequence[int] | None, str]:
    """Says which rows of a trained last layer a network for other data goes on with.

    A row is the weights of one class; it is taken over for the class of the same name.

    Args:
        start: the network that the layer is of.
        data: the classes to train.
        count: K of the network that is trained; at least as many.

    Returns:
        For each class its row, NONE where it starts fresh, [count]; None where the layer goes on as
        it is, or, with another number of classes, starts fresh as a whole. And words for the plan.

    Raises:
        UserError: a name fits several classes.
    """
    known = start.class_set("the weights")
    if not known.names or (data.numbers and data.names == tuple(map(str, data.numbers))):
        who = data.who if known.names else known.who
        same = f"; the last layer goes on as it is: {who} has no class names"
        return None, same * (known.count == count)
    match = match_names(known, data)
    rows = [*match.ids, *[NONE] * (count - len(match.ids))]
    if rows == list(range(known.count)):
        return None, ""
    return rows, _row_words(match, count)


def _row_words(match: ClassMatch, count: int) -> str:
    names = [spoken_name(name) for name in match.data.names]
    taken = [name for name, row in zip(names, match.ids, strict=True) if row != NONE]
    fresh = [name for name, row in zip(names, match.ids, strict=True) if row == NONE]
    if not taken:
        return ""
    words = f"; the last layer: {len(taken)} of {count} rows by name ({some(taken, 4)})"
    return words + (f", fresh: {some(fresh, 4)}" if fresh else "")
