"""Parts that do not learn, and batch norm that keeps its statistics."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from test_engine import Batches, batches, make_run, weights

from ppcls_lite import cli, create_model
from ppcls_lite.arch.layers import InvertedResidual
from ppcls_lite.engine.build import training_model
from ppcls_lite.engine.freezing import freeze, lines, stages, training_mode
from ppcls_lite.engine.log import RunLog
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.engine.train import finish_epoch, train_one_epoch
from ppcls_lite.errors import UserError
from ppcls_lite.metric import Accuracy
from ppcls_lite.optimizer.optimizers import build_optimizer

STATISTICS = ("._mean", "._variance")
HEAD = {"classifier.3.weight", "classifier.3.bias"}


def changed_by_an_epoch(name, kernels, **settings):
    """Names of the tensors that an epoch of two batches changes, and of all."""
    paddle.seed(0)
    model = create_model(name, 5, width=0.35)
    run = make_run(model, 2, lr=0.1, weight_decay=0.01, **settings)
    freeze(model, run.config)
    parallel, words = training_model(model, replace(run.config, cpu_kernels=kernels), run.world)
    if kernels == "on":
        assert "Paddle's own" not in words
    run = replace(
        run,
        parallel=parallel,
        optimizer=build_optimizer(model, run.config),
        loader=Batches(batches(2, 4)),
        log=RunLog(None),
        stop=SimpleNamespace(signal=None),
    )
    before = weights(model)
    train_one_epoch(run)
    after = weights(model)
    assert all(np.isfinite(value).all() for value in after.values())
    return {n for n in after if not np.array_equal(before[n], after[n])}, set(after)


@pytest.mark.slow  # trains an epoch, several times
@pytest.mark.parametrize("kernels", ["on", "off"])
def test_frozen_parts_keep_every_bit_and_the_rest_learns(kernels):
    changed, names = changed_by_an_epoch("mobilenet_v3_small", kernels)
    assert changed == names
    assert changed_by_an_epoch("mobilenet_v3_small", kernels, freeze="body")[0] == HEAD
    changed, names = changed_by_an_epoch("mobilenet_v3_small", kernels, freeze="stages:2")
    # Table 2 of the paper: the stem and the first block of stride 2 come before the second.
    assert names - changed == {n for n in names if n.startswith(("features.0.", "features.1."))}


@pytest.mark.slow  # trains an epoch
@pytest.mark.parametrize("kernels", ["on", "off"])
@pytest.mark.parametrize("name", ["mobilenet_v3_small", "mnasnet0_5"])
def test_batch_norm_keeps_its_statistics_and_learns_its_gain(name, kernels):
    changed, names = changed_by_an_epoch(name, kernels, norm_eval=True)
    assert names - changed == {n for n in names if n.endswith(STATISTICS)}


def test_a_network_that_keeps_its_statistics_trains_on_what_it_answers_in_evaluation():
    model = create_model("mobilenet_v3_small", 5, width=0.35, dropout=0.0)
    images = paddle.randn([4, 3, 32, 32])
    model.eval()
    expected = model(images).numpy()
    training_mode(model, TrainConfig())
    assert np.abs(model(images).numpy() - expected).max() > 1e-3
    model.eval()
    expected = model(images).numpy()
    training_mode(model, TrainConfig(norm_eval=True))
    np.testing.assert_array_equal(model(images).numpy(), expected)
    assert model.training and all(x.training for x in model.sublayers() if not hasattr(x, "_mean"))


def test_the_stages_are_those_of_the_papers_tables():
    small, large, mnas = (
        [sum(isinstance(layer, InvertedResidual) for layer in stage) for stage in stages(model)]
        for model in map(create_model, ("mobilenet_v3_small", "mobilenet_v3_large", "mnasnet1_0"))
    )
    # Blocks at 1/2, 1/4, ... of the resolution: MobileNetV3, tables 1 and 2; MnasNet, figure 7,
    # whose separable block is none of the inverted ones.
    assert small == [0, 1, 2, 5, 3]
    assert large == [1, 2, 3, 6, 3]
    assert mnas == [0, 3, 3, 5, 5]


def test_what_cannot_be_frozen_is_refused_with_what_can():
    model = create_model("mobilenet_v3_small", 5, width=0.35)
    with pytest.raises(UserError, match="stages:6: the model has 5 stages"):
        freeze(model, TrainConfig(freeze="stages:6"))
    with pytest.raises(UserError, match="--freeze: 'head' is not possible"):
        cli.parse(TrainConfig, ["--freeze=head"], "train.py")


def test_the_plan_says_what_learns():
    model = create_model("mobilenet_v3_small", 5)
    config = TrainConfig(freeze="body", norm_eval=True)
    freeze(model, config)
    assert lines(model, config) == [
        f"frozen    --freeze body: {1024 * 5 + 5:,} values learn;"
        " batch norm keeps its statistics (--norm-eval)"
    ]
    assert lines(model, TrainConfig()) == []


def test_best_is_by_the_metric_asked_for(tmp_path):
    """One epoch finds 6 of 6 of class 0 and none of the others, the next one of each missing."""
    epochs = ([(0, 0)] * 6 + [(1, 0), (2, 0)], [(0, 1)] * 3 + [(0, 0)] * 3 + [(1, 1), (2, 2)])
    for metric, best in (("top1", 0), ("balanced_accuracy", 1), ("macro_f1", 1), ("loss", 1)):
        run = replace(
            make_run(create_model("mobilenet_v3_small", 5, width=0.35), 1, best_metric=metric),
            folder=tmp_path / metric, log=RunLog(None),
        )  # fmt: skip
        run.folder.mkdir()
        for sure, rows in zip((9.0, 1.0), epochs, strict=True):
            accuracy = Accuracy(5)
            for true, predicted in rows:
                accuracy.add(sure * np.eye(5)[[predicted]], np.array([true]))
            finish_epoch(run, accuracy)
        named = run.folder / "best.pdparams"
        assert named.samefile(run.folder / f"model_{best}.pdparams"), metric
        assert run.progress.gain_epoch == best


def test_of_equal_epochs_the_later_one_is_the_best(tmp_path):
    run = replace(
        make_run(create_model("mobilenet_v3_small", 5, width=0.35), 1, keep_checkpoints=0),
        folder=tmp_path, log=RunLog(None),
    )  # fmt: skip
    for right, best in ((1, 0), (3, 1), (3, 2), (2, 2)):
        accuracy = Accuracy(5)
        accuracy.add(np.eye(5)[[0, 0, 0, 0]], np.array([0] * right + [1] * (4 - right)))
        finish_epoch(run, accuracy)
        assert (tmp_path / "best.pdparams").samefile(tmp_path / f"model_{best}.pdparams")
