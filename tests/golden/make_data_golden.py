"""Writes data_golden.json: what torchvision makes of pictures that the tests make again.

    python tests/golden/make_data_golden.py [PHOTOS]

Needs torch and torchvision (made with 2.13.0 and 0.28.0, Pillow 13.0.0); not run by the tests.
PHOTOS is a folder with the clothing10 pictures.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from data_images import make_image, uniform_stream
from PIL import Image

try:
    import torchvision  # noqa: F401
except RuntimeError:
    # A build without compiled operators does not even declare the two its import refers to.
    LIBRARY = torch.library.Library("torchvision", "DEF")
    LIBRARY.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    LIBRARY.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    for name in [name for name in sys.modules if name.startswith("torchvision")]:
        del sys.modules[name]
from torchvision import transforms as T

SIZES = [(500, 375), (375, 500), (57, 31), (31, 57), (64, 64), (333, 100), (9, 200)]
SPECS = [(256, 224), (232, 224), (20, 33), (33, 20), (64, 64)]  # (resize, crop)
INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PHOTOS = ["train/dress/dress_0000.jpg", "train/hat/hat_0003.jpg", "val/shoes/shoes_0001.jpg"]


def sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def pixels(image: Image.Image) -> dict[str, Any]:
    """A hash for equality, and a few pixels that show how far off a wrong result is."""
    array = np.asarray(image)
    h, w, _ = array.shape
    probes = [(0, 0), (h // 2, w // 2), (h // 3, w - 1), (h - 1, w // 4)]
    return {"sha256": sha256(array), "probes": [[y, x, array[y, x].tolist()] for y, x in probes]}


def evaluation(image: Image.Image, resize: int, crop: int, interpolation: str) -> Image.Image:
    mode = T.InterpolationMode(interpolation)
    return T.Compose([T.Resize(resize, mode), T.CenterCrop(crop)])(image)


def evaluation_cases() -> list[dict[str, Any]]:
    return [
        {
            "size": size,
            "spec": [*spec, interpolation],
            **pixels(evaluation(make_image(*size, seed=1), *spec, interpolation)),
        }
        for size in SIZES
        for spec in SPECS
        for interpolation in INTERPOLATIONS
    ]


def feed_draws(seed: int) -> None:
    """Lets torch draw its random numbers from our stream, in double precision."""
    draws = uniform_stream(seed)
    torch.set_default_dtype(torch.float64)

    def uniform_(self: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return self.fill_(float(low) + (float(high) - float(low)) * next(draws))

    torch.Tensor.uniform_ = uniform_
    torch.randint = lambda low, high, size: torch.tensor([low + int(next(draws) * (high - low))])
    torch.rand = lambda n: torch.tensor([next(draws)])


def crop_box_cases() -> list[dict[str, Any]]:
    cases = []
    # The narrow pictures and the scale above 1 reach each of the three fall-backs.
    for size, scale in [
        ((500, 375), (0.08, 1.0)),
        ((31, 57), (0.08, 1.0)),
        ((400, 10), (0.08, 1.0)),
        ((10, 400), (0.08, 1.0)),
        ((64, 64), (0.9, 1.0)),
        ((64, 60), (1.5, 2.0)),
    ]:
        for seed in range(8):
            feed_draws(seed)
            image = Image.new("RGB", size)
            top, left, h, w = T.RandomResizedCrop.get_params(image, scale, (3 / 4, 4 / 3))
            box = [left, top, left + w, top + h]
            cases.append({"size": size, "scale": scale, "seed": seed, "box": box})
    return cases


def training_cases() -> list[dict[str, Any]]:
    cases = []
    for size in SIZES:
        for seed, interpolation in enumerate(INTERPOLATIONS):
            feed_draws(seed)
            mode = T.InterpolationMode(interpolation)
            transform = T.Compose(
                [T.RandomResizedCrop(48, interpolation=mode), T.RandomHorizontalFlip()]
            )
            out = transform(make_image(*size, seed=2))
            case = {"size": size, "seed": seed, "interpolation": interpolation, **pixels(out)}
            cases.append(case)
    return cases


def normalize_case() -> dict[str, Any]:
    """All 256 values in all three channels."""
    image = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    out = T.Compose([T.ToTensor(), T.Normalize(MEAN, STD)])(Image.fromarray(image)).numpy()
    return {"sha256": sha256(out), "first": out[:, 0, 1].tolist()}


def photo_cases(folder: Path) -> list[dict[str, Any]]:
    cases = []
    for name in PHOTOS:
        image = Image.open(folder / name).convert("RGB")
        for spec in ((256, 224, "bilinear"), (232, 224, "bicubic")):
            cases.append({"file": name, "spec": spec, **pixels(evaluation(image, *spec))})
    return cases


def main() -> None:
    golden = {
        "evaluation": evaluation_cases(),
        "normalize": normalize_case(),  # before feed_draws changes the default dtype
        "crop_boxes": crop_box_cases(),
        "training": training_cases(),
        "photos": photo_cases(Path(sys.argv[1])) if len(sys.argv) > 1 else [],
    }
    lines = []
    for key, value in golden.items():
        cases = value if isinstance(value, list) else [value]
        rows = ",\n  ".join(json.dumps(case) for case in cases)
        lines.append(f'"{key}": [\n  {rows}\n]')
    file = Path(__file__).with_name("data_golden.json")
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
