"""Losses and mixed batches against torch, timm and torchvision (golden/make_loss_golden.py)."""

import hashlib
import json
from pathlib import Path

import numpy as np
import paddle
import pytest

from ppcls_lite.data.mixing import Mix, cut, draw_mix
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.errors import UserError
from ppcls_lite.loss import training_loss

GOLDEN = json.loads((Path(__file__).parent / "golden" / "loss_golden.json").read_text())
TEACHER = {"teacher": "mnasnet1_0", "teacher_pretrained": "w.pdparams"}
SETTINGS = {
    "ce": {},
    "ce smoothed": {"label_smoothing": 0.1},
    "ce mixed": {},
    "ce mixed smoothed": {"label_smoothing": 0.1},
    "bce": {"loss": "bce"},
    "bce smoothed": {"loss": "bce", "label_smoothing": 0.1},
    "bce mixed": {"loss": "bce"},
    "soft": TEACHER,
    "soft 4": TEACHER | {"distill_temperature": 4.0},
    "soft 4 and labels": TEACHER | {"distill_temperature": 4.0, "distill_weight": 0.75},
    "js": TEACHER | {"distill_loss": "js"},
    "dml": {"teacher": "mnasnet1_0", "distill_loss": "dml", "distill_weight": 0.5},
    "ce, half without labels": {},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_losses_and_gradients_equal_torchs(name):
    labels = np.array(GOLDEN["labels"])
    if "without labels" in name:
        labels[3:] = -1
    targets = np.array(GOLDEN["mixed"], np.float32) if "mixed" in name else Mix().targets(labels, 5)
    config = TrainConfig(**SETTINGS[name])
    logits = paddle.to_tensor(GOLDEN["student"], stop_gradient=False)
    teacher = paddle.to_tensor(GOLDEN["teacher"]) if config.teacher else None
    loss = training_loss(logits, paddle.to_tensor(targets), teacher, config)
    loss.backward()
    expected = GOLDEN["losses"][name]
    # float32: rounding of a few sums of ten numbers.
    assert loss.item() == pytest.approx(expected["loss"], rel=1e-6)
    np.testing.assert_allclose(logits.grad.numpy(), expected["gradient"], rtol=1e-5, atol=2e-7)


def test_a_batch_without_any_label_has_no_loss_and_no_gradient():
    logits = paddle.to_tensor(GOLDEN["student"], stop_gradient=False)
    targets = paddle.to_tensor(Mix().targets(np.full(6, -1), 5))
    loss = training_loss(logits, targets, None, TrainConfig(label_smoothing=0.1))
    loss.backward()
    assert loss.item() == 0 and not logits.grad.numpy().any()


def test_mixed_batches_equal_torchvisions_to_the_bit():
    images = np.random.RandomState(1).randn(4, 3, 9, 7).astype(np.float32)
    labels = np.array([3, 0, 4, 4])
    assert len(GOLDEN["mixes"]) == 10
    for case in GOLDEN["mixes"]:
        is_mixup = case["kind"] == "mixup"
        mix = Mix(case["share"]) if is_mixup else cut(case["share"], case["x"], case["y"], 9, 7)
        mixed = mix.images(images)
        assert hashlib.sha256(mixed.tobytes()).hexdigest() == case["sha256"], case
        assert np.array_equal(mix.targets(labels, 5), np.array(case["targets"], np.float32)), case


def drawn(epoch=0, count=400, **settings):
    config = TrainConfig(**settings)
    return [draw_mix(config, epoch, 32, 32, np.random.default_rng((7, i))) for i in range(count)]


def test_draws_follow_the_generator_and_the_beta_distribution():
    mixes = drawn(mixup=0.2)
    assert mixes == drawn(mixup=0.2)
    shares = np.array([m.share for m in mixes])
    # Beta(0.2, 0.2): mean 1/2, variance 1/(4 * 1.4); three standard errors of 400 draws.
    assert abs(shares.mean() - 0.5) < 0.065 and abs(shares.var() - 1 / 5.6) < 0.02
    assert all(m.box is None for m in mixes)


def test_both_are_taken_evenly_with_the_probability_until_the_off_epoch():
    mixes = drawn(mixup=0.2, cutmix=1.0, mix_prob=0.5)
    plain = sum(m == Mix() for m in mixes)
    boxes = sum(m.box is not None for m in mixes)
    # Binomial; five standard deviations: 200 +- 50 and 100 +- 43.
    assert abs(plain - 200) < 50 and abs(boxes - 100) < 43
    assert any(m != Mix() for m in drawn(mixup=0.2, mix_off_epoch=3, epoch=2))
    assert all(m == Mix() for m in drawn(mixup=0.2, mix_off_epoch=3, epoch=3))
    assert all(m == Mix() for m in drawn())


def test_the_share_of_a_cut_is_the_share_that_is_left():
    draws = [m for m in drawn(cutmix=1.0) if m.box]
    ones = np.stack([np.zeros((3, 32, 32), np.float32), np.ones((3, 32, 32), np.float32)])
    for mix in draws:
        assert mix.images(ones)[1].mean() == pytest.approx(mix.share, abs=1e-6)
    assert len({m.box for m in draws}) > 300


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"teacher": "mnasnet1_0"}, "--teacher-pretrained"),
        ({"teacher_pretrained": "x.pdparams"}, "--teacher NAME"),
        ({"distill_weight": 0.5}, "--distill-weight"),
        ({"unlabelled_path": "x"}, "--unlabelled-path"),
        (TEACHER | {"distill_loss": "js", "distill_temperature": 2.0}, "--distill-temperature"),
        ({"teacher": "mnasnet1_0", "distill_loss": "dml"}, "--distill-weight below 1"),
        (TEACHER | {"unlabelled_path": "x", "loss": "bce"}, "--loss ce"),
    ],
)
def test_flags_without_an_effect_are_refused(settings, word):
    with pytest.raises(UserError, match=word):
        TrainConfig(**settings)
