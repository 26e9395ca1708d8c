"""Augmentation policies and random erasing against torchvision (golden/make_augment_golden.py)."""

import hashlib
import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden.data_images import StreamDraws, make_image
from PIL import Image

from ppcls_lite import cli
from ppcls_lite.config import TrainConfig
from ppcls_lite.data.augment import CHOICES
from ppcls_lite.data.policies import POLICIES, Policy
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.data.transforms import TrainTransform, random_erase, sample_rng
from ppcls_lite.flags import flags

GOLDEN: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parent / "golden" / "augment_golden.json").read_text()
)


class GivenDraws:
    """Stands in for np.random.Generator with numbers that are given in turn."""

    def __init__(self, integers: Iterable[int], uniforms: Iterable[float] = ()) -> None:
        self.queue, self.uniforms = iter(integers), iter(uniforms)

    def integers(self, high: int) -> int:
        drawn = next(self.queue)
        assert 0 <= drawn < high
        return drawn

    def random(self) -> float:
        return next(self.uniforms)


def fingerprint(images: Iterable[Image.Image]) -> str:
    pixels = np.stack([np.asarray(image) for image in images])
    return hashlib.sha256(pixels.tobytes()).hexdigest()[:12]


@pytest.mark.parametrize("policy", ["imagenet", "cifar10", "svhn"])
def test_each_sub_policy_gives_torchvisions_pixels_for_the_same_draws(policy: str) -> None:
    assert {case["row"] for case in GOLDEN[policy]} == set(range(25))
    for case in GOLDEN[policy]:
        signs = itertools.repeat(int(case["negative"]))
        rng = GivenDraws(itertools.chain([case["row"]], signs), case["draws"])
        image = Policy(policy)(make_image(*case["size"], seed=case["row"]), rng)
        assert fingerprint([image]) == case["sha256"], case


def test_ra_gives_torchvisions_pixels_for_the_same_draws() -> None:
    for case in GOLDEN["ra"]:
        first, then = (CHOICES.index(name) for name in case["operations"])
        image = make_image(*case["size"], seed=4)
        has_sign = case["operations"][0] in CHOICES[1:10]  # from shear_x to sharpness
        images = [
            Policy("ra")(image, GivenDraws([first, *([sign] if has_sign else []), then]))
            for sign in (0, 1)
        ]
        assert fingerprint(images) == case["sha256"], case


def test_ta_wide_gives_torchvisions_pixels_at_every_level() -> None:
    for case in GOLDEN["ta_wide"]:
        image, choice = make_image(*case["size"], seed=3), CHOICES.index(case["operation"])
        for level, expected in enumerate(case["levels"]):
            images = [Policy("ta_wide")(image, GivenDraws([choice, level, s])) for s in (0, 1)]
            assert fingerprint(images) == expected, (case["operation"], level)


def test_every_operation_of_torchvision_is_a_choice_and_no_other() -> None:
    assert {case["operation"] for case in GOLDEN["ta_wide"]} == set(CHOICES)


@pytest.mark.parametrize("policy", POLICIES)
def test_policies_draw_every_choice_and_follow_the_generator_alone(policy: str) -> None:
    image = make_image(16, 16, seed=5)
    results = [
        [np.asarray(Policy(policy)(image, sample_rng(7, 0, i))).tobytes() for i in range(200)]
        for _ in range(2)
    ]
    assert results[0] == results[1]
    assert len(set(results[0])) > 14  # fewer would be a policy that hardly varies


def test_the_flag_offers_exactly_the_policies() -> None:
    assert flags(TrainConfig)["auto_augment"].choices == tuple(POLICIES)


def test_the_command_line_can_switch_a_recipes_policy_off(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("auto_augment: imagenet\n")
    argv = ["-c", str(recipe)]
    assert cli.parse(TrainConfig, argv, "train.py").auto_augment == "imagenet"
    assert cli.parse(TrainConfig, [*argv, "--auto-augment=none"], "x").auto_augment is None


def test_erased_rectangles_equal_torchvisions_for_the_same_draws() -> None:
    for case in GOLDEN["random_erase"]:
        width, height = case["size"]
        white = np.full((height, width, 3), 255, np.uint8)
        erased = random_erase(white, 0.6, StreamDraws(case["seed"])) != 255
        ys, xs = np.nonzero(erased.all(axis=2))
        box = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1] if len(xs) else []
        assert box == case["box"], case
        assert erased.sum() == 3 * len(xs) and (white == 255).all()
        if box:
            assert len(xs) == (box[2] - box[0]) * (box[3] - box[1])


def test_erased_pixels_are_torchvisions_0_but_for_half_a_grey_level() -> None:
    white = np.full((1, 32, 32, 3), 255, np.uint8)
    white[0] = random_erase(white[0], 1.0, sample_rng(1, 2, 3))
    values = Preprocess().normalize(white)
    erased = values[values < 1]
    assert len(erased) >= 3 * 0.02 * 32 * 32 / 2  # the smallest rectangle; half for its rounding
    half_level = 0.5 / 255 / min(Preprocess().std)
    assert np.abs(erased).max() <= half_level


def test_erasing_is_the_last_step_after_the_policy() -> None:
    image = make_image(40, 40, seed=6)
    results = [
        [TrainTransform(24, **options)(image, sample_rng(0, 0, i)) for i in range(50)]
        for options in (
            {},
            {"auto_augment": Policy("ra")},
            {"auto_augment": Policy("ra"), "erase_prob": 1.0},
        )
    ]
    changed = 0
    for plain, distorted, erased in zip(*results, strict=True):
        changed += (plain != distorted).any()
        different = (erased != distorted).any(axis=2)
        assert np.unique(erased[different], axis=0).tolist() == [[124, 116, 104]]
    assert changed > 30  # of 50; both operations are the identity for 1 picture of 196
