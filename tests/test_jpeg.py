"""Cut-outs of JPEGs decoded in part, against Pillow decoding all of them."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image, ImageFilter

from ppcls_lite.data import jpeg
from ppcls_lite.data.decode import ImageError, load_image, open_image
from ppcls_lite.data.jpeg import INTERPOLATIONS, PlainJpeg, resized
from ppcls_lite.data.policies import Policy
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.data.transforms import TrainTransform, random_crop_box, sample_rng

# Only a machine without the tools may skip: a library whose pixels differ is "unavailable" too.
REASON = jpeg.unavailable() or ""
needs_library = pytest.mark.skipif(
    "no C++ compiler" in REASON or "jpeglib.h" in REASON, reason=f"no partial decoding: {REASON}"
)
KINDS = {
    "4:4:4": {"subsampling": "4:4:4"},
    "4:2:2": {"subsampling": "4:2:2"},
    "4:2:0": {"subsampling": "4:2:0"},
    "4:1:1": {"subsampling": "4:1:1"},
    "progressive": {"progressive": True, "subsampling": "4:2:0"},
    "progressive 4:2:2": {"progressive": True, "subsampling": "4:2:2"},
    "restart markers": {"restart_marker_blocks": 5, "subsampling": "4:2:0"},
    "restart rows": {"restart_marker_rows": 1, "subsampling": "4:2:2"},
    "optimised tables": {"optimize": True, "quality": 30},
    "grey": {"grey": True},
    "grey progressive": {"grey": True, "progressive": True},
}


def scene(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth colours with noise and hard edges: all that chroma upsampling gets wrong."""
    rng = np.random.default_rng(seed)
    noise = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
    pixels = np.array(noise.filter(ImageFilter.GaussianBlur(2)))
    pixels[height // 3 :, width // 2 :] = 255 - pixels[height // 3 :, width // 2 :]
    pixels[:, ::17] = rng.integers(0, 256, 3)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, grey: bool = False, **options: object) -> bytes:
    file = io.BytesIO()
    (image.convert("L") if grey else image).save(file, "jpeg", **{"quality": 90, **options})
    return file.getvalue()


def opened(data: bytes, decode: str = "exact") -> PlainJpeg:
    picture = open_image(data, decode)
    assert isinstance(picture, PlainJpeg)
    return picture


def by_pillow(data, box, size, interpolation, window=None):
    with Image.open(io.BytesIO(data)) as image:
        result = image.convert("RGB").crop(box).resize(size, INTERPOLATIONS[interpolation])
    return np.asarray(result.crop(window) if window else result)


@needs_library
@pytest.mark.parametrize("kind", KINDS)
def test_every_cut_out_has_pillows_pixels(kind):
    rng = np.random.default_rng(1)
    for width, height in ((97, 75), (64, 64), (33, 130), (131, 34), (17, 16), (9, 5)):
        data = encoded(scene(width, height), **KINDS[kind])
        picture = opened(data)
        picture = PlainJpeg(picture.data, picture.size, 0.0, lambda: pytest.fail("not decoded"))
        assert picture.size == (width, height)
        for _ in range(12):
            left, top = int(rng.integers(width)), int(rng.integers(height))
            right, bottom = (
                int(rng.integers(left + 1, width + 1)),
                int(rng.integers(top + 1, height + 1)),
            )
            size = (int(rng.integers(1, 60)), int(rng.integers(1, 60)))
            box = (left, top, right, bottom)
            for interpolation in ("bilinear", "bicubic"):
                found = resized(picture, box, size, interpolation)
                assert np.array_equal(found, by_pillow(data, box, size, interpolation)), (box, size)


@needs_library
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "4:1:1"])
def test_every_first_row_and_column_has_pillows_pixels(subsampling):
    """Wherever a cut begins in a block of 8, 16 or 32 pixels."""
    data = encoded(scene(150, 150), subsampling=subsampling)
    picture = opened(data)
    for first in range(70):
        for box in ((first, 0, first + 40, 30), (20, first, 60, first + 30), (0, 0, first + 1, 20)):
            size = (box[2] - box[0], box[3] - box[1])
            found = resized(picture, box, size, "bilinear")
            assert np.array_equal(found, by_pillow(data, box, size, "bilinear")), box


@needs_library
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_windows_have_pillows_pixels(interpolation):
    data = encoded(scene(120, 160))
    for box in ((0, 0, 120, 160), (11, 40, 100, 90)):
        for window in ((0, 0, 48, 64), (10, 20, 34, 44), (47, 63, 48, 64), (-5, -9, 60, 70)):
            found = resized(opened(data), box, (48, 64), interpolation, window)
            assert np.array_equal(found, by_pillow(data, box, (48, 64), interpolation, window))


@needs_library
def test_the_order_of_the_directions_is_that_of_the_installed_pillow():
    """Both sides of the border between the orders, for square and other targets."""
    for size in ((40, 40), (60, 30), (30, 60)):
        for height in (size[1] - 3, size[1] + 1, size[1] + 10, size[1] + 61):
            border = size[0] + (height - size[1]) // 2
            for width in range(max(border - 3, 1), border + 4):
                data = encoded(scene(width, height))
                box = (0, 0, width, height)
                for interpolation in ("bilinear", "bicubic"):
                    found = resized(opened(data), box, size, interpolation)
                    assert np.array_equal(found, by_pillow(data, box, size, interpolation))


@needs_library
@pytest.mark.parametrize("kind", ["4:2:0", "progressive", "grey"])
def test_the_transforms_see_the_same_pixels_whichever_way_a_picture_is_opened(kind):
    data = encoded(scene(180, 130), **KINDS[kind])
    whole = load_image(data)
    for spec in (Preprocess(64, 56), Preprocess(40, 64, "bicubic"), Preprocess(48, 48, "nearest")):
        assert np.array_equal(spec.pixels(opened(data)), spec.pixels(whole))
    transform = TrainTransform(48, auto_augment=Policy("ra"), erase_prob=0.5)
    for each in (transform, TrainTransform(48, padding=9)):
        for index in range(30):
            found = each(opened(data), sample_rng(0, 0, index))
            assert np.array_equal(found, each(whole, sample_rng(0, 0, index)))


def saved(image: Image.Image, file_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def upside_down() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 3
    return encoded(scene(40, 30), exif=exif)


@pytest.mark.parametrize(
    "data",
    [
        upside_down(),
        encoded(scene(40, 30).convert("CMYK")),
        saved(scene(40, 30), "png"),
        encoded(scene(40, 30)) + b"trailing bytes",
        saved(Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50), "png"),
    ],
    ids=["turned", "CMYK", "PNG", "bytes after the end", "16 bits"],
)
def test_everything_else_goes_through_pillow(data):
    for decode in ("exact", "fast"):
        picture = open_image(data, decode)
        assert isinstance(picture, Image.Image)
        assert np.array_equal(np.asarray(picture), np.asarray(load_image(data)))


def test_a_truncated_jpeg_is_refused_in_the_same_words():
    data = encoded(scene(200, 200))
    for cut in (data[: len(data) // 2], data[:-2], data[:-600]):
        with pytest.raises(ImageError) as expected:
            load_image(cut)
        with pytest.raises(ImageError) as found:
            # The top of it is there, and would be enough for this window.
            resized(open_image(cut), (0, 0, 200, 20), (20, 2), "bilinear")
        assert found.value.cause == expected.value.cause


def test_damaged_data_gives_what_pillow_gives():
    rng = np.random.default_rng(3)
    clean = encoded(scene(120, 90))
    for _ in range(60):
        data = bytearray(clean)
        for position in rng.integers(200, len(data) - 2, 3):
            data[position] ^= int(rng.integers(1, 256))
        results = []
        for picture in (load_image, open_image):
            try:
                box = (0, 0, 120, 90)
                results.append(resized(picture(bytes(data)), box, (60, 45), "bilinear").tobytes())
            except (ImageError, ValueError) as error:
                results.append(str(error))
        assert results[0] == results[1]


# The fast mode


@needs_library
def test_fast_decodes_large_cut_outs_smaller_and_stays_near_the_exact_pixels():
    image = scene(200, 160).resize((1600, 1280), Image.Resampling.BICUBIC)
    data = encoded(image, subsampling="4:2:0")
    for index in range(8):
        box = random_crop_box(*image.size, (0.3, 1.0), sample_rng(0, 0, index))
        exact = resized(opened(data), box, (96, 96), "bilinear").astype(int)
        fast = resized(opened(data, "fast"), box, (96, 96), "bilinear").astype(int)
        error = np.abs(exact - fast)
        # Measured: 0.1 to 0.3; a box misplaced by one pixel of the original gives 0.5 and more.
        assert 0 < error.mean() < 0.5


@needs_library
def test_the_mode_does_not_change_what_is_drawn():
    """The same box and flip: exact and fast differ by far less than two draws."""
    data = encoded(scene(100, 80).resize((800, 640), Image.Resampling.BICUBIC))
    transform = TrainTransform(64)
    for index in range(10):
        exact, fast = (
            transform(opened(data, mode), sample_rng(0, 0, index)).astype(int)
            for mode in ("exact", "fast")
        )
        other = transform(opened(data), sample_rng(1, 0, index)).astype(int)
        assert np.abs(exact - fast).mean() < 1 < 10 < np.abs(exact - other).mean()


# Where it cannot run

UNAVAILABLE = """
import sys
from io import BytesIO
import numpy as np
from PIL import Image
from ppcls_lite.data import jpeg
from ppcls_lite.data.decode import open_image
file = BytesIO()
Image.new("RGB", (30, 20), "red").save(file, "jpeg")
print(type(open_image(file.getvalue())).__name__, jpeg.unavailable())
"""


@pytest.mark.parametrize("missing", ["compiler", "headers", "folder"])
def test_without_the_library_pillow_decodes_and_the_reason_is_one_line(tmp_path, missing):
    environment = {**os.environ, "PPCLS_LITE_HOME": str(tmp_path / "cache")}
    if missing == "compiler":
        environment["CXX"] = "no-such-compiler"
    elif missing == "headers":
        compiler = tmp_path / "c++"
        compiler.write_text(
            '#!/bin/sh\necho "window.cc:24: fatal error: jpeglib.h: No such file" >&2; exit 1\n'
        )
        compiler.chmod(0o755)
        environment["CXX"] = str(compiler)
    else:
        (tmp_path / "cache").write_text("a file where the folder should be")
    done = subprocess.run(
        [sys.executable, "-c", UNAVAILABLE],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    word = {"compiler": "no-such-compiler", "headers": "jpeglib.h", "folder": "cache"}[missing]
    assert done.stdout.startswith("Image ") and word in done.stdout
    assert len(done.stdout.splitlines()) == 1


@needs_library
def test_processes_that_start_together_compile_once(tmp_path):
    environment = {**os.environ, "PPCLS_LITE_HOME": str(tmp_path)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", UNAVAILABLE],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    assert [process.communicate()[0] for process in started] == ["PlainJpeg None\n"] * 3
    assert len(list((tmp_path / "compiled").glob("*.so"))) == 1
