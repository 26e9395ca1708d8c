"""CIFAR-10 and CIFAR-100 in their authors' two forms, as an archive or as the folder in it.

The Python form is pickled; it is read by `pickles`, which runs nothing.
"""

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ppcls_lite.errors import UserError
from ppcls_lite.program import quoted
from ppcls_lite.weights.pickles import array_of, load_pickle
from ppcls_lite.weights.raw import Damaged, Refused

SIDE = 32
PIXELS = 3 * SIDE * SIDE  # bytes of a picture: all of R, then G, then B, row by row
LARGEST = 2**28  # bytes of a file; the largest there is has 155 MB


@dataclass(frozen=True)
class Form:
    """One form of one of the two.

    Attributes:
        archive: its file name.
        folder: the folder in it.
        splits: files of train and of val.
        names: file with the names of the classes.
        labels: in a pickle the key of the labels; in a binary record the number of the byte.
        names_key: in a pickle the key of the names.
        label_bytes: labels in front of each binary record.
    """

    archive: str
    folder: str
    splits: dict[str, tuple[str, ...]]
    names: str
    labels: str | int
    names_key: str = ""
    label_bytes: int = 0


_FIVE = range(1, 6)
FORMS = {
    "cifar10": (
        Form(
            "cifar-10-python.tar.gz",
            "cifar-10-batches-py",
            {"train": tuple(f"data_batch_{i}" for i in _FIVE), "val": ("test_batch",)},
            "batches.meta",
            "labels",
            names_key="label_names",
        ),
        Form(
            "cifar-10-binary.tar.gz",
            "cifar-10-batches-bin",
            {"train": tuple(f"data_batch_{i}.bin" for i in _FIVE), "val": ("test_batch.bin",)},
            "batches.meta.txt",
            0,
            label_bytes=1,
        ),
    ),
    "cifar100": (
        Form(
            "cifar-100-python.tar.gz",
            "cifar-100-python",
            {"train": ("train",), "val": ("test",)},
            "meta",
            "fine_labels",
            names_key="fine_label_names",
        ),
        Form(
            "cifar-100-binary.tar.gz",
            "cifar-100-binary",
            {"train": ("train.bin",), "val": ("test.bin",)},
            "fine_label_names.txt",
            1,
            label_bytes=2,
        ),
    ),
}


def read_cifar(
    name: str, data_path: str, split: str
) -> tuple[np.ndarray, np.ndarray, list[str], str] | None:
    """Reads one split.

    Args:
        name: cifar10 or cifar100.
        data_path: folder with an archive or with the folder that was in it, or that folder itself.
        split: train or val.

    Returns:
        Pictures uint8 [N, 32, 32, 3], labels int64 [N], names of the classes, and where they
        were; None when nothing of it is there.

    Raises:
        UserError: a file is missing or damaged.
    """
    for form in FORMS[name]:
        found = _read_files(form, Path(data_path), split)
        if found is None:
            continue
        where, files = found
        try:
            classes = _class_names(form, files[form.names])
            parts = [_read_part(form, files[file]) for file in form.splits[split]]
        except KeyError as error:
            raise UserError(f"{where} lacks {error}", "unpack or download it again") from None
        except (Damaged, Refused, ValueError, IndexError, TypeError, AttributeError) as error:
            raise UserError(f"{where} is damaged: {error}", "download it again") from None
        pixels, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        if labels.min() < 0 or labels.max() >= len(classes):
            raise UserError(f"{where} is damaged: a label is {labels.max()}", "download it again")
        return pixels, labels.astype(np.int64), classes, where
    return None


def _read_files(form: Form, root: Path, split: str) -> tuple[str, dict[str, bytes]] | None:
    wanted = (*form.splits[split], form.names)
    for folder in (root / form.folder, root):
        if (folder / form.splits[split][0]).is_file():
            present = [name for name in wanted if (folder / name).is_file()]
            return str(folder), {name: (folder / name).read_bytes() for name in present}
    archive = root / form.archive
    if not archive.is_file():
        return None
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = member.name.rpartition("/")[2]
                content = tar.extractfile(member) if member.isfile() and name in wanted else None
                if content and member.size <= LARGEST:
                    files[name] = content.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UserError(
            f"{archive} is damaged: {error}", f"rm {quoted(str(archive))}  # and again"
        ) from None
    return str(archive), files


def _class_names(form: Form, content: bytes) -> list[str]:
    if form.label_bytes:
        return content.decode().split()
    return [str(name) for name in _table(content)[form.names_key]]


def _read_part(form: Form, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(form.labels, int):
        size = form.label_bytes + PIXELS
        records = np.frombuffer(content, np.uint8).reshape(-1, size)
        labels, pixels = records[:, form.labels], records[:, form.label_bytes :]
    else:
        table = _table(content)
        data = array_of(table["data"])
        if data is None or data.dtype != np.uint8:
            raise Damaged("its images are no bytes")
        labels, pixels = np.array(table[form.labels], np.int64), data
    planes = pixels.reshape(len(labels), 3, SIDE, SIDE)
    return planes.transpose(0, 2, 3, 1), labels


def _table(content: bytes) -> dict[str, Any]:
    def no_storage(_: Any) -> np.ndarray:
        raise Damaged("it refers to another file")

    return load_pickle(io.BytesIO(content), no_storage)
