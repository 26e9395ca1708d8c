"""The pictures that ship with the repository, and the script that builds them."""

import gzip
import io
import tarfile
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from PIL import Image

from ppcls_lite.commands.data_make_lite import CLASSES, run
from ppcls_lite.data.settings import MakeLiteDataConfig
from ppcls_lite.errors import UserError

TEST_IMAGES = Path(__file__).parents[1] / "test_images"
LITE_DATA = TEST_IMAGES / "lite_data.tar"


def read_tar(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        members = tar.getmembers()
        assert all(member.isfile() for member in members)
        return {member.name: tar.extractfile(member).read() for member in members}


def write_idx(path: Path, values: np.ndarray) -> None:
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(header + values.tobytes(), mtime=0))


@pytest.fixture
def package_root(tmp_path: Path) -> Path:
    """A package of 40 training and 20 test pictures, by formula; label = position modulo 10."""
    root = tmp_path / "fashion"
    licence = root / "usr/share/doc/dataset-fashion-mnist/copyright"
    licence.parent.mkdir(parents=True)
    licence.write_text("Expat\n")
    folder = root / "usr/share/datasets/fashion-mnist"
    folder.mkdir(parents=True)
    for prefix, count in (("train", 40), ("t10k", 20)):
        pixels = np.random.RandomState(count).randint(0, 256, (count, 28, 28)).astype(np.uint8)
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", pixels)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", np.arange(count, dtype=np.uint8) % 10)
    return root


def build(package_root: Path, out: Path, train_per_class: int = 3, val_per_class: int = 2) -> bytes:
    config = MakeLiteDataConfig(str(package_root), str(out), train_per_class, val_per_class)
    assert run(config) == 0
    return out.read_bytes()


def test_shipped_tar_is_balanced_readable_and_licensed() -> None:
    files = read_tar(LITE_DATA)
    counts: dict[tuple[str, str], int] = {}
    pixels: dict[str, set[bytes]] = {"train": set(), "val": set()}
    for name, content in files.items():
        path = PurePosixPath(name)
        assert path.parts[0] == "lite_data" and ".." not in path.parts
        if path.suffix == ".png":
            _, split, label, _ = path.parts
            counts[split, label] = counts.get((split, label), 0) + 1
            image = Image.open(io.BytesIO(content))
            assert image.size == (28, 28)
            pixels[split].add(image.tobytes())
    assert counts == {
        (split, label): count for split, count in (("train", 300), ("val", 80)) for label in CLASSES
    }
    assert not pixels["train"] & pixels["val"]
    assert b"Permission is hereby granted, free of charge" in files["lite_data/LICENSE"]
    assert b"3000 training and 800 validation" in files["lite_data/README"]
    assert LITE_DATA.stat().st_size < 6_000_000


def test_same_package_gives_the_same_bytes_and_the_first_pictures_of_each_class(
    package_root: Path, tmp_path: Path
) -> None:
    first = build(package_root, tmp_path / "a.tar")
    for file in package_root.rglob("*.gz"):
        file.touch()
    assert build(package_root, tmp_path / "b.tar") == first

    files = read_tar(tmp_path / "a.tar")
    assert len(files) == 2 + 30 + 20
    assert files["lite_data/LICENSE"] == b"Expat\n"
    bags = sorted(name for name in files if name.startswith("lite_data/train/bag/"))
    assert [PurePosixPath(name).stem for name in bags] == ["00008", "00018", "00028"]
    expected = np.random.RandomState(40).randint(0, 256, (40, 28, 28))[18]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(files[bags[1]]))), expected)


def test_broken_input_is_named_and_nothing_is_written(package_root: Path, tmp_path: Path) -> None:
    images = package_root / "usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz"
    labels = images.with_name("train-labels-idx1-ubyte.gz")
    good = images.read_bytes()
    raw = gzip.decompress(good)
    breakages = {
        "not a whole gzip file": good[:-20],
        "starts with 00000801": labels.read_bytes(),
        "starts with nothing": gzip.compress(b""),
        "its header says 31360 bytes": gzip.compress(raw[:-1]),
        "39 images but 40 labels": None,
        "No such file": None,
    }
    out = tmp_path / "out.tar"
    for message, content in breakages.items():
        if content is not None:
            images.write_bytes(content)
        elif message == "No such file":
            images.unlink()
        else:
            write_idx(images, np.zeros((39, 28, 28), np.uint8))
        with pytest.raises(UserError, match=message) as caught:
            build(package_root, out)
        assert "apt-get download dataset-fashion-mnist" in caught.value.hint
        assert not out.exists()


def test_more_pictures_than_the_package_holds_are_refused(
    package_root: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="4 images of t-shirt_top, 5 are asked for"):
        build(package_root, tmp_path / "out.tar", train_per_class=5)


def test_every_shipped_file_is_credited() -> None:
    credits = (TEST_IMAGES / "CREDITS.md").read_text()
    files = {file.name for file in TEST_IMAGES.iterdir() if file.is_file()} - {"CREDITS.md"}
    assert {"coffee.jpg", "chelsea.jpg", "lite_data.tar"} <= files
    assert not {name for name in files if f"| `{name}` |" not in credits}


@pytest.mark.parametrize(
    ("name", "size"), [("coffee.jpg", (600, 400)), ("chelsea.jpg", (451, 300))]
)
def test_demo_pictures_are_small_rgb_photographs(name: str, size: tuple[int, int]) -> None:
    image = Image.open(TEST_IMAGES / name)
    image.load()
    assert (image.mode, image.size) == ("RGB", size)
    assert (TEST_IMAGES / name).stat().st_size < 100_000
