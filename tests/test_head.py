"""The last layer fitted to features: the optimum by its own condition, and a whole run of it."""

import json
import re

import numpy as np
import paddle
import pytest
from conftest import train
from small_checkpoint import checkpoint

from ppcls_lite import cli
from ppcls_lite.data.decode import load_image
from ppcls_lite.data.named import open_train
from ppcls_lite.data.packed import read_source
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.engine.distributed import World
from ppcls_lite.engine.head import DECAY, fit_head, logistic_regression
from ppcls_lite.engine.resolve import resolve
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.errors import UserError
from ppcls_lite.slim.network import network_of
from ppcls_lite.weights.find import find_weights
from ppcls_lite.weights.formats import read_weights
from ppcls_lite.weights.load import load_weights

HEAD = {"classifier.3.weight", "classifier.3.bias"}


def test_the_fit_is_where_the_gradient_of_the_regularised_likelihood_is_zero():
    draws = np.random.default_rng(0)
    x = (3 + 2 * draws.normal(size=(120, 10))).astype(np.float32)
    y = (x[:, :4] + draws.normal(size=(120, 4))).argmax(axis=1)
    weight, bias = logistic_regression(x, y, 4)
    x64, w64 = x.astype(np.float64), weight.astype(np.float64)
    logits = x64 @ w64 + bias
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    error = (p - np.eye(4)[y]) / len(y)
    scale = x64.std(axis=0)[:, None]  # the decay is of weights of standardised inputs
    gradient = ((x64 - x64.mean(axis=0)) / scale.T).T @ error + 2 * DECAY * w64 * scale
    # At zero weights the largest is 0.2.
    assert np.abs(gradient).max() < 1e-4 and np.abs(error.sum(axis=0)).max() < 1e-4


@pytest.mark.slow  # trains the last layer
@pytest.mark.parametrize("kernels", ["auto", "off"])
def test_it_changes_the_last_layer_alone_and_says_how_right_it_is(kernels, pictures, tmp_path):
    weights = find_weights(checkpoint(tmp_path))
    spec = Preprocess(36, 32)
    model = network_of(weights.info)
    load_weights(model, weights)
    before = {name: value.numpy() for name, value in model.state_dict().items()}
    config = TrainConfig(
        data_path=str(pictures), train_crop_size=32, batch_size=8, workers=0, fit_head=2,
        pretrained="x", cpu_kernels=kernels,
    )  # fmt: skip
    data = open_train(config, False, None)
    said, seen = fit_head(model, data, spec, config, "cpu")
    after = model.state_dict()
    assert {n for n in before if not np.array_equal(before[n], after[n].numpy())} == HEAD
    model.eval()
    images = spec([load_image(read_source(data.source(i))) for i in range(len(data))])
    with paddle.no_grad():
        logits, mirrored = (model(paddle.to_tensor(x)).numpy() for x in (images, images[..., ::-1]))
    answers = np.stack([logits, mirrored]).argmax(axis=2)  # [2, N]
    # What limits of the known are made of, without another look at the pictures.
    np.testing.assert_allclose(seen[0], logits, atol=1e-4)
    assert np.array_equal(seen[1], data.labels)
    stated = float(re.search(r"([\d.]+) of them right", said).group(1))
    assert stated == pytest.approx((answers == data.labels).mean(), abs=1e-4)
    assert stated > 0.6  # of three classes


def test_an_epoch_less_training_writes_what_every_training_writes(pictures, tmp_path):
    start = checkpoint(tmp_path)
    flags = (f"--pretrained={start}", "--fit-head=3", "--epochs=0", "--lr=0.01")
    done = train(pictures, tmp_path / "a", *flags)
    assert done.returncode == 0, done.stderr
    assert "42 training images, 3 views each" in done.stdout
    best = tmp_path / "a/best.pdparams"
    state = json.loads(best.with_suffix(".json").read_text())
    assert state["progress"]["epoch"] == 1 and state["progress"]["step"] == 0
    assert state["metrics"]["top1"] > 0.5  # of three classes
    found, given = read_weights(best), read_weights(start)
    assert {n for n in found if not np.array_equal(found[n], given[n])} == HEAD
    train(pictures, tmp_path / "b", *flags)
    again = read_weights(tmp_path / "b/best.pdparams")
    assert all(np.array_equal(found[name], again[name]) for name in found)
    # It can be gone on with, too.
    more = ("--epochs=2", "--lr=1e-4", f"--resume={best}", f"--output-dir={tmp_path / 'c'}")
    done = train(pictures, tmp_path / "c", *more)
    assert done.returncode == 0 and "[Epoch 1] val" in done.stdout, done.stderr


def test_the_fitted_network_is_the_best_until_an_epoch_is_better(pictures, tmp_path):
    flags = (f"--pretrained={checkpoint(tmp_path)}", "--fit-head=2", "--epochs=2")
    wrecked = train(pictures, tmp_path / "a", *flags, "--lr=3")
    best = json.loads((tmp_path / "a/best.json").read_text())
    fitted = float(re.search(r"Fitted last layer\] val top1: ([\d.]+)", wrecked.stdout).group(1))
    assert best["progress"]["epoch"] == 0
    assert best["metrics"]["top1"] == pytest.approx(fitted, abs=1e-5)  # digits printed
    kept = train(pictures, tmp_path / "b", *flags, "--lr=0", "--norm-eval")
    assert kept.returncode == 0, kept.stderr
    assert json.loads((tmp_path / "b/best.json").read_text())["progress"]["epoch"] == 2
    start = f"--resume={tmp_path / 'a/best.pdparams'}"
    resumed = train(pictures, tmp_path / "c", start, "--lr=1e-4", "--norm-eval")
    assert resumed.returncode == 0 and "[Fitted" not in resumed.stdout, resumed.stderr


def test_what_cannot_be_fitted_is_said():
    for flags, message in (
        (["--fit-head=1"], "--fit-head needs features of trained weights"),
        (["--epochs=0"], "--epochs 0 trains nothing"),
    ):
        with pytest.raises(UserError, match=message):
            resolve(cli.parse(TrainConfig, flags, "train.py"), World(0, 1, "cpu"))
