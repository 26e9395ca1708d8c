"""A published MobileNetV3 on its way to int8: is a line of text upright or upside down?

PP-OCR's direction classifier (a MobileNetV3-small of 0.35 times the width, 48 x 192 pixels) lies as
an ONNX file in the package rapidocr-onnxruntime (Apache-2.0). Its pictures are not published; lines
are drawn here. The technique train is left out: it cannot train a max pooling, which no network of
the zoo has. `split` and `hswish` see nothing in its Add, Clip, Mul, Div.

    pip install --no-deps rapidocr-onnxruntime==1.4.0
    PYTHONPATH=. python tests/text_direction.py [accelerator|onnxruntime|openvino]
"""

import importlib.util
import math
import sys
import tempfile
from importlib import resources
from pathlib import Path

import numpy as np
import onnx
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from ppcls_lite.int8.qdq import float_graph
from ppcls_lite.quantize.job import Job
from ppcls_lite.quantize.recipe import logits
from ppcls_lite.quantize.table import HEADING, compare, line
from ppcls_lite.quantize.targets import TARGETS

PACKAGE = "rapidocr_onnxruntime"
HEIGHT, WIDTH = 48, 192  # of its input
LOGITS = "linear_1.tmp_1"  # what its softmax reads


def network(folder):
    """The float graph up to its logits, one picture at a time."""
    package = Path(importlib.util.find_spec(PACKAGE).origin).parent
    model = onnx.load(package / "models" / "ch_ppocr_mobile_v2.0_cls_infer.onnx")
    del model.graph.node[-2:]  # softmax and a copy of it
    model.graph.output[0].name = LOGITS
    sizes = model.graph.input[0].type.tensor_type.shape.dim
    for dim, size in zip(sizes, (1, 3, HEIGHT, WIDTH), strict=True):
        dim.dim_value = size
    path = Path(folder) / "direction.onnx"
    onnx.save(model, path)
    return float_graph(path)


def drawn(rng):
    """A line of text as a detector would cut it out, uint8 [H, W, 3]; and 1 if upside down."""
    names = resources.files("ppcls_lite.data").joinpath("imagenet_labels.txt").read_text("utf-8")
    text = str(rng.choice(names.splitlines()))
    font = ImageFont.load_default(int(rng.integers(18, 40)))
    left, top, right, bottom = (int(side) for side in font.getbbox(text))
    margin = [int(rng.integers(2, 10)) for _ in range(2)]
    paper, ink = rng.integers(150, 256, 3), rng.integers(0, 110, 3)
    if rng.random() < 0.3:
        paper, ink = ink, paper
    size = (right - left + 2 * margin[0], bottom - top + 2 * margin[1])
    image = Image.new("RGB", size, tuple(paper.tolist()))
    ImageDraw.Draw(image).text((margin[0] - left, margin[1] - top), text, tuple(ink.tolist()), font)
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.5)))
    noise = rng.normal(0, rng.uniform(0, 15), (image.height, image.width, 3))
    pixels = np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)
    upside_down = int(rng.random() < 0.5)
    return (pixels[::-1, ::-1] if upside_down else pixels), upside_down


def as_input(pixels):
    """PP-OCR's preprocessing: 48 pixels high, zeros on the right, BGR, from -1 to 1."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    width = min(WIDTH, math.ceil(HEIGHT * image.width / image.height))
    image = image.resize((width, HEIGHT), Image.Resampling.BILINEAR)
    values = np.asarray(image, np.float32)[..., ::-1]
    padded = np.zeros((1, 3, HEIGHT, WIDTH), np.float32)
    padded[0, :, :, :width] = values.transpose(2, 0, 1) / 127.5 - 1
    return padded


def lines(count, seed):
    """Inputs, float32 [1, 3, 48, 192] each, and labels, int64 [count]."""
    rng = np.random.default_rng(seed)
    pictures, labels = zip(*(drawn(rng) for _ in range(count)), strict=True)
    return [as_input(pixels) for pixels in pictures], np.array(labels)


def job(folder, count=300):
    """100 lines to calibrate with, `count` to measure on, as many to choose by."""
    graph = network(folder)
    (calibration, _), (pictures, labels), (others, _) = (
        lines(number, seed) for seed, number in enumerate((100, count, count))
    )
    reference, others_reference = logits(graph, pictures), logits(graph, others)
    return Job(
        graph, None, calibration, pictures, labels, reference, others, others_reference, (), 0
    )


if __name__ == "__main__":
    target = TARGETS[sys.argv[1] if len(sys.argv) > 1 else "accelerator"]
    with tempfile.TemporaryDirectory() as scratch:
        print(HEADING)
        for row in compare(job(scratch), target.recipe):
            print(line(row), flush=True)
