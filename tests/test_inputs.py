"""The same picture gives the same answer, however it is stored and however it is handed over."""

import io
import os
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import paddle
import pytest
from conftest import ROOT, run_tool
from PIL import Image, ImageOps

from ppcls_lite.data.decode import ImageError, load_image, open_image, upright_rgb
from ppcls_lite.data.preprocess import find_images
from ppcls_lite.data.workers import Sample, decode_into
from ppcls_lite.deploy.inputs import pictures
from ppcls_lite.deploy.predictor import Predictor
from ppcls_lite.errors import UserError

Y, X = np.mgrid[:48, :64]
RGB = np.stack([4 * X, 5 * Y, X + 2 * Y], axis=-1).astype(np.uint8)  # [H, W, 3]
GREY = RGB[..., 0]


@pytest.fixture(scope="module")
def predictor(exported):
    return Predictor(exported / "inference.onnx", batch_size=4)


def turned() -> Image.Exif:
    """Says that the stored pixels lie on their side; writing an AVIF empties it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def stored() -> dict[str, bytes]:
    """Files of many kinds: what a decoder must do about each differs."""
    rgb, grey = Image.fromarray(RGB), Image.fromarray(GREY)
    alpha = Image.fromarray(255 - GREY)
    transparency = bytes(range(60, 90))
    return {
        "turned.jpg": saved(rgb, "JPEG", exif=turned()),
        "turned.png": saved(rgb, "PNG", exif=turned()),
        "turned.tif": saved(rgb, "TIFF", exif=turned()),
        "turned.webp": saved(rgb, "WEBP", exif=turned()),
        "cmyk.jpe": saved(rgb.convert("CMYK"), "JPEG"),
        "grey.jfif": saved(grey, "JPEG"),
        "deep.png": saved(Image.fromarray(np.uint16(1000 * X)), "PNG"),
        "deep.tif": saved(Image.fromarray(np.uint16(60 * X)), "TIFF"),
        "palette.png": saved(rgb.quantize(30), "PNG", transparency=transparency),
        "alpha.png": saved(Image.merge("RGBA", [*rgb.split(), alpha]), "PNG"),
        "grey_alpha.png": saved(Image.merge("LA", [grey, alpha]), "PNG"),
        "bits.png": saved(grey.convert("1"), "PNG"),
        "moving.gif": saved(rgb, "GIF", save_all=True, append_images=[grey.convert("RGB")]),
        "a.bmp": saved(rgb, "BMP"),
        "a.jp2": saved(rgb, "JPEG2000"),
        "turned.avif": saved(rgb, "AVIF", exif=turned()),
    }


def heic() -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif", reason="needs requirements-heif.txt")
    pillow_heif.register_heif_opener()
    return saved(Image.fromarray(RGB), "HEIF", quality=90)


@pytest.mark.parametrize("name", stored())
def test_a_file_its_bytes_and_its_image_are_the_same_picture(predictor, tmp_path, name):
    data = stored()[name]
    path = tmp_path / name
    path.write_bytes(data)
    (expected,) = predictor(path, topk=10)
    loaded = Image.open(path)
    loaded.load()
    with path.open("rb") as file:
        ways = [str(path), data, bytearray(data), memoryview(data), io.BytesIO(data), file,
                Image.open(path), loaded, np.asarray(load_image(path))]  # fmt: skip
        for way in ways:
            assert predictor(way, topk=10) == [expected], type(way)
    assert predictor([path, data, Image.open(path)], topk=10) == [expected] * 3


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
def test_an_image_is_turned_upright_as_pillow_does_it_and_stays_as_it_was(kind):
    data = saved(Image.fromarray(RGB), kind, exif=turned())
    image = Image.open(io.BytesIO(data))
    (upright,) = pictures(image, "RGB")
    oracle = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert upright.size == (48, 64)
    assert np.array_equal(np.asarray(upright), np.asarray(oracle))
    again = Image.open(io.BytesIO(data))
    again.load()
    assert np.array_equal(np.asarray(image), np.asarray(again)) and image.info == again.info


def test_a_callers_transparency_survives_and_nothing_is_warned_of():
    data = saved(Image.fromarray(RGB).quantize(30), "PNG", transparency=bytes(range(30)))
    image = Image.open(io.BytesIO(data))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        upright_rgb(image)
    assert image.info["transparency"] == bytes(range(30))


def test_arrays_and_tensors_mean_their_picture(predictor):
    (expected,) = predictor(Image.fromarray(RGB), topk=10)
    alpha = np.concatenate([RGB, GREY[..., None]], axis=2)
    tensor = paddle.to_tensor(RGB)
    needs_grad = paddle.to_tensor(RGB)
    needs_grad.stop_gradient = False
    for given in (
        RGB, RGB.transpose(2, 0, 1), RGB.transpose(2, 0, 1).copy(), alpha, alpha.transpose(2, 0, 1),
        tensor, tensor.transpose([2, 0, 1]), needs_grad, RGB[None], tensor[None], [RGB],
        RGB.astype(np.uint16) * 256, RGB.astype(">u2") * 256, np.asfortranarray(RGB),
    ):  # fmt: skip
        assert predictor(given, topk=10) == [expected]
    bgr = np.ascontiguousarray(RGB[..., ::-1])
    assert predictor(bgr, topk=10) != [expected]
    assert predictor(bgr, topk=10, channel_order="BGR") == [expected]
    bgra = np.concatenate([bgr, GREY[..., None]], axis=2)
    assert predictor(bgra, topk=10, channel_order="BGR") == [expected]
    (expected,) = predictor(Image.fromarray(GREY), topk=10)
    for given in (GREY, GREY[..., None], GREY[None], np.uint16(GREY) * 256, [GREY]):
        assert predictor(given, topk=10, channel_order="BGR") == [expected]


class Torch:
    """What the Predictor needs of a torch tensor: it refuses numpy until detached and fetched."""

    def __init__(self, array, ready=0):
        self.array, self.ready = array, ready

    def detach(self):
        return Torch(self.array, self.ready | 1)

    def cpu(self):
        return Torch(self.array, self.ready | 2)

    def __array__(self, dtype=None, copy=None):
        assert self.ready == 3
        return self.array


def test_a_tensor_on_a_gpu_and_in_a_graph_is_fetched(predictor):
    assert predictor(Torch(RGB.transpose(2, 0, 1))) == predictor(RGB)
    assert predictor([Torch(RGB)]) == predictor(RGB)


@pytest.mark.parametrize("array", [np.float32(RGB), np.uint16(RGB)], ids=["floats", "pixels"])
def test_a_tensor_of_bfloat16_is_refused(predictor, array):
    """Paddle's `numpy()` of it is uint16: bits of floats, which would pass for 16-bit pixels."""
    tensor = paddle.to_tensor(array).astype("bfloat16")
    assert tensor.numpy().dtype == np.uint16
    for given in (tensor, [tensor], tensor[None]):
        with pytest.raises(UserError, match=r"(?s)Tensor of bfloat16 \[.*if it has 16-bit pixels"):
            predictor(given)


def test_any_iterable_is_read_in_its_order_and_not_ahead(predictor, tmp_path):
    files = []
    for number in range(10):
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(np.roll(RGB, 7 * number, axis=1) // (1 + number)).save(files[-1])
    expected = [predictor(file)[0] for file in files]
    assert len({ranking[0].prob for ranking in expected}) == 10
    asked: list[int] = []

    def lazily():
        for number, file in enumerate(files):
            asked.append(number)
            yield file

    generator = pictures(lazily(), "RGB")
    next(generator)
    assert asked == [0]
    some_set = set(files)
    for given, order in (
        (lazily(), files), (iter(files), files), (tuple(files), files), (map(str, files), files),
        (dict.fromkeys(files).keys(), files), (some_set, list(some_set)),
        (np.array([str(file) for file in files]), files),
        (np.stack([np.asarray(load_image(file)) for file in files]), files),
    ):  # fmt: skip
        assert predictor(given) == [expected[files.index(file)] for file in order]
    assert predictor([]) == predictor(iter(())) == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (3, "image 1 is int 3"),
        (None, "image 1 is NoneType"),
        ([RGB, 3], "image 2 is int"),
        ([[1, 2], [3, 4]], "image 1 is list"),
        (b"\x03", "image 1: is not an image"),
        (b"", "image 1: is empty"),
        (io.StringIO("x"), "opened as text"),
        (RGB / 255, "float64.*allowed: a path"),
        (RGB.astype("float32").transpose(2, 0, 1)[None], r"image 1 is an array of float32 \[3,"),
        (RGB.astype(int), "int64"),
        (RGB > 3, "bool"),
        (RGB[:, :, :2], r"\[48, 64, 2\]"),
        (RGB[:0], r"\[0, 64, 3\]"),
        (np.zeros(5, np.uint8), r"\[5\]"),
        (np.zeros((2, 2, 8, 8, 3), np.uint8), r"\[2, 2, 8, 8, 3\]"),
        ("https://example.org/cat.jpg", "is an address.*curl -fLO https://example.org/cat.jpg"),
        (Path("https://example.org/cat.jpg"), "curl -fLO https://example.org/cat.jpg"),
        ("s3://bucket/cat.jpg", "is an address"),
        ("data:image/png;base64,AAAA", "No such file"),
        ("no_such_file.jpg", "no_such_file.jpg: No such file"),
        (Image.new("F", (4, 4)), "image 1: cannot be decoded: floating-point"),
        ({"a": RGB}, "in a dict"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_picture_is_named_and_what_is_allowed(predictor, given, told):
    with pytest.raises(UserError, match=told):
        predictor(given)


def test_wrong_arguments_are_named(predictor):
    with pytest.raises(UserError, match="channel_order is 'rgb'"):
        predictor(RGB, channel_order="rgb")
    with pytest.raises(UserError, match="topk is 0"):
        predictor(RGB, topk=0)


def test_a_number_never_closes_somebody_elses_file(predictor):
    with open(__file__, "rb") as file:
        with pytest.raises(UserError):
            predictor([file.fileno()])
        assert file.read(3) == b'"""'


def test_an_address_on_the_command_line_gets_the_command_that_fetches_it():
    with pytest.raises(UserError, match="address") as caught:
        find_images("http://example.org/a b.jpg")
    assert caught.value.hint == "curl -fLO 'http://example.org/a b.jpg'"


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "array"])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_bits_that_are_not_in_use_do_not_darken_a_picture(kind, bits):
    """A camera of 12 bits writes files of 16; nothing in them says so."""
    values = (X * ((1 << bits) - 1) // 63).astype(np.uint16)
    given = values if kind == "array" else saved(Image.fromarray(values), kind)
    (image,) = pictures(given, "RGB")
    assert np.array_equal(np.asarray(image)[..., 0], X * ((1 << bits) - 1) // 63 >> (bits - 8))


def png_of_16_bit_colours(values: np.ndarray) -> bytes:
    """uint16 [H, W, 3] -> a PNG, which Pillow cannot write (W3C PNG, 11.2)."""
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return len(data).to_bytes(4, "big") + checked + zlib.crc32(checked).to_bytes(4, "big")

    height, width, _ = values.shape
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([16, 2, 0, 0, 0])
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_colours_of_16_bits_are_read_and_refused_where_8_bits_would_be_black():
    wide = RGB.astype(np.uint16) * 256 + 99
    assert np.array_equal(np.asarray(load_image(png_of_16_bit_colours(wide))), RGB)
    for way in (lambda data: data, lambda data: Image.open(io.BytesIO(data))):
        with pytest.raises(ImageError, match="lower 12 bits"):
            list(pictures(way(png_of_16_bit_colours(wide >> 4)), "RGB"))
    assert (
        np.asarray(load_image(saved(Image.new("RGB", (4, 4)), "PNG"))).max() == 0
    )  # black is fine


def test_every_reader_sees_the_same_pixels(predictor, tmp_path):
    """The training reader, the Predictor and the server, in every format."""
    from ppcls_lite.serving.compute import decode

    spec = predictor.info.preprocess
    side = spec.crop_size
    files = stored() | ({"a.heic": heic()} if find_spec("pillow_heif") else {})
    for name, data in files.items():
        path = tmp_path / name
        path.write_bytes(data)
        expected = spec.pixels(load_image(path))
        trained = np.empty((1, side, side, 3), np.uint8)
        assert decode_into(trained, spec, "exact", 0, 0, [Sample(0, 0, str(path))]) == {}
        assert np.array_equal(trained[0], expected), name
        assert np.array_equal(spec.pixels(open_image(data)), expected), name
        assert np.array_equal(decode(data, predictor, 40), expected), name
    assert [path.name for path in find_images(str(tmp_path))] == sorted(files)


def test_heic_has_the_picture_and_without_its_package_the_command_is_told(tmp_path, monkeypatch):
    data = heic()
    difference = np.abs(np.asarray(load_image(data)).astype(int) - RGB)
    assert difference.mean() < 4  # lossy
    (tmp_path / "a.heic").write_bytes(data)
    code = (
        "import sys, importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'pillow_heif' else find(name, *a)\n"
        "from ppcls_lite.data.decode import load_image; load_image(sys.argv[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.heic"], cwd=ROOT, capture_output=True, text=True
    )
    assert "needs a package: pip install -r requirements-heif.txt" in done.stderr


def test_pillows_limit_can_be_moved(tmp_path):
    """In a process of its own, as it changes the whole process."""
    Image.new("1", (3000, 2000)).save(tmp_path / "large.png")
    code = (
        "import sys, warnings; warnings.simplefilter('error')\n"
        "from ppcls_lite.data.decode import allow_megapixels, load_image\n"
        "allow_megapixels(5.9)\n"
        "try: load_image(sys.argv[1])\n"
        "except Exception as error: print(error)\n"
        "allow_megapixels(6)\n"
        "print(load_image(sys.argv[1]).size)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "large.png"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    refused, act, size = done.stdout.splitlines()
    assert act.startswith("  next: ")
    assert "too many pixels" in refused and "--max-megapixels" in refused and size == "(3000, 2000)"


@pytest.mark.parametrize(("limit", "status"), [(5.9, 1), (6, 0)])
def test_the_flag_for_large_pictures_reaches_the_decoding_processes(tmp_path, limit, status):
    for split, side in (("train", 3000), ("val", 30)):
        (tmp_path / split / "cat").mkdir(parents=True)
        Image.new("1", (side, 2000)).save(tmp_path / split / "cat" / "a.png")
    flags = ("--workers=1", f"--max-megapixels={limit}")
    done = run_tool("tools/check_data.py", f"--data-path={tmp_path}", *flags)
    assert done.returncode == status and ("too many pixels" in done.stdout) == bool(status)
    assert done.stderr == ""


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_file_with_a_fixed_batch_takes_any_number_of_pictures(exported, tmp_path, engine):
    if find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed")
    images = np.random.RandomState(0).rand(7, 3, 64, 64).astype(np.float32)
    expected = Predictor(exported / "inference.onnx").probabilities(images)
    for size in (1, 4, 7, 9):
        model = onnx.load(exported / "inference.onnx")
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = size
        onnx.save(model, tmp_path / "inference.onnx")
        fixed = Predictor(tmp_path / "inference.onnx", engine)
        assert fixed._run.batch == size
        for count in (1, 4, 7):
            answer = fixed.probabilities(images[:count])
            # another batch size, another engine: another order of the sums
            np.testing.assert_allclose(answer, expected[:count], atol=1e-5)


# Exported by somebody else, with the batch size in the graph: Paddle writes .pdmodel without PIR.
FIXED = """
import sys, paddle
class Net(paddle.nn.Layer):
    def __init__(self):
        super().__init__()
        self.conv = paddle.nn.Conv2D(3, 4, 3, stride=8)
        self.pool = paddle.nn.AdaptiveAvgPool2D(1)
        self.last = paddle.nn.Linear(4, 5)
    def forward(self, x):
        return self.last(paddle.reshape(self.pool(self.conv(x)), [self.size, 4]))
paddle.seed(0)
net = Net()
net.eval()
for size in (1, 4, -1):
    net.size = size
    spec = paddle.static.InputSpec([size, 3, 224, 224], "float32", name="x")
    paddle.jit.save(net, f"{sys.argv[1]}/fixed{size}/inference", input_spec=[spec])
"""


def test_a_pdmodel_with_a_fixed_batch_takes_any_number_of_pictures(tmp_path):
    env = os.environ | {"FLAGS_enable_pir_api": "0"}
    (tmp_path / "export.py").write_text(FIXED)  # Paddle reads the source of what it exports
    subprocess.run([sys.executable, tmp_path / "export.py", tmp_path], env=env, check=True)
    images = np.random.RandomState(0).rand(7, 3, 224, 224).astype(np.float32)
    whole = Predictor(tmp_path / "fixed-1/inference.pdmodel", "paddle_inference")
    assert whole._run.batch is None
    expected = whole.raw(images)
    assert expected.shape == (7, 5) and len(np.unique(expected)) == 35
    for size in (1, 4):
        fixed = Predictor(tmp_path / f"fixed{size}/inference.pdmodel", "paddle_inference")
        assert fixed._run.batch == size
        for count in (1, 4, 7):
            np.testing.assert_allclose(fixed.raw(images[:count]), expected[:count], atol=1e-5)


def test_threads_may_share_one_image_that_pillow_has_not_decoded_yet(predictor):
    data = saved(Image.fromarray(np.tile(RGB, (6, 6, 1))), "PNG")
    (expected,) = predictor(data)
    with ThreadPoolExecutor(16) as pool:
        for _ in range(10):
            image, begin = Image.open(io.BytesIO(data)), threading.Barrier(16)

            def ask(_: int, image=image, begin=begin):
                begin.wait(60)
                return predictor(image)

            assert list(pool.map(ask, range(16))) == [[expected]] * 16
