"""Batch norm's momentum and its statistics taken afresh, against the formula."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from test_engine import batches, make_run

from ppcls_lite import cli, create_model
from ppcls_lite.engine.build import build_network
from ppcls_lite.engine.distributed import World
from ppcls_lite.engine.log import RunLog
from ppcls_lite.engine.resolve import Resolved
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.engine.statistics import estimate, evaluate_both
from ppcls_lite.errors import UserError
from ppcls_lite.metric import Accuracy


@pytest.fixture
def run():
    paddle.seed(0)
    model = create_model("mobilenet_v3_small", 5, width=0.35)
    run = make_run(model, 3, bn_estimate=16)
    data = list(batches(3, 8))
    loader = SimpleNamespace(epoch=lambda number: (batch for batch in data))
    return replace(run, loader=loader, log=RunLog(None)), data


def statistics(model):
    return {n: t.numpy().copy() for n, t in model.state_dict().items() if n.endswith("._mean")}


def test_statistics_are_the_mean_over_as_many_pictures_as_asked_for(run):
    run, data = run
    conv, norm = run.model.features[0][0], run.model.features[0][1]
    own = norm._momentum
    assert estimate(run) == 16  # two batches of eight, not the third
    seen = [conv(paddle.to_tensor(run.info.preprocess.normalize(x.images))) for x in data[:2]]
    means = np.mean([x.numpy().mean(axis=(0, 2, 3)) for x in seen], axis=0)
    np.testing.assert_allclose(norm._mean.numpy(), means, atol=1e-5)
    assert norm._momentum == own


@pytest.mark.parametrize("better", [True, False])
def test_what_is_better_stays(run, better, capsys):
    run, _ = run
    before = statistics(run.model)
    hits = iter((2, 3) if better else (3, 3))  # of equal hits the loss decides

    def evaluate():
        right = next(hits)
        loss = np.abs(statistics(run.model)["features.0.1._mean"]).sum()  # 0 before
        return Accuracy(5, count=4, top1_hits=right, loss_sum=4 * float(loss))

    found = evaluate_both(run, evaluate)
    changed = any(not np.array_equal(before[n], x) for n, x in statistics(run.model).items())
    assert changed == better and (found.loss > 0) == better
    assert f"the {'former' if better else 'latter'} stays" in capsys.readouterr().out


def test_a_stop_leaves_what_was_trained(run):
    run, _ = run
    before, calls = statistics(run.model), iter((Accuracy(5, count=1),))
    with pytest.raises(StopIteration):
        evaluate_both(run, lambda: next(calls))
    assert all(np.array_equal(before[n], x) for n, x in statistics(run.model).items())


def test_the_share_that_a_step_keeps_is_as_asked_for():
    run = make_run(create_model("mobilenet_v3_small", 5, width=0.35), 1)
    config = TrainConfig(bn_momentum=0.5)
    model, *_ = build_network(Resolved(config, 0), run.info, World(0, 1, "cpu"))
    conv, norm = model.features[0][0], model.features[0][1]
    images = paddle.randn([4, 3, 32, 32])
    model.train()
    model(images)
    half = conv(images).numpy().mean(axis=(0, 2, 3)) / 2  # from 0, half of the way
    np.testing.assert_allclose(norm._mean.numpy(), half, atol=1e-5)


@pytest.mark.parametrize("flag", ["--bn-estimate=10", "--bn-momentum=0.9"])
def test_statistics_that_are_kept_are_not_taken(flag):
    with pytest.raises(UserError, match="--norm-eval keeps batch norm's statistics"):
        cli.parse(TrainConfig, [flag, "--norm-eval", "--data-path=x"], "train.py")
