"""docs/pixels.md's few lines of NumPy and Pillow, which share nothing with our preprocessing."""

import re

import numpy as np
import pytest
import yaml
from conftest import ROOT
from golden.make_resize_golden import noise
from PIL import Image

from ppcls_lite.data.decode import load_image, open_image
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.deploy.sidecar import Sidecar, read_sidecar, write_sidecar
from ppcls_lite.model_info import ModelInfo

(CODE,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/pixels.md").read_text(), re.DOTALL)
# Width, height: long sides that int() and round() see differently (333.75), crops with a half
# pixel, squares, portraits, panoramas, and pictures that the crop has to fill up with zeros.
SIZES = [(500, 374), (374, 500), (333, 500), (640, 427), (224, 224), (97, 1000), (1000, 97),
         (31, 40), (257, 256)]  # fmt: skip
SPECS = [
    Preprocess(256, 224),
    Preprocess(235, 224, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    Preprocess(72, 65, "nearest"),
    Preprocess(40, 64),
    Preprocess(64, 64, fit="pad"),
    Preprocess(73, 64, "bicubic", fit="pad"),
    Preprocess(65, 65, fit="squash"),
    Preprocess(72, 64, "nearest", fit="squash"),
]


def as_documented(folder, picture):
    """Runs the lines of the document on a picture and an export folder."""
    code = CODE.replace('"inference/inference.yml"', repr(str(folder / "inference.yml")))
    code = code.replace('"cat.jpg"', repr(str(picture)))
    assert code.count(str(folder)) >= 1 and str(picture) in code
    names = {}
    exec(code, names)
    return names["values"]


@pytest.fixture(
    params=SPECS, ids=lambda spec: f"{spec.fit}-{spec.interpolation}-{spec.resize_size}"
)
def exported(request, tmp_path):
    info = ModelInfo("mobilenet_v3_small", 2, classes=("a", "b"), preprocess=request.param)
    tensor = {"name": "input", "shape": [1, 3, 8, 8], "dtype": "float32"}
    write_sidecar(tmp_path, Sidecar(info, {}, tensor, {}, {}, {}, {}, "a test"))
    assert read_sidecar(tmp_path).info == info
    return tmp_path, request.param


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_documented_lines_make_the_same_values(size, exported, tmp_path):
    folder, spec = exported
    image = Image.fromarray(noise(size[1], size[0]))
    assert image.size == size
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    image.save(tmp_path / "x.png")
    image.save(tmp_path / "x.jpg", quality=95)
    image.save(tmp_path / "turned.jpg", quality=95, exif=exif)
    image.convert("L").save(tmp_path / "grey.png")
    for name in ("x.png", "x.jpg", "turned.jpg", "grey.png"):
        path = tmp_path / name
        values = as_documented(folder, path)
        assert values.dtype == np.float32
        for read in (load_image, open_image):
            np.testing.assert_array_equal(values, spec([read(path)]), err_msg=name)


def test_the_words_of_inference_yml_have_the_numbers_and_the_roundings(exported):
    folder, spec = exported
    content = yaml.safe_load((folder / "inference.yml").read_text())
    words = " ".join(content["pixels"])
    short, crop = spec.resize_size, spec.crop_size
    sides = {
        "crop": f"long side int({short} * long / short)",
        "pad": f"short side int({short} * short / long)",
        "squash": f"both sides {short}",
    }
    for text in (
        sides[spec.fit], f"round((width - {crop}) / 2)", "RGB", "/ 255",
        spec.interpolation,
    ):  # fmt: skip
        assert text in words
    assert ("antialiasing" in words) == (spec.interpolation != "nearest")
    assert content["preprocess"] == spec.to_dict()
