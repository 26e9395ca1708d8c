"""`data show`: a sheet of training pictures as the network gets them."""

import dataclasses
import math
import secrets
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ppcls_lite.data.mixing import prepare
from ppcls_lite.data.named import open_train
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.data.recipe import train_loader
from ppcls_lite.data.settings import ShowAugmentConfig
from ppcls_lite.data.unlabelled import WithUnlabelled
from ppcls_lite.data.watch import Watch
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.weights.find import find_weights

COLUMNS = 8
GAP = 8  # pixels between two pictures
LINE = 14  # height of a line of text, pixels
LARGEST = 2  # classes named below a picture


def run(config: ShowAugmentConfig) -> int:
    """Draws the first batch of epoch --start-epoch; returns the exit status."""
    data = open_train(config)
    config, preprocess = as_trained(config)
    info = ModelInfo(config.model, len(data.classes), {}, tuple(data.classes), preprocess)
    if config.unlabelled_path:
        data = WithUnlabelled(data, config.unlabelled_path)
    seed = secrets.randbelow(2**31) if config.seed is None else config.seed
    watch = Watch(config.picture_timeout)
    loader = train_loader(data, config, preprocess, seed, watch=watch)
    batch = next(loader.epoch(config.start_epoch))
    loader.close()
    images, targets, mix = prepare(
        batch.images, batch.labels, preprocess, info.num_classes, config,
        (seed, config.start_epoch, 0, 0),
    )  # fmt: skip
    count = min(config.pictures, len(images))
    pixels = denormalized(images[:count], preprocess)
    sheet(pixels, [captions(row, info) for row in targets[:count]]).save(config.out)
    how = dataclasses.asdict(mix) if mix.share < 1 else "not mixed"
    print(f"wrote {config.out}: {count} of {len(images)} images, seed {seed}, {how}")
    print(f"next: look at {Path(config.out).resolve()}")
    return 0


def as_trained(config: ShowAugmentConfig) -> tuple[ShowAugmentConfig, Preprocess]:
    """Returns the settings with the interpolation of --pretrained, where no other is asked for, and
    mean and std likewise."""
    start = Preprocess()
    if config.pretrained:
        asked = config.model if config.given("model") else None
        start = find_weights(config.pretrained, asked).info.preprocess
        if not config.given("interpolation"):
            known: dict[str, Any] = {"interpolation": start.interpolation}
            config = dataclasses.replace(config, **known)
    return config, Preprocess(mean=config.mean or start.mean, std=config.std or start.std)


def denormalized(images: np.ndarray, preprocess: Preprocess) -> np.ndarray:
    """float32 [N, 3, H, W] -> the grey levels they stand for, uint8 [N, H, W, 3]."""
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (preprocess.mean, preprocess.std))
    levels = np.round((images * std + mean) * 255).clip(0, 255).astype(np.uint8)
    return levels.transpose(0, 2, 3, 1)


def captions(shares: np.ndarray, info: ModelInfo) -> list[str]:
    """Names the classes of a picture, the largest share first: float32 [K] -> lines."""
    order = np.argsort(-shares, kind="stable")[:LARGEST]
    lines = [f"{info.class_name(int(k))} {shares[k]:.2f}" for k in order if shares[k] > 0]
    return lines or ["no label"]


def sheet(pixels: np.ndarray, lines: list[list[str]]) -> Image.Image:
    """Puts pictures uint8 [N, H, W, 3] into a grid, each with its lines of text below."""
    count, height, width, _ = pixels.shape
    columns = min(count, COLUMNS)
    cell_width, cell_height = width + GAP, height + GAP + LARGEST * LINE
    rows = math.ceil(count / columns)
    page = Image.new("RGB", (columns * cell_width, rows * cell_height), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(LINE - 3)
    for i, (picture, text) in enumerate(zip(pixels, lines, strict=True)):
        left, top = i % columns * cell_width, i // columns * cell_height
        page.paste(Image.fromarray(picture), (left, top))
        for number, line in enumerate(text):
            draw.text((left, top + height + number * LINE), line, "black", font)
    return page
