"""--cache: the same pixels as without, decoded once, and nothing left behind."""

import numpy as np
import pytest
from conftest import train
from PIL import Image

from ppcls_lite import cli
from ppcls_lite.data import cache as module
from ppcls_lite.data.cache import open_cache
from ppcls_lite.data.dataset import open_split
from ppcls_lite.data.loader import Loader
from ppcls_lite.data.transforms import TrainTransform
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.errors import UserError
from ppcls_lite.weights.formats import read_weights


@pytest.fixture
def photographs(tmp_path):
    """A landscape and a portrait JPEG, one that its EXIF turns, a palette PNG and a broken file."""
    draws, root = np.random.default_rng(0), tmp_path / "data"
    for split in ("train", "val"):
        for name in ("a", "b"):
            (root / split / name).mkdir(parents=True)
    for i, size in enumerate([(90, 60), (50, 80), (70, 40)]):
        pixels = draws.integers(0, 255, (size[1] // 5, size[0] // 5, 3), np.uint8)
        image = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
        exif = Image.Exif()
        exif[0x0112] = 6 if i == 2 else 1
        image.save(root / f"train/a/{i}.jpg", exif=exif)
    image.convert("P").save(root / "train/b/p.png")
    (root / "train/b/x.jpg").write_bytes((root / "train/a/0.jpg").read_bytes()[:-40])
    return root


def pixels(data, cache, count):
    loader = Loader(
        data, TrainTransform(32), 4, training=True, workers=count, seed=3, on_error="skip",
        cache=cache,
    )  # fmt: skip
    try:
        return [batch.images for epoch in (0, 1) for batch in loader.epoch(epoch)], loader.broken
    finally:
        loader.close()


@pytest.mark.parametrize(("where", "count"), [("ram", 0), ("disk", 1)])
def test_the_pixels_are_the_same(photographs, tmp_path, monkeypatch, where, count):
    data = open_split(str(photographs), "train")
    sources = [data.source(i) for i in range(len(data))]
    folder = tmp_path / "run"
    folder.mkdir()
    cache = open_cache(where, sources, folder)
    plain, broken = pixels(data, None, count)
    kept, same_broken = pixels(data, cache, count)
    assert all(np.array_equal(x, y) for x, y in zip(plain, kept, strict=True))
    assert broken == same_broken and len(broken) == 1
    assert not list(folder.iterdir())  # the file has no name, so a kill leaves none
    # What was decoded in another process, or before, is not read again.
    monkeypatch.setattr(module, "load_image", lambda source: pytest.fail("decoded again"))
    for i in range(4):
        assert cache.load(i, sources[i]).mode == "RGB"


def test_room_that_is_not_there_is_said_before(photographs, monkeypatch, tmp_path):
    data = open_split(str(photographs), "train")
    sources = [data.source(i) for i in range(len(data))]
    monkeypatch.setattr(module, "free_memory", lambda: 10_000)
    with pytest.raises(UserError, match="5 decoded images take") as caught:
        open_cache("ram", sources, tmp_path)
    assert "--cache disk" in caught.value.hint
    with pytest.raises(UserError, match="--cache keeps whole images"):
        cli.parse(TrainConfig, ["--cache=ram", "--decode=fast", "--data-path=x"], "train.py")


def test_a_training_has_the_same_weights(pictures, tmp_path):
    for where in ("off", "ram"):
        done = train(pictures, tmp_path / where, f"--cache={where}", "--epochs=2")
        assert done.returncode == 0, done.stderr
    a, b = (read_weights(tmp_path / x / "latest.pdparams") for x in ("off", "ram"))
    assert all(np.array_equal(a[name], b[name]) for name in a)
