"""Classes of unequal size: the loss against torch's and Menon's formula, the order, whole runs."""

import shutil

import numpy as np
import paddle
import pytest
from conftest import picture, run_tool, same_weights, train

from ppcls_lite.data.order import training_order
from ppcls_lite.engine.balance import balance, balanced_weights
from ppcls_lite.engine.head import logistic_regression
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.errors import UserError
from ppcls_lite.loss import training_loss
from ppcls_lite.weights.formats import read_weights

LABELS = np.array([0] * 12 + [1] * 6 + [2] * 2)
DRAWS = np.random.default_rng(0)
LOGITS = DRAWS.normal(size=(20, 3)).astype(np.float32)


def loss_of(**settings):
    config = TrainConfig(**settings)
    found = balance(config, LABELS, 3)
    targets = paddle.to_tensor(found.targets(np.eye(3, dtype=np.float32)[LABELS]))
    return float(training_loss(found.logits(paddle.to_tensor(LOGITS)), targets, None, config))


def nll(logits):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return (np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(20), LABELS]).astype(float)


def test_weights_are_scikit_learns_and_their_loss_is_torchs():
    weights = balanced_weights(np.bincount(LABELS))
    np.testing.assert_allclose(weights, [20 / 36, 20 / 18, 20 / 6], rtol=1e-6)
    # torch.nn.functional.cross_entropy(weight=w): sum of w nll over the sum of w.
    rows = weights[LABELS]
    assert loss_of(class_weights="balanced") == pytest.approx(
        (rows * nll(LOGITS)).sum() / rows.sum()
    )
    assert loss_of() == pytest.approx(nll(LOGITS).mean())


def test_the_log_prior_is_added_in_the_loss():
    prior = np.log(np.array([0.6, 0.3, 0.1]))
    for tau in (1.0, 0.5):
        expected = nll(LOGITS + tau * prior).mean()
        assert loss_of(logit_adjustment=tau) == pytest.approx(expected, rel=1e-5)


def test_a_balanced_epoch_has_as_many_of_each_class_on_any_number_of_ranks():
    labels = DRAWS.permutation(LABELS)
    whole, _ = training_order(20, 3, 5, balance=labels)
    assert sorted(np.bincount(labels[whole]).tolist()) == [6, 7, 7] and len(whole) == 20
    assert {*np.flatnonzero(labels == 2)} <= {*whole.tolist()}
    one = whole[labels[whole] == 1]
    assert len({*one.tolist()}) == 6  # all of them before one is shown again
    parts = [training_order(20, 3, 5, rank, 2, balance=labels)[0] for rank in range(2)]
    assert np.stack(parts, axis=1).ravel().tolist() == whole.tolist()
    assert training_order(20, 3, 6, balance=labels)[0].tolist() != whole.tolist()


def test_the_fit_of_the_last_layer_follows_them():
    """Features that say nothing: the answer is the prior, or even."""
    x = DRAWS.normal(size=(20, 2)).astype(np.float32) * 1e-4
    even, prior = np.full(3, 1 / 3), np.array([0.6, 0.3, 0.1])
    for settings, expected in (
        ({}, prior), ({"class_weights": "balanced"}, even), ({"logit_adjustment": 1.0}, even),
    ):  # fmt: skip
        found = balance(TrainConfig(**settings), LABELS, 3)
        _, bias = logistic_regression(x - x.mean(axis=0), LABELS, 3, found)
        shares = np.exp(bias) / np.exp(bias).sum()
        np.testing.assert_allclose(shares, expected, atol=0.1)


@pytest.mark.parametrize(
    "settings",
    [
        {"class_weights": "balanced", "sampler": "balanced"},
        {"class_weights": "balanced", "loss": "bce"},
        {"sampler": "balanced", "ra_reps": 2},
        {"logit_adjustment": 1.0, "teacher": "mnasnet1_0", "teacher_pretrained": "x"},
    ],
)
def test_what_does_not_go_together_is_refused(settings):
    with pytest.raises(UserError, match="--"):
        TrainConfig(**settings)


@pytest.fixture(scope="module")
def unequal(tmp_path_factory):
    """DATA/{train,val}: 16 blue, 8 green, 2 red training pictures."""
    root = tmp_path_factory.mktemp("unequal")
    for class_id, (name, count) in enumerate((("blue", 16), ("green", 8), ("red", 2))):
        for split, numbers in (("train", range(count)), ("val", range(500, 502))):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in numbers:
                picture(class_id, number).save(folder / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def plain(unequal, tmp_path_factory):
    """The latest checkpoint of two epochs without any correction."""
    out = tmp_path_factory.mktemp("plain")
    assert train(unequal, out, "--epochs=2").returncode == 0
    return out / "latest.pdparams"


def test_each_way_trains_and_resumes_to_the_bit(unequal, plain, tmp_path):
    ways = {
        "w": ("--class-weights=balanced", "balance   --class-weights balanced: 0.542 to 4.33"),
        "s": ("--sampler=balanced", "balance   --sampler balanced"),
        "l": ("--logit-adjustment=1", "balance   --logit-adjustment 1"),
    }
    for name, (flag, said) in ways.items():
        done = train(unequal, tmp_path / name, flag, "--epochs=2")
        assert done.returncode == 0 and said in done.stdout, done.stderr
        latest = tmp_path / name / "latest.pdparams"
        weights, others = read_weights(latest), read_weights(plain)
        assert any(not np.array_equal(weights[key], others[key]) for key in weights)
        shutil.copytree(tmp_path / name, tmp_path / f"{name}2")
        first = tmp_path / f"{name}2" / "model_0.pdparams"
        done = train(unequal, tmp_path / f"{name}2", f"--resume={first}")
        assert done.returncode == 0 and said in done.stdout, done.stderr
        assert same_weights(latest, first.with_name("latest.pdparams"))


def test_a_checkpoint_takes_the_log_prior(unequal, plain, tmp_path):
    path, out = plain, tmp_path / "even.pdparams"
    flags = [f"--out={out}", "--logit-adjustment=0.5"]
    done = run_tool("tools/convert_weights.py", path, *flags, f"--data-path={unequal}")
    assert done.returncode == 0, done.stderr
    before, after = (read_weights(p) for p in (path, out))
    changed = {n for n in before if not np.array_equal(before[n], after[n])}
    assert changed == {"classifier.3.bias"}
    difference = before["classifier.3.bias"] - after["classifier.3.bias"]
    np.testing.assert_allclose(difference, 0.5 * np.log(np.array([16, 8, 2]) / 26), rtol=1e-5)
    done = run_tool("tools/convert_weights.py", path, *flags)
    assert done.returncode == 2 and "--data-path is missing" in done.stderr
