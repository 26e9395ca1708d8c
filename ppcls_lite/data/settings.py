"""Settings of data: where images lie, what becomes of them, and the commands on data alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from ppcls_lite.config import (
    DEFAULT_MODEL,
    TRAIN_FROM,
    Count,
    CountOrZero,
    Fit,
    Fraction,
    HalfTurn,
    Interpolation,
    NotNegative,
    PictureLimit,
    Pixels,
    Positive,
    Settings,
)
from ppcls_lite.data.mix_settings import MixSettings
from ppcls_lite.errors import UserError


@dataclass(frozen=True)
class DataRoot(PictureLimit):
    """Data."""

    data_path: Annotated[str, Meta(extra={"flags": ["--data-dir"]})] = "./data"
    """Folder with train/ and val/, each with a folder per class; or with train_list.txt and
    val_list.txt; or with the class folders alone."""


@dataclass(frozen=True)
class DatasetSettings(DataRoot):
    """Data."""

    dataset: Annotated[
        Literal["folder", "cifar10", "cifar100", "fashion_mnist"],
        Meta(extra={"also": {"imagenet": "folder"}}),
    ] = "folder"
    """What --data-path holds: folder is class folders or lists (imagenet is the same); the others
    are data sets in their own files."""
    dataset_download: bool = False
    """Download the data set of --dataset into --data-path, when it is not there."""
    labels: Literal["auto", "one", "several"] = "auto"
    """Labels of an image in the lists: one or several. auto looks at the list: several are 0,1,0
    behind a path, a CSV with a column for each class, or names between |."""
    val_share: Annotated[float, Meta(gt=0, lt=1)] = 0.2
    """Share of each class kept for validation, where --data-path is class folders alone."""
    folds: Annotated[int, Meta(ge=2)] | None = None
    """Split the class folders into this many equal parts, for cross-validation. Without --fold, one
    training after another, for each part."""
    fold: CountOrZero | None = None
    """Which part of --folds is for validation; the first is 0."""
    split_seed: CountOrZero = 0
    """Seed of this split: the same folder and seed give the same split, whatever --seed is."""

    def problems(self) -> Iterator[str]:
        """Yields what cannot be."""
        yield from super().problems()
        if self.fold is not None and self.fold >= (self.folds or 0):
            yield f"--fold {self.fold} is one of --folds K, from 0 to K - 1; K is {self.folds}"
        if self.folds and self.given("val_share"):
            yield "--folds and --val-share both say how much is for val; give one of them"


@dataclass(frozen=True)
class TrainData(DatasetSettings):
    """Data."""

    train_list: str | None = None
    """File with lines `path label` of the training images, instead of the folders in train/."""
    unlabelled_path: str | None = None
    """Folder of more training images, without classes; the loss takes them from --teacher."""


@dataclass(frozen=True)
class ValData(DatasetSettings):
    """Data."""

    val_split: str = "val"
    """Name of the validation folder in --data-path, or of its list, NAME_list.txt."""
    val_list: str | None = None
    """File with lines `path label` of the validation images, instead of the folders in val/."""


@dataclass(frozen=True)
class BatchSettings(Settings):
    """Data."""

    batch_size: Annotated[int, Meta(ge=1, extra={"flags": ["-b"]})] = 256
    """Images per step on each device. Halve it when memory runs out."""
    workers: Annotated[int, Meta(ge=0, extra={"flags": ["-j"]})] = 2
    """Processes that decode images; 0 decodes in the main process. Never changes the pixels."""
    on_error: Literal["stop", "skip"] = "stop"
    """At a broken image: stop and name it; or skip it, count it and list it at the end."""
    picture_timeout: NotNegative = 300.0
    """Seconds after which an image that hangs counts as broken, tried twice; 0 waits for ever."""


@dataclass(frozen=True)
class ResizeSettings(Settings):
    """Images."""

    interpolation: Interpolation = "bilinear"
    """Resize filter of training and evaluation."""


@dataclass(frozen=True)
class ValPictures(ResizeSettings):
    """Images of evaluation."""

    fit: Fit = "crop"
    """What the model sees in evaluation: crop is the centre of the image; pad is all of it, with
    black beside it; squash is all of it, made square. With pad and squash, --val-resize-size is
    --val-crop-size unless it is given."""
    val_resize_size: Pixels = 256
    """Size that evaluation resizes to, pixels: the short side; with --fit pad the long side, with
    squash both."""
    val_crop_size: Pixels = 224
    """Side of the square that the model sees in evaluation, pixels."""

    def problems(self) -> Iterator[str]:
        """Yields what cannot be."""
        yield from super().problems()
        if self.val_crop_size > self.val_resize_size:
            yield (
                f"--val-crop-size {self.val_crop_size} is larger than"
                f" --val-resize-size {self.val_resize_size}; the border would be black"
            )


@dataclass(frozen=True)
class TrainPictures(ResizeSettings):
    """Images of training."""

    sampler: Literal["shuffle", "balanced"] = "shuffle"
    """shuffle shows each image once an epoch; balanced shows as many images of each class, rare
    ones several times."""
    ra_reps: Count = 1
    """Repeated augmentation: show each image this many times in a row, changed anew each time."""
    train_crop_size: Pixels = 224
    """Side of the training crop, pixels."""
    crop_scale: tuple[Fraction, Fraction] = (0.08, 1.0)
    """Share of the image's area that a training crop covers, smallest and largest."""
    crop_ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    """Width / height of a training crop, smallest and largest."""
    crop_padding: CountOrZero = 0
    """Above 0: pad by this many pixels and cut the old size out, as for CIFAR; no --crop-scale."""
    hflip: Fraction = 0.5
    """Probability of mirroring a training image; 0 where left and right differ, as in text."""
    auto_augment: (
        Literal["imagenet", "cifar10", "svhn", "ra", "ta_wide", "augmix", "ra_timm"] | None
    ) = None
    """Random changes of training images: imagenet, cifar10 and svhn are AutoAugment's, ra is
    RandAugment, ra_timm timm's RandAugment, ta_wide TrivialAugment, augmix AugMix."""
    augment_interpolation: Interpolation = "nearest"
    """Filter of the distortions that move pixels."""
    ra_magnitude: Annotated[int, Meta(ge=0, le=30)] = 9
    """Strength of ra, of 30, and of ra_timm, of 10."""
    ra_magnitude_std: NotNegative = 0.0
    """Standard deviation of ra_timm's strength between images."""
    ra_num_ops: Count = 2
    """Distortions of one image by ra and ra_timm."""
    augmix_severity: Annotated[int, Meta(ge=1, le=10)] = 3
    """Strength of augmix, of 10."""
    color_jitter: tuple[NotNegative, NotNegative, NotNegative, HalfTurn] = (0.0, 0.0, 0.0, 0.0)
    """Random changes of brightness, contrast, saturation and hue, as shares; hue up to 0.5."""
    random_erase: Fraction = 0.0
    """Probability of erasing a random rectangle of a training image."""
    random_erase_mode: Literal["const", "pixel"] = "const"
    """Erase with the mean colour (torchvision) or with noise (timm)."""
    mean: tuple[Fraction, Fraction, Fraction] | None = None
    """Subtracted from R, G, B in 0 to 1. Without it: that of --pretrained, or ImageNet's."""
    std: tuple[Positive, Positive, Positive] | None = None
    """Divides R, G, B after that. Without it: likewise."""
    decode: Literal["exact", "fast"] = "exact"
    """How JPEGs are read in training: exact as Pillow; fast decodes large ones smaller."""

    def problems(self) -> Iterator[str]:
        """Yields what cannot be."""
        yield from super().problems()
        if self.crop_scale[0] > self.crop_scale[1]:
            yield f"--crop-scale {self.crop_scale}: the first share is the larger one"
        if self.crop_ratio[0] > self.crop_ratio[1]:
            yield f"--crop-ratio {self.crop_ratio}: the first is the larger one"
        belongs = {
            "ra_magnitude": ("ra", "ra_timm"),
            "ra_magnitude_std": ("ra_timm",),
            "ra_num_ops": ("ra", "ra_timm"),
            "augmix_severity": ("augmix",),
        }
        for name, policies in belongs.items():
            if self.changed(name) and self.auto_augment not in policies:
                flag = name.replace("_", "-")
                yield f"--{flag} belongs to --auto-augment {' or '.join(policies)}"
        if self.auto_augment == "ra_timm" and self.ra_magnitude > 10:
            yield f"--ra-magnitude {self.ra_magnitude}: that of ra_timm goes up to 10"


@dataclass(frozen=True)
class TrainBatches(TrainPictures, BatchSettings):
    """Batches of training."""


@dataclass(frozen=True)
class ShowAugmentConfig(MixSettings, TrainBatches, TrainData):
    """Draw training images as the model gets them: a sheet of the first batch of an epoch.

    python tools/show_augment.py --data-path my_pictures --auto-augment ra --cutmix 1
    """

    out: str = "augmented.png"
    """Image to write."""
    pictures: Count = 32
    """Largest number of images to draw."""
    pretrained: Annotated[str | None, TRAIN_FROM] = None
    """Take mean, std and interpolation of these weights, as training from them does."""
    model: str = DEFAULT_MODEL
    """Model of --pretrained, where the weights do not say it themselves."""
    start_epoch: CountOrZero = 0
    """Epoch whose first batch is drawn; the first is 0."""
    seed: CountOrZero | None = None
    """Seed of the random changes. Without it: one is drawn and printed."""


@dataclass(frozen=True)
class CheckDataConfig(DataRoot):
    """Look through a data folder: counts, broken images, doubles between train and val."""

    workers: Annotated[int, Meta(ge=0, extra={"flags": ["-j"]})] = 2
    """Processes that decode images; 0 decodes in the main process."""
    json: bool = False
    """Print one JSON object instead of the tables."""
    report: str | None = None
    """Folder for index.html and findings.csv: near copies, likely wrong labels, odd images."""
    apply: str | None = None
    """A list that was saved on index.html: ticked images are left out, or get another class, in the
    lists that --out gets."""
    out: str | None = None
    """Folder for the train_list.txt, val_list.txt and labels.txt of --apply; give it to a training
    as --data-path."""

    def problems(self) -> Iterator[str]:
        """Yields what cannot be."""
        yield from super().problems()
        if (self.apply is None) != (self.out is None) or (self.apply and self.report):
            yield "--apply LIST and --out FOLDER go together, and without --report"


@dataclass(frozen=True)
class PackDatasetConfig(DataRoot):
    """Pack a data folder into few large tar files: for disks that are slow at many small ones.

    python tools/pack_dataset.py --data-path ILSVRC2012 --out packed --short-side 288
    python tools/pack_dataset.py --out packed --verify
    python train.py --data-path packed
    """

    out: str = ""
    """Folder to write, or, with --verify, to read. A run that was stopped goes on where it was."""
    short_side: Pixels | None = None
    """Shrink images to this short side, pixels, as JPEG. Without it: every file stays as it is."""
    quality: Annotated[int, Meta(ge=1, le=95)] = 95
    """JPEG quality of the images that --short-side shrinks, 1 to 100."""
    shard_size: Count = 10_000
    """Images per tar file."""
    workers: Annotated[int, Meta(ge=0, extra={"flags": ["-j"]})] = 2
    """Processes that shrink images; 0 shrinks in the main process."""
    follow_links: bool = False
    """Pack images outside of --data-path as well, when links or lists lead to them."""
    verify: bool = False
    """Pack nothing; read all of --out and compare it with what was packed."""

    def __post_init__(self) -> None:
        if self.quality != PackDatasetConfig.quality and self.short_side is None:
            raise UserError(
                f"--quality {self.quality} has no effect without --short-side",
                "add --short-side, or leave --quality out",
            )


@dataclass(frozen=True)
class MakeLiteDataConfig(Settings):
    """Build the small data set that ships with the repository from Debian's Fashion-MNIST."""

    package_root: str = "/"
    """Folder that dataset-fashion-mnist was unpacked into; / when it is installed."""
    out: str = "test_images/lite_data.tar"
    """Tar to write."""
    train_per_class: Count = 300
    """Training images of each class."""
    val_per_class: Count = 80
    """Validation images of each class."""
