"""Writes augment_golden.json: what torchvision's policies make of pictures the tests make again.

    ATEN_CPU_CAPABILITY=default python tests/golden/make_augment_golden.py

Needs torch, torchvision and timm (made with 2.13.0, 0.28.0, 1.0.31, Pillow 13.0.0); not run by the
tests.
Without that variable torch.linspace, and with it torchvision's pixels, depend on the processor.
"""

import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from data_images import make_image, uniform_stream
from make_data_golden import feed_draws, sha256  # first: makes torchvision importable
from PIL import Image
from timm.data.auto_augment import AugmentOp, rand_augment_choices
from timm.data.random_erasing import RandomErasing
from torchvision import transforms as T
from torchvision.transforms import autoaugment
from torchvision.transforms import functional as F

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


def ta_wide_cases(
    filter_name: str = "nearest", levels: Iterable[int] = range(31)
) -> list[dict[str, Any]]:
    """Every operation at these of the 31 levels, each in both directions."""
    cases = []
    transform = T.TrivialAugmentWide(interpolation=T.InterpolationMode(filter_name))
    space = list(transform._augmentation_space(31).values())
    for size in SIZES:
        image = make_image(*size, seed=3)
        for index, name in enumerate(NAMES):
            has_levels = space[index][0].ndim > 0
            hashes = []
            for level in levels if has_levels else [0]:
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


def timm_cases() -> list[dict[str, Any]]:
    """Every operation of timm's RandAugment at four levels, each in both directions."""
    cases = []
    hparams = {"img_mean": (124, 116, 104), "interpolation": Image.Resampling.BICUBIC}
    names = rand_augment_choices("rand", increasing=False)
    for size in SIZES:
        image = make_image(*size, seed=7)
        for index, name in enumerate(names):
            hashes = []
            for level in (2.5, 3.7, 9, 10):
                operation = AugmentOp(name, prob=1.0, magnitude=level, hparams=hparams)
                pair = []
                for draw in (0.4, 0.6):  # timm turns the sign above a half
                    random.random = lambda draw=draw: draw
                    pair.append(operation(image))
                hashes.append(fingerprint(pair))
            cases.append({"size": size, "index": index, "operation": name, "levels": hashes})
    return cases


def augmix_cases() -> list[dict[str, Any]]:
    """torchvision's draws, ranges and sums around PIL's operations, as in the paper's code."""
    cases, draws = [], np.random.RandomState(8)
    through_tensor = autoaugment._apply_op

    def through_pil(image: torch.Tensor, name: str, *args: Any, **kwargs: Any) -> torch.Tensor:
        if name == "Posterize":  # exact in both, and Pillow refuses to keep 0 bits
            return through_tensor(image, name, *args, **kwargs)
        picture = F.to_pil_image(image[0])
        return F.pil_to_tensor(through_tensor(picture, name, *args, **kwargs))[None]

    autoaugment._apply_op = through_pil
    for case in range(40):
        size, severity = SIZES[case % 2], (3, 10)[case % 3 == 0]
        transform = T.AugMix(severity=severity)
        shares = [draws.dirichlet([1] * n).astype(np.float32).tolist() for n in (2, 3)]
        given = iter(torch.tensor([s]) for s in shares)
        transform._sample_dirichlet = lambda params, given=given: next(given)
        integers: list[int] = []

        def randint(
            high: int, size: Any, low: int = 0, dtype: Any = None, drawn: list[int] = integers
        ) -> torch.Tensor:
            drawn.append(int(draws.randint(low, high)))
            return torch.tensor(drawn[-1])

        original, torch.randint = torch.randint, randint
        result = fingerprint([transform(make_image(*size, seed=case))])
        torch.randint = original
        row = {"size": size, "severity": severity, "shares": shares, "integers": integers}
        cases.append({**row, "sha256": result})
    autoaugment._apply_op = through_tensor
    return cases


def jitter_cases() -> list[dict[str, Any]]:
    cases, draws = [], np.random.RandomState(9)
    for case in range(24):
        order = [int(i) for i in draws.permutation(4)]
        factors = [*draws.uniform(0.4, 1.6, 3).tolist(), float(draws.uniform(-0.5, 0.5))]
        transform = T.ColorJitter(0.6, 0.6, 0.6, 0.5)
        params = (torch.tensor(order), *factors)
        transform.get_params = lambda *_, params=params: params
        size = SIZES[case % 2]
        result = fingerprint([transform(make_image(*size, seed=case))])
        cases.append({"size": size, "order": order, "factors": factors, "sha256": result})
    return cases


def timm_erase_cases() -> list[dict[str, Any]]:
    """Where timm's RandomErasing puts its noise, here the number 7."""
    cases = []
    torch.Tensor.normal_ = lambda self: self.fill_(7)
    for size in [(224, 224), (48, 31), (9, 60)]:
        for seed in range(8):
            draws = uniform_stream(seed)
            random.random = lambda draws=draws: next(draws)
            random.uniform = lambda low, high, draws=draws: low + (high - low) * next(draws)
            random.randint = lambda low, high, draws=draws: (
                low + int(next(draws) * (high + 1 - low))
            )
            erase = RandomErasing(0.6, mode="pixel", device="cpu")
            erased = erase(torch.zeros(3, size[1], size[0]))[0] == 7
            ys, xs = torch.nonzero(erased, as_tuple=True)
            box = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1] if len(xs) else []
            cases.append({"size": size, "seed": seed, "box": [int(value) for value in box]})
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
        "ta_wide_bilinear": ta_wide_cases("bilinear", (1, 16, 30)),
        "ra_timm": timm_cases(),
        "augmix": augmix_cases(),
        "color_jitter": jitter_cases(),
        # Last: these two change torch and random for good.
        "random_erase": erase_cases(),
        "random_erase_timm": timm_erase_cases(),
    }
    parts = []
    for key, cases in golden.items():
        rows = ",\n  ".join(json.dumps(case) for case in cases)
        parts.append(f'"{key}": [\n  {rows}\n]')
    file = Path(__file__).with_name("augment_golden.json")
    file.write_text("{\n" + ",\n".join(parts) + "\n}\n")


if __name__ == "__main__":
    main()
