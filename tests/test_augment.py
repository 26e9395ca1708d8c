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
from ppcls_lite.data.augment import CHOICES, Motion
from ppcls_lite.data.policies import POLICIES, TIMM_CHOICES, Policy, color_jitter
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.data.transforms import TrainTransform, random_erase, sample_rng
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.flags import flags

GOLDEN: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parent / "golden" / "augment_golden.json").read_text()
)


class GivenDraws:
    """Stands in for np.random.Generator with numbers that are given in turn."""

    def __init__(
        self, integers: Iterable[int], uniforms: Iterable[float] = (), arrays: Iterable[Any] = ()
    ) -> None:
        self.queue, self.uniforms, self.arrays = iter(integers), iter(uniforms), iter(arrays)

    def integers(self, low: int, high: int | None = None) -> int:
        low, high = (0, low) if high is None else (low, high)
        drawn = next(self.queue)
        assert low <= drawn < high
        return drawn

    def random(self) -> float:
        return next(self.uniforms)

    def standard_normal(self) -> float:
        return next(self.uniforms)

    def uniform(self, low: float, high: float) -> float:
        drawn = next(self.uniforms)
        assert low <= drawn <= high
        return drawn

    def dirichlet(self, alphas: list[float]) -> np.ndarray:
        drawn = np.array(next(self.arrays))
        assert len(drawn) == len(alphas) and set(alphas) == {1}
        return drawn

    def permutation(self, count: int) -> list[int]:
        drawn = next(self.arrays)
        assert len(drawn) == count
        return drawn


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


def test_pixels_between_pixels_are_torchvisions() -> None:
    motion = Motion(Image.Resampling.BILINEAR)
    for case in GOLDEN["ta_wide_bilinear"]:
        image, choice = make_image(*case["size"], seed=3), CHOICES.index(case["operation"])
        for level, expected in zip((1, 16, 30), case["levels"], strict=False):
            policy = Policy("ta_wide", motion)
            images = [policy(image, GivenDraws([choice, level, s])) for s in (0, 1)]
            assert fingerprint(images) == expected, (case["operation"], level)


def test_ra_timm_gives_timms_pixels_at_every_level() -> None:
    assert {case["index"] for case in GOLDEN["ra_timm"]} == set(range(len(TIMM_CHOICES)))
    motion = Motion(Image.Resampling.BICUBIC, (124, 116, 104))
    policy = Policy("ra_timm", motion, magnitude=5, magnitude_std=2.0, num_ops=1)
    for case in GOLDEN["ra_timm"]:
        image = make_image(*case["size"], seed=7)
        for level, expected in zip((2.5, 3.7, 9, 10), case["levels"], strict=True):
            # 3.7 is above the magnitude of 5 by -0.65 standard deviations of 2.
            draws = [[case["index"], sign] for sign in (0, 1)]
            images = [policy(image, GivenDraws(d, [0.4, (level - 5) / 2])) for d in draws]
            assert fingerprint(images) == expected, (case["operation"], level)


def test_ra_timm_leaves_half_of_the_operations_out_and_its_levels_in_their_limits() -> None:
    image = make_image(20, 20, seed=7)
    policy = Policy("ra_timm", magnitude=9, magnitude_std=0.5)
    unchanged = policy(image, GivenDraws([0, 1], [0.5, 0.99]))
    assert np.array_equal(np.asarray(unchanged), np.asarray(image))
    rotate = TIMM_CHOICES.index("rotate")
    capped, highest = (
        policy(image, GivenDraws([rotate, 0, 0], [0.1, deviations, 0.9]))
        for deviations in (50.0, 2.0)
    )
    assert np.array_equal(np.asarray(capped), np.asarray(highest))


def test_augmix_draws_and_blends_as_torchvision() -> None:
    motion = Motion(Image.Resampling.BILINEAR)
    for case in GOLDEN["augmix"]:
        seed = GOLDEN["augmix"].index(case)
        policy = Policy("augmix", motion, severity=case["severity"])
        rng = GivenDraws(case["integers"], arrays=case["shares"])
        assert fingerprint([policy(make_image(*case["size"], seed), rng)]) == case["sha256"], seed


def test_color_jitter_gives_torchvisions_pixels_for_the_same_draws() -> None:
    for seed, case in enumerate(GOLDEN["color_jitter"]):
        rng = GivenDraws([], case["factors"], [case["order"]])
        image = color_jitter(make_image(*case["size"], seed), (0.6, 0.6, 0.6, 0.5), rng)
        assert fingerprint([image]) == case["sha256"], case


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


def test_noise_is_where_timm_puts_it_and_is_as_large() -> None:
    for case in GOLDEN["random_erase_timm"]:
        width, height = case["size"]
        draws = StreamDraws(case["seed"])
        draws.standard_normal = lambda shape: np.full(shape, 0.5)
        black = np.zeros((height, width, 3), np.uint8)
        erased = random_erase(black, 0.6, draws, "pixel")
        ys, xs = np.nonzero(erased.any(axis=2))
        box = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1] if len(xs) else []
        assert box == case["box"], case
        values = Preprocess().normalize(erased[None])[0][:, ys, xs]
        assert np.abs(values - 0.5).max(initial=0) <= 0.5 / 255 / min(Preprocess().std)
    noise = random_erase(np.zeros((64, 64, 3), np.uint8), 1.0, sample_rng(0, 0, 5), "pixel")
    values = Preprocess().normalize(noise[None])[0]
    values = values[:, noise.any(axis=2)]
    # A normal distribution cut off at about 2: mean and deviation within five standard errors.
    assert abs(values.mean()) < 5 / np.sqrt(values.size) + 0.02 and 0.9 < values.std() < 1


def test_the_padded_crop_moves_by_up_to_the_padding_and_shows_black_beyond() -> None:
    image = make_image(32, 32, seed=6)
    whole = np.pad(np.asarray(image), ((4, 4), (4, 4), (0, 0)))
    transform = TrainTransform(32, padding=4, flip_prob=0.0)
    seen = set()
    for index in range(400):
        pixels = transform(image, sample_rng(1, 0, index))
        places = [
            (y, x) for y in range(9) for x in range(9)
            if np.array_equal(whole[y : y + 32, x : x + 32], pixels)
        ]  # fmt: skip
        assert len(places) == 1
        seen.update(places)
    assert len(seen) > 75  # of 81; 400 draws leave out one of them on average half a time


def test_flips_have_their_probability() -> None:
    image, plain = make_image(24, 24, seed=6), {"scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    for probability, low, high in ((0.0, 0, 0), (1.0, 100, 100), (0.2, 5, 40)):
        transform = TrainTransform(24, flip_prob=probability, **plain)
        flipped = np.asarray(image)[:, ::-1]
        results = [transform(image, sample_rng(1, 0, i)) for i in range(100)]
        assert low <= sum(np.array_equal(r, flipped) for r in results) <= high


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
