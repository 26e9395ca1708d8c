"""`data make_lite`: the small data set of real pictures that ships with the repository."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from ppcls_lite.data.idx import read_idx_pair
from ppcls_lite.data.settings import MakeLiteDataConfig
from ppcls_lite.errors import UserError

# Position = label in the archives.
CLASSES = (
    "t-shirt_top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle_boot",
)
ARCHIVES = {"train": "train", "val": "t10k"}  # split -> file prefix
HINT = (
    "apt-get download dataset-fashion-mnist && dpkg -x dataset-fashion-mnist_*.deb fashion"
    " && python tools/make_lite_data.py --package-root fashion"
)
README = """\
lite_data: {train} training and {val} validation images of ten kinds of clothing, 28 x 28, grey.

Origin:  Fashion-MNIST, Copyright 2017 Zalando SE, as in Debian's package dataset-fashion-mnist
Licence: MIT (the package calls it Expat); see LICENSE
Made by: python tools/make_lite_data.py. Of every class the first {train_per_class} images of the
         training archive and the first {val_per_class} of the test archive, pixels unchanged.
Layout:  SPLIT/CLASS/ID.png, where ID is the image's position in its archive
"""


def run(config: MakeLiteDataConfig) -> int:
    """Writes the tar; the same package gives the same bytes.

    Raises:
        UserError: when the package's files are missing, broken, or hold too few pictures.
    """
    share = Path(config.package_root, "usr/share")
    per_class = {"train": config.train_per_class, "val": config.val_per_class}
    readme = README.format(
        train=len(CLASSES) * config.train_per_class,
        val=len(CLASSES) * config.val_per_class,
        train_per_class=config.train_per_class,
        val_per_class=config.val_per_class,
    )
    files = {
        "lite_data/LICENSE": _read(share / "doc/dataset-fashion-mnist/copyright"),
        "lite_data/README": readme.encode(),
    }
    for split, prefix in ARCHIVES.items():
        pixels, labels = read_idx_pair(share / "datasets/fashion-mnist", prefix, HINT)
        for label, name in enumerate(CLASSES):
            chosen = np.flatnonzero(labels == label)[: per_class[split]]
            if len(chosen) < per_class[split]:
                raise UserError(
                    f"{prefix}: {len(chosen)} images of {name}, {per_class[split]} are asked for",
                    HINT,
                )
            for index in chosen:
                files[f"lite_data/{split}/{name}/{index:05d}.png"] = _png(pixels[index])
    _write_tar(Path(config.out), files)
    print(f"wrote {config.out}: {len(files) - 2} images, {Path(config.out).stat().st_size} bytes")
    return 0


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", HINT) from error


def _png(pixels: np.ndarray) -> bytes:
    """Encodes grey pixels, uint8 [H, W], without loss."""
    buffer = io.BytesIO()
    # Not deflated: zlib builds differ in what they write, and tar's 512-byte blocks and git's own
    # compression leave nothing to gain.
    Image.fromarray(pixels).save(buffer, "png", compress_level=0)
    return buffer.getvalue()


def _write_tar(out: Path, files: dict[str, bytes]) -> None:
    """Writes the files in name order; a TarInfo's own owner, mode and time are constants."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(out, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
