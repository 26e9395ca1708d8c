"""Writes augment_golden.json: what torchvision's policies make of pictures the tests make again.

    ATEN_CPU_CAPABILITY=default python tests/golden/make_augment_golden.py

Needs torch and torchvision (made with 2.13.0 and 0.28.0, Pillow 13.0.0); not run by the tests.
Without that variable torch.linspace, and with it torchvision's pixels, depend on the processor.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from data_images import make_image
from make_data_golden import feed_draws, sha256  # first: makes torchvision importable
from PIL import Image
from torchvision import transforms as T

SIZES = [(64, 48), (37, 53)]
DIGITS = 12  # of the hashes; 48 bits tell a few thousand of them apart
# Our names in the order of torchvision, which has Invert in no policy but AutoAugment's.
NAMES = [
    "identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "color",
    "contrast", "sharpness", "posterize", "solarize", "autocontrast", "equalize",
]  # fmt: skip


def fingerprint(images: Iterable[Image.Image]) -> str:
    return sha256(np.stack([np.asarray(image) for image in images]))[:DIGITS]


def with_draws(transform: Callable[[Any], Any], image: Any, draws: Iterable[int]) -> Any:
    """Applies a transform whose random integers are `draws`, in turn."""
    queue, original = iter(draws), torch.randint
    torch.randint = lambda *args, **kwargs: torch.tensor([next(queue)])
    try:
        return transform(image)
    finally:
        torch.randint = original


def ta_wide_cases() -> list[dict[str, Any]]:
    """Every operation at all 31 levels, each in both directions."""
    cases = []
    transform = T.TrivialAugmentWide()
    space = list(transform._augmentation_space(31).values())
    for size in SIZES:
        image = make_image(*size, seed=3)
        for index, name in enumerate(NAMES):
            has_levels = space[index][0].ndim > 0
            hashes = []
            for level in range(31) if has_levels else [0]:
                draws = [index, *([level] if has_levels else [])]
                pair = [with_draws(transform, image, [*draws, sign]) for sign in (0, 1)]
                hashes.append(fingerprint(pair))
            cases.append({"size": size, "operation": name, "levels": hashes})
    return cases


def ra_cases() -> list[dict[str, Any]]:
    """Every operation in both directions, followed by one that has none."""
    cases = []
    transform, then = T.RandAugment(), "autocontrast"
    for size in SIZES:
        image = make_image(*size, seed=4)
        space = list(transform._augmentation_space(31, size).values())
        for index, name in enumerate(NAMES):
            signs = [[0], [1]] if space[index][1] else [[], []]
            pair = [
                with_draws(transform, image, [index, *sign, NAMES.index(then)]) for sign in signs
            ]
            case = {"size": size, "operations": [name, then], "sha256": fingerprint(pair)}
            cases.append(case)
    return cases


def auto_augment_cases(policy: T.AutoAugmentPolicy) -> list[dict[str, Any]]:
    """Every sub-policy: first operation alone, second alone, both.

    The drawn numbers are so close to the table's probabilities that these are checked, too.
    """
    cases = []
    transform = T.AutoAugment(policy)
    for row, ((_, first, _), (_, second, _)) in enumerate(transform.policies):
        for a, b, negative in ((-1, 1, True), (1, -1, True), (-1, -1, False)):
            draws = [round(first + 0.05 * a, 2), round(second + 0.05 * b, 2)]
            params = (row, torch.tensor(draws), torch.tensor([not negative] * 2))
            transform.get_params = lambda _, params=params: params
            size = SIZES[row % 2]
            result = fingerprint([transform(make_image(*size, seed=row))])
            case = {"size": size, "row": row, "draws": draws, "negative": negative}
            cases.append({**case, "sha256": result})
    return cases


def erase_cases() -> list[dict[str, Any]]:
    """Where RandomErasing leaves zeros in a tensor of ones: (left, top, right, bottom)."""
    cases = []
    for size in [(224, 224), (48, 31), (9, 60), (3, 200), (2, 2)]:
        for seed in range(6):
            feed_draws(seed)
            erased = T.RandomErasing(0.6)(torch.ones(3, size[1], size[0]))[0] == 0
            ys, xs = torch.nonzero(erased, as_tuple=True)
            box = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1] if len(xs) else []
            cases.append({"size": size, "seed": seed, "box": [int(value) for value in box]})
    return cases


def main() -> None:
    if torch.backends.cpu.get_cpu_capability() != "DEFAULT":
        raise SystemExit("set ATEN_CPU_CAPABILITY=default; see the top of this file")
    golden = {
        **{p.value: auto_augment_cases(p) for p in T.AutoAugmentPolicy},
        "ra": ra_cases(),
        "ta_wide": ta_wide_cases(),
        "random_erase": erase_cases(),  # last: feed_draws changes torch for good
    }
    parts = []
    for key, cases in golden.items():
        rows = ",\n  ".join(json.dumps(case) for case in cases)
        parts.append(f'"{key}": [\n  {rows}\n]')
    file = Path(__file__).with_name("augment_golden.json")
    file.write_text("{\n" + ",\n".join(parts) + "\n}\n")


if __name__ == "__main__":
    main()
