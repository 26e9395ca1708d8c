"""Preprocessing against torchvision's pixels (tests/golden/make_data_golden.py)."""

import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden.data_images import StreamDraws, make_image
from PIL import Image, ImageOps

from ppcls_lite.data import preprocess
from ppcls_lite.data.decode import ImageError, load_image
from ppcls_lite.data.preprocess import Preprocess, find_images
from ppcls_lite.data.transforms import TrainTransform, random_crop_box, sample_rng
from ppcls_lite.errors import UserError

GOLDEN: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parent / "golden" / "data_golden.json").read_text()
)
ROOT = Path(__file__).resolve().parents[1]
PHOTOS = Path(os.environ.get("PPCLS_LITE_PHOTOS", ROOT.parent / "shared" / "data" / "clothing10"))


def check_pixels(pixels: np.ndarray, case: dict[str, Any]) -> None:
    for y, x, rgb in case["probes"]:
        assert pixels[y, x].tolist() == rgb, case
    assert hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest() == case["sha256"], (
        case
    )


def saved(image: Image.Image, file_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def test_evaluation_pixels_equal_torchvisions() -> None:
    for case in GOLDEN["evaluation"]:
        pixels = Preprocess(*case["spec"]).pixels(make_image(*case["size"], seed=1))
        check_pixels(pixels, case)


def test_photographs_give_torchvisions_pixels() -> None:
    if not PHOTOS.is_dir():
        pytest.skip(f"no images in {PHOTOS}")
    for case in GOLDEN["photos"]:
        check_pixels(Preprocess(*case["spec"]).pixels(load_image(PHOTOS / case["file"])), case)


@pytest.mark.parametrize("compiled", [True, False])
def test_normalized_values_equal_torchs_to_the_last_bit(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(preprocess, "_compiled", lambda: None)
    elif preprocess._compiled() is None:
        pytest.skip("no C++ compiler here")
    values = np.repeat(np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1), 3, axis=3)
    out = Preprocess().normalize(values)
    assert out.shape == (1, 3, 16, 16) and out.dtype == np.float32
    (case,) = GOLDEN["normalize"]
    assert out[0, :, 0, 1].tolist() == case["first"]
    assert hashlib.sha256(out.tobytes()).hexdigest() == case["sha256"]


def test_compiled_normalisation_gives_numpys_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Channels that differ, several images, memory with gaps, and no image."""
    spec = Preprocess(mean=(0.5, 0.1, 0.9), std=(0.2, 0.7, 1.0))
    noise = np.random.default_rng(0).integers(0, 256, (3, 5, 14, 3), np.uint8)
    batches = [noise, noise[:, ::2, ::-1], noise[:0]]
    found = [spec.normalize(batch) for batch in batches]
    monkeypatch.setattr(preprocess, "_compiled", lambda: None)
    for batch, values in zip(batches, found, strict=True):
        np.testing.assert_array_equal(values, spec.normalize(batch), strict=True)


def test_crop_boxes_equal_torchvisions_for_the_same_draws() -> None:
    for case in GOLDEN["crop_boxes"]:
        box = random_crop_box(*case["size"], case["scale"], StreamDraws(case["seed"]))
        assert list(box) == case["box"], case


def test_training_pixels_equal_torchvisions_for_the_same_draws() -> None:
    for case in GOLDEN["training"]:
        transform = TrainTransform(crop_size=48, interpolation=case["interpolation"])
        pixels = transform(make_image(*case["size"], seed=2), StreamDraws(case["seed"]))
        check_pixels(pixels, case)


def test_draws_depend_on_seed_epoch_and_sample() -> None:
    first = sample_rng(1, 2, 3).random(4).tolist()
    assert sample_rng(1, 2, 3).random(4).tolist() == first
    for other in ((0, 2, 3), (1, 0, 3), (1, 2, 0), (3, 2, 1)):
        assert sample_rng(*other).random(4).tolist() != first


def test_a_batch_of_different_sizes_is_one_array() -> None:
    spec = Preprocess(resize_size=36, crop_size=32)
    images = [make_image(50, 40, seed=1), make_image(40, 90, seed=2)]
    batch = spec(images)
    assert batch.shape == (2, 3, 32, 32)
    assert np.array_equal(batch[1], spec(images[1:])[0])


def test_specification_survives_json() -> None:
    spec = Preprocess(40, 32, "bicubic", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert Preprocess.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"interpolation": "bilinaer"}, "did you mean bilinear?"),
        ({"crop_size": 0}, "crop_size: 0"),
        ({"std": [1.0, 0.0, 1.0]}, "std"),
        ({"croop_size": 3}, "did you mean crop_size?"),
    ],
)
def test_impossible_specifications_are_refused(values: dict[str, Any], part: str) -> None:
    with pytest.raises(UserError) as caught:
        Preprocess.from_dict(values)
    assert part in caught.value.message


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_pillow_does(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(make_image(40, 24, seed=3), "JPEG", exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert upright is not None
    assert np.array_equal(np.asarray(load_image(data)), np.asarray(upright))


def test_damaged_exif_does_not_reject_the_picture() -> None:
    image = make_image(40, 24, seed=3)
    png = saved(image, "PNG")
    chunk = b"eXIf" + b"not a TIFF header"
    header_end = 33  # signature and IHDR
    chunk = (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    data = png[:header_end] + chunk + png[header_end:]
    with pytest.raises(SyntaxError):
        Image.open(io.BytesIO(data)).getexif()
    assert np.array_equal(np.asarray(load_image(data)), np.asarray(image))


def test_every_colour_mode_becomes_rgb() -> None:
    rgb = make_image(30, 20, seed=4)
    grey = rgb.convert("L")
    palette = rgb.quantize(16)
    transparent = bytes([0, 100, 255] + [255] * 13)
    alpha = Image.new("L", rgb.size, 7)
    cases = {
        "grey": (saved(grey, "PNG"), Image.merge("RGB", [grey] * 3)),
        "grey + alpha": (
            saved(Image.merge("LA", [grey, alpha]), "PNG"),
            Image.merge("RGB", [grey] * 3),
        ),
        "alpha": (saved(Image.merge("RGBA", [*rgb.split(), alpha]), "PNG"), rgb),
        "palette": (saved(palette, "PNG", transparency=transparent), palette.convert("RGB")),
        "1 bit": (saved(grey.convert("1"), "PNG"), grey.convert("1").convert("RGB")),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, (data, expected) in cases.items():
            image = load_image(data)
            assert image.mode == "RGB"
            assert np.array_equal(np.asarray(image), np.asarray(expected)), name


def test_cmyk_keeps_its_colours() -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    pixels = np.asarray(load_image(saved(red, "JPEG", quality=95))).astype(int)
    # JPEG is lossy: a flat colour comes back within a few grey levels.
    assert np.abs(pixels - [255, 0, 0]).max() <= 4


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_keeps_its_upper_byte(file_format: str) -> None:
    values = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16) + 255
    pixels = np.asarray(load_image(saved(Image.fromarray(values), file_format)))
    assert pixels[..., 0].ravel().tolist() == list(range(256))


def test_the_content_decides_the_format_not_the_name(tmp_path: Path) -> None:
    file = tmp_path / "n02105855_2933.JPEG"  # ImageNet has a PNG with such a name
    image = make_image(30, 20, seed=5)
    file.write_bytes(saved(image, "PNG"))
    assert np.array_equal(np.asarray(load_image(file)), np.asarray(image))


def test_unreadable_pictures_are_named_with_their_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = make_image(60, 40, seed=6)
    jpeg, png = saved(image, "JPEG"), saved(image, "PNG")
    contents = {
        "empty.jpg": (b"", "empty (0 bytes)"),
        "page.jpg": (b"<html>404</html>", "not an image of a known format"),
        "cut.jpg": (jpeg[:-300], "truncated"),
        "cut.png": (png[: len(png) // 2], "cannot be decoded"),
        "damaged.png": (png[:60] + bytes(20) + png[80:], "cannot be decoded"),
        "float.tif": (saved(Image.new("F", (4, 4), 0.5), "TIFF"), "floating-point"),
        "deep.tif": (saved(Image.new("I", (4, 4), 70000), "TIFF"), "more than 16 bits"),
    }
    for name, (data, cause) in contents.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImageError) as caught:
            load_image(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: ")
        assert cause in caught.value.cause
    for path, cause in ((tmp_path, "directory"), (tmp_path / "none.jpg", "No such file")):
        with pytest.raises(ImageError, match=cause):
            load_image(path)
    with pytest.raises(ImageError, match=r"<16 bytes>: .*not an image"):
        load_image(b"<html>404</html>")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ImageError, match="too many pixels"):
        load_image(jpeg)


def test_an_image_error_crosses_process_borders() -> None:
    error = pickle.loads(pickle.dumps(ImageError("a.jpg", "is empty")))
    assert (error.source, error.cause) == ("a.jpg", "is empty")
    assert str(error).startswith("a.jpg: is empty\n  next: save such an image again")


def test_find_images(tmp_path: Path) -> None:
    for name in ("b.jpg", "sub dir/a.PNG", "notes.txt", "c[1].jpeg", "._b.jpg"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
    (tmp_path / "nothing").mkdir()
    assert find_images(str(tmp_path)) == [
        tmp_path / name for name in ("b.jpg", "c[1].jpeg", "sub dir/a.PNG")
    ]
    assert find_images(f"{tmp_path}/*.jp*g") == [tmp_path / "b.jpg", tmp_path / "c[1].jpeg"]
    assert find_images(f"{tmp_path}/c[1].jpeg") == [tmp_path / "c[1].jpeg"]
    assert find_images(f"{tmp_path}/notes.txt") == [tmp_path / "notes.txt"]
    for path, part in [
        ("nothing", "no image"),
        ("*.txt", "none of the 1 matches"),
        ("d.jpg", "did you mean b.jpg?"),
    ]:
        with pytest.raises(UserError) as caught:
            find_images(f"{tmp_path}/{path}")
        assert part in caught.value.message


def test_preprocessing_and_loader_do_not_import_paddle() -> None:
    code = "import sys, ppcls_lite.data.loader; sys.exit('paddle' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
