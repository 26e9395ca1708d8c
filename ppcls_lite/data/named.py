"""`--dataset`: class folders and lists, or a data set with a name, downloaded when asked for."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ppcls_lite.data.cifar import FORMS, read_cifar
from ppcls_lite.data.dataset import open_split
from ppcls_lite.data.idx import read_idx_pair
from ppcls_lite.data.image_dataset import ImageDataset
from ppcls_lite.data.settings import DatasetSettings, TrainData, ValData
from ppcls_lite.data.shares import Shares
from ppcls_lite.errors import UserError
from ppcls_lite.program import quoted

FASHION_CLASSES = [
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
    "Ankle boot",
]  # fmt: skip
FASHION_PREFIX = {"train": "train", "val": "t10k"}
# Where the files may lie below --data-path: as downloaded, torchvision's way, Debian's package.
FASHION_FOLDERS = ("", "FashionMNIST/raw", "usr/share/datasets/fashion-mnist")


@dataclass(frozen=True)
class DataFile:
    """A published file of a data set, with the MD5 that its authors give."""

    url: str
    digest: str

    @property
    def file_name(self) -> str:
        """Name of the file, at its publisher and here."""
        return self.url.rpartition("/")[2]

    def __str__(self) -> str:
        return self.file_name


_CIFAR = "https://www.cs.toronto.edu/~kriz/"
_FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
# The binary forms of CIFAR: nothing in them is pickled.
DOWNLOADS = {
    "cifar10": (
        DataFile(f"{_CIFAR}cifar-10-binary.tar.gz", "md5:c32a1d4ab5d03f1284b67883e8d87530"),
    ),
    "cifar100": (
        DataFile(f"{_CIFAR}cifar-100-binary.tar.gz", "md5:03b5dce01913d631647c71ecec9e9cb8"),
    ),
    "fashion_mnist": tuple(
        DataFile(_FASHION + name, f"md5:{digest}")
        for name, digest in (
            ("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            ("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
            ("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
            ("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
        )
    ),
}


class PixelDataset(ImageDataset):
    """A data set whose pictures are in memory.

    Args:
        pixels: uint8 [N, H, W, 3], or [N, H, W] for grey.
        labels: class id of each picture.
        classes: name of each class.
        where: the file they are from, for messages.
    """

    def __init__(
        self, pixels: np.ndarray, labels: np.ndarray, classes: list[str], where: str
    ) -> None:
        super().__init__([], labels.tolist(), classes)
        self._pixels = pixels
        self._where = where

    def path(self, index: int) -> str:
        """Returns what to call a picture."""
        return f"{self._where}: image {index}"

    def name(self, index: int) -> bytes:
        """Returns the number of a picture, which is all the name it has."""
        return b"%d" % index

    def source(self, index: int) -> bytes:
        """Returns a picture as a file in Netpbm's format, which is its pixels after a header."""
        pixels = self._pixels[index]
        kind = b"P6" if pixels.ndim == 3 else b"P5"
        return b"%s %d %d 255\n" % (kind, pixels.shape[1], pixels.shape[0]) + pixels.tobytes()


def open_train(
    config: TrainData, dry_run: bool = False, val_list: str | None = None, run: str = ""
) -> ImageDataset:
    """Opens the training pictures of the data set that the settings name.

    Args:
        config: the settings.
        dry_run: download nothing.
        val_list: the list of the other split, if it was named: both count alike.
        run: a run's folder, or what lies in it, whose split of a folder without one is taken.

    Raises:
        UserError: it is not there, or damaged.
    """
    if config.dataset == "folder":
        shares = shares_of(config, run)
        data = open_split(
            config.data_path, "train", config.train_list, val_list, shares, config.labels
        )
    else:
        data = _open_named(config, "train", dry_run)
    return _checked(data, config)


def open_val(
    config: ValData, dry_run: bool = False, train_list: str | None = None, run: str = ""
) -> ImageDataset:
    """Opens the validation pictures, see `open_train`."""
    if config.dataset == "folder":
        shares = shares_of(config, run)
        split, file = config.val_split, config.val_list
        data = open_split(config.data_path, split, file, train_list, shares, config.labels)
    else:
        data = _open_named(config, "val", dry_run)
    return _checked(data, config)


def shares_of(config: DatasetSettings, run: str = "") -> Shares:
    """Returns how the settings split a folder without train/ and val/."""
    return Shares(config.val_share, config.folds or 0, config.fold or 0, config.split_seed, run)


def _checked(data: ImageDataset, config: DatasetSettings) -> ImageDataset:
    """Raises UserError where the settings split data that has a split of its own."""
    asked = [name for name in ("val_share", "folds", "split_seed") if config.changed(name)]
    if asked and not data.share_of:
        flag = asked[0].replace("_", "-")
        raise UserError(
            f"--{flag}: {config.data_path} has a train and val of its own, or lists were named",
            f"leave it out, or split one folder of class folders: --data-path"
            f" {quoted(os.path.join(config.data_path, 'train'))}",
        )
    return data


def _open_named(config: DatasetSettings, split: str, dry_run: bool) -> ImageDataset:
    found = _read(config.dataset, config.data_path, split)
    if found is None and config.dataset_download and not dry_run:
        from ppcls_lite.download import fetch_file  # imports an HTTP client

        for file in DOWNLOADS[config.dataset]:
            hint = "give a --data-path with space, where you may write"
            fetch_file(file, Path(config.data_path), lambda path: "", hint)
        found = _read(config.dataset, config.data_path, split)
    if found is None:
        names = ", ".join(_file_names(config.dataset))
        why = "; a dry run downloads nothing" * (dry_run and config.dataset_download)
        raise UserError(
            f"--dataset {config.dataset}: {config.data_path} has none of {names}{why}",
            "--dataset-download  # fetches it",
        )
    return found


def _file_names(dataset: str) -> list[str]:
    if dataset in FORMS:
        return [name for form in FORMS[dataset] for name in (form.folder, form.archive)]
    return [file.file_name for file in DOWNLOADS[dataset]]


def _read(dataset: str, data_path: str, split: str) -> PixelDataset | None:
    if dataset in FORMS:
        found = read_cifar(dataset, data_path, split)
        return PixelDataset(*found) if found else None
    prefix = FASHION_PREFIX[split]
    for below in FASHION_FOLDERS:
        folder = Path(data_path, below)
        if any(folder.glob(f"{prefix}-images-idx3-ubyte*")):
            pixels, labels = read_idx_pair(folder, prefix, "download it again")
            return PixelDataset(pixels, labels.astype(np.int64), FASHION_CLASSES, str(folder))
    return None
