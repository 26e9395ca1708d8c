"""The C++ program, built by CMake and run as a process, against the Python one."""

import dataclasses
import importlib.util
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image, PngImagePlugin
from small_checkpoint import checkpoint

from ppcls_lite.data.decode import load_image
from ppcls_lite.data.jpeg import INTERPOLATIONS
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.deploy.export import export_model
from ppcls_lite.deploy.predictor import Predictor
from ppcls_lite.deploy.sidecar import read_sidecar, write_sidecar

HEADERS = ("libjpeg", "libpng", "libexif", "yaml-cpp", "nlohmann_json")
needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"
)
ENGINES = {"openvino": "inference.onnx", "paddle_inference": "inference.pdmodel"}


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """The folder with `classify`, `pixels` and the engines that can be built here."""
    for program in ("cmake", "c++", "pkg-config"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    missing = [n for n in HEADERS if subprocess.run(["pkg-config", "--exists", n]).returncode]
    if missing:
        pytest.skip(f"no headers of {', '.join(missing)}")
    folder = tmp_path_factory.mktemp("cpp")
    python = os.path.relpath(sys.executable, ROOT)  # as docs/cpp.md gives it
    for command in (
        ["cmake", "-S", "deploy/cpp", "-B", folder, f"-DPython3_EXECUTABLE={python}"],
        ["cmake", "--build", folder, "--target", "all", "pixels", "--parallel", "2"],
    ):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def run(build, *argv):
    command = [build / "classify", *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """Pictures of every kind that the program decodes, odd sizes included."""
    folder = tmp_path_factory.mktemp("gallery")
    random = np.random.RandomState(3)

    def noise(width, height, channels=3):
        shape = (height, width, channels) if channels > 1 else (height, width)
        return Image.fromarray(random.randint(0, 256, shape).astype(np.uint8))

    for number, size in enumerate([(90, 120), (301, 97), (97, 405), (64, 64), (20, 31), (73, 72)]):
        # Chroma of half the size, or of all of it.
        noise(*size).save(folder / f"plain{number}.jpg", quality=88, subsampling=number % 3)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        noise(70 + orientation, 110).save(folder / f"turned{orientation}.jpg", exif=exif)
    noise(81, 95).save(folder / "progressive.jpg", progressive=True)
    noise(81, 95, 1).save(folder / "grey.jpg")
    noise(81, 95, 1).save(folder / "grey.png")
    noise(81, 95, 4).save(folder / "transparent.png")
    noise(81, 95).quantize(60).save(folder / "palette.png", transparency=3)
    noise(81, 95, 1).convert("1").save(folder / "bits.png")
    deep = random.randint(0, 65536, (95, 81)).astype(np.uint16)
    Image.fromarray(deep).save(folder / "deep.png")
    Image.fromarray(deep >> 4).save(folder / "twelve.png")  # of a camera of 12 bits
    Image.fromarray(deep >> 8).save(folder / "eight.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    noise(81, 95).save(folder / "turned.png", exif=exif, pnginfo=PngImagePlugin.PngInfo())
    for name in ("chelsea.jpg", "coffee.jpg"):
        shutil.copy(ROOT / "test_images" / name, folder)
    return folder


@pytest.mark.parametrize(
    ("interpolation", "resize_size", "crop_size", "fit"),
    [
        *((name, 72, 64, "crop") for name in INTERPOLATIONS),
        ("bilinear", 73, 64, "crop"),  # half a pixel beside the crop: Python rounds to even
        ("bicubic", 40, 65, "crop"),  # black around the picture
        *((name, 64, 64, fit) for name in INTERPOLATIONS for fit in ("pad", "squash")),
        ("bilinear", 73, 64, "pad"),
    ],
)
def test_every_pixel_is_pythons(
    build, gallery, exported, tmp_path, interpolation, resize_size, crop_size, fit
):
    spec = Preprocess(resize_size, crop_size, interpolation, fit=fit)
    content = (exported / "inference.yml").read_text()
    for key, value in (("resize_size", resize_size), ("crop_size", crop_size)):
        old = getattr(read_sidecar(exported).info.preprocess, key)
        content = content.replace(f"{key}: {old}", f"{key}: {value}")
    content = content.replace(
        "interpolation: bilinear", f"interpolation: {interpolation}\n  fit: {fit}"
    )
    (tmp_path / "inference.yml").write_text(content)
    read = read_sidecar(tmp_path).info.preprocess
    assert (read.interpolation, read.fit) == (interpolation, fit)
    for picture in sorted(gallery.iterdir()):
        done = subprocess.run([build / "pixels", tmp_path, picture], capture_output=True)
        assert done.returncode == 0, (picture.name, done.stderr)
        expected = spec.pixels(load_image(picture))  # [H, W, 3]
        found = np.frombuffer(done.stdout, np.uint8).reshape(expected.shape)
        assert np.array_equal(found, expected), picture.name


@pytest.mark.parametrize("engine", ENGINES)
def test_a_file_of_a_fixed_batch_size_gives_pythons_answers(build, tmp_path, engine):
    if importlib.util.find_spec({"paddle_inference": "paddle"}.get(engine, engine)) is None:
        pytest.skip(f"{engine} is not installed")
    folder = tmp_path / "export"
    export_model(checkpoint(tmp_path), folder, batch=3)
    files = [ROOT / "test_images" / name for name in ("chelsea.jpg", "coffee.jpg")]
    rankings = Predictor(folder / "inference.onnx", engine="onnxruntime")(files, topk=10)
    for file, ranking in zip(files, rankings, strict=True):
        done = run(build, "--pretrained", folder, "--img-path", file, f"--engine={engine}",
                   "--json", "--topk=10")  # fmt: skip
        assert done.returncode == 0, done.stderr
        found = {row["class_id"]: row["prob"] for row in json.loads(done.stdout)["topk"]}
        expected = {row.class_id: row.prob for row in ranking}
        assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_class_and_probability_are_pythons(build, gallery, exported, engine):
    if importlib.util.find_spec({"paddle_inference": "paddle"}.get(engine, engine)) is None:
        pytest.skip(f"{engine} is not installed")
    done = run(build, "--pretrained", exported, "--img-path", gallery, f"--engine={engine}",
               "--json", "--topk=10")  # fmt: skip
    assert done.returncode == 0, done.stderr
    files = sorted(gallery.iterdir())
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["file"] for answer in answers] == list(map(str, files))
    rankings = Predictor(exported / "inference.onnx", engine="onnxruntime")(files, topk=10)
    for answer, ranking in zip(answers, rankings, strict=True):
        assert answer["engine"] == engine
        assert answer["topk"][0]["class_id"] == ranking[0].class_id
        found = {row["class_id"]: row for row in answer["topk"]}
        for expected in ranking:
            row = found[expected.class_id]
            # fp32 engines differ in the order of their sums; 1e-4 is what was asked for.
            assert row["prob"] == pytest.approx(expected.prob, abs=1e-5)
            assert row["name"] == expected.name


@needs_openvino
def test_the_documents_line_is_printed_and_a_broken_picture_is_told(
    build, gallery, exported, tmp_path
):
    shutil.copy(gallery / "chelsea.jpg", tmp_path / "b.jpg")
    (tmp_path / "a.jpg").write_bytes((gallery / "chelsea.jpg").read_bytes()[:3000])
    (tmp_path / "c.bmp").write_bytes(b"BM")
    done = run(build, "--pretrained", exported / "inference.onnx", "--img-path", tmp_path)
    assert done.returncode == 1
    (ranking,) = Predictor(exported / "inference.onnx")(tmp_path / "b.jpg")
    line = next(line for line in done.stdout.splitlines() if line.startswith("class_id: "))
    class_id, prob = (part.split(": ")[1] for part in line.split(", "))
    assert int(class_id) == ranking[0].class_id
    assert float(prob) == pytest.approx(ranking[0].prob, abs=1e-5)
    assert "a.jpg" in done.stderr and "neither a JPEG nor a PNG" in done.stderr
    assert "2 of 3 images failed" in done.stderr


@needs_openvino
def test_logits_get_a_softmax(build, exported, gallery, tmp_path):
    """The file's probabilities, taken for logits, come out as Python's softmax of them."""
    picture = gallery / "chelsea.jpg"
    shutil.copy(exported / "inference.onnx", tmp_path)
    sidecar = read_sidecar(exported)
    sidecar.outputs["inference.onnx"]["softmax"] = False
    write_sidecar(tmp_path, sidecar)
    done = run(build, "--pretrained", tmp_path, "--img-path", picture, "--json")
    (ranking,) = Predictor(tmp_path / "inference.onnx")(picture)
    found = json.loads(done.stdout)["topk"]
    assert [row["prob"] for row in found] == pytest.approx([p.prob for p in ranking], abs=1e-5)
    assert found[0]["prob"] < 0.25  # of ten classes: flat


@needs_openvino
def test_it_says_unknown_of_the_pictures_that_python_does(build, exported, gallery, tmp_path):
    """In the middle between two of the pictures, so that both verdicts occur."""
    shutil.copy(exported / "inference.onnx", tmp_path)
    files, sidecar = sorted(gallery.iterdir()), read_sidecar(exported)
    crops = sidecar.info.preprocess([load_image(file) for file in files])
    logits = Predictor(exported / "inference.onnx").logits(crops)
    best = np.sort((logits - logits.mean(axis=1, keepdims=True)).max(axis=1))
    limit = float(best[len(best) // 2 :][:2].mean())
    info = dataclasses.replace(sidecar.info, known_limits=(limit,) * 10)
    write_sidecar(tmp_path, dataclasses.replace(sidecar, info=info))
    expected = [ranking.unknown for ranking in Predictor(tmp_path / "inference.onnx")(files)]
    assert set(expected) == {True, False}
    done = run(build, "--pretrained", tmp_path, "--img-path", gallery, "--json")
    assert [json.loads(line)["unknown"] for line in done.stdout.splitlines()] == expected
    done = run(build, "--pretrained", tmp_path, "--img-path", gallery)
    assert done.stdout.count("unknown: none of the classes") == sum(expected)


@needs_openvino
@pytest.mark.parametrize("name", ["inference.onnx", "inference.pdmodel"])
def test_features_are_pythons(build, exported, gallery, name):
    files = [gallery / "chelsea.jpg", gallery / "grey.png"]
    expected = Predictor(exported / "inference.onnx").embed(files)
    for file, features in zip(files, expected, strict=True):
        flags = ["--pretrained", exported / name, "--img-path", file, "--engine", "openvino"]
        found = json.loads(run(build, *flags, "--json", "--features").stdout)
        np.testing.assert_allclose(found["features"], features, atol=1e-5)
        plain = json.loads(run(build, *flags, "--json").stdout)
        assert "features" not in plain
        probs = [[row["prob"] for row in each["topk"]] for each in (found, plain)]
        assert probs[0] == pytest.approx(probs[1], abs=1e-6)


@needs_openvino
@pytest.mark.parametrize("inside", [True, False])
def test_several_labels_are_pythons(build, exported, gallery, tmp_path, inside):
    """Thresholds between the answers of the pictures, so that each has another number of labels."""
    shutil.copy(exported / "inference.onnx", tmp_path)
    sidecar = read_sidecar(exported)
    sidecar.outputs["inference.onnx"] |= {"softmax": False, "sigmoid": inside}
    cuts = tuple((np.linspace(0.05, 0.2, 10) if inside else np.linspace(0.51, 0.55, 10)).tolist())
    info = dataclasses.replace(sidecar.info, multi_label=True, thresholds=cuts)
    write_sidecar(tmp_path, dataclasses.replace(sidecar, info=info))
    files = sorted(gallery.iterdir())
    expected = [r.to_dict() for r in Predictor(tmp_path / "inference.onnx")(files)]
    assert len({len(row["labels"]) for row in expected}) > 1
    done = run(build, "--pretrained", tmp_path, "--img-path", gallery, "--json")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    for row, right in zip(found, expected, strict=True):
        for key in ("topk", "labels"):
            assert [x["name"] for x in row[key]] == [x["name"] for x in right[key]]
            probs = [[x["prob"] for x in rows[key]] for rows in (row, right)]
            assert probs[0] == pytest.approx(probs[1], abs=1e-5)
    lines = run(build, "--pretrained", tmp_path, "--img-path", gallery).stdout.splitlines()
    said = [line for line in lines if line.startswith("labels: ")]
    names = [", ".join(x["name"] for x in row["labels"]) or "none" for row in expected]
    assert said == [f"labels: {each}" for each in names]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--bogus"], "--bogus: unknown"),
        ([], "--pretrained and --img-path are needed"),
        (["--pretrained={export}", "--img-path=/no/such"], "/no/such: no such file or folder"),
        (["--pretrained=/no/such", "--img-path={picture}"], "no file or folder /no/such"),
        (["--pretrained={export}", "--img-path={picture}", "--topk=0"], "--topk 0: allowed"),
        (["--pretrained={export}", "--img-path={picture}", "--topk=5x"], "--topk 5x: allowed"),
        (["--pretrained={export}", "--img-path={picture}", "--engine=open"], "'open' is not one"),
        (["--pretrained={pictures}", "--img-path={picture}"], "nothing here can run"),
        pytest.param(
            ["--pretrained={damaged}", "--img-path={picture}"],
            "is not the file that inference.yml",
            marks=needs_openvino,
        ),
        pytest.param(
            ["--pretrained={export}/inference.json", "--img-path={picture}", "--engine=openvino"],
            "engine openvino cannot run",
            marks=needs_openvino,
        ),
        (["--pretrained={export}", "--img-path={picture}", "--features"], "by --json alone"),
    ],
)  # fmt: skip
def test_mistakes_are_one_message_and_status_2(build, exported, gallery, tmp_path, flags, told):
    for name in ("inference.yml", "inference.onnx"):
        shutil.copy(exported / name, tmp_path)
    with (tmp_path / "inference.onnx").open("ab") as file:
        file.write(b"more")
    values = {"export": exported, "picture": gallery / "grey.png", "pictures": gallery}
    done = run(build, *(flag.format(damaged=tmp_path, **values) for flag in flags))
    assert done.returncode == 2
    assert done.stderr.startswith("classify: ") and told in done.stderr
    assert len(done.stderr.splitlines()) <= 2 and done.stdout == ""


def test_help_names_every_flag(build):
    done = run(build, "--help")
    assert done.returncode == 0 and done.stderr == ""
    for flag in ("pretrained", "img-path", "topk", "engine", "threads", "json"):
        assert f"--{flag}" in done.stdout
