"""Learning rates as lists of numbers; which parameters decay; optimizer steps by hand."""

import json
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import nn

from ppcls_lite import cli, create_model
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.optimizer.optimizers import (
    build_optimizer,
    load_named_state,
    named_state,
    parameter_groups,
)
from ppcls_lite.optimizer.schedule import lr_at, peak_lr

SCHEDULES = json.loads((Path(__file__).parent / "golden/schedules.json").read_text())
OPTIMIZERS = cli.flags(TrainConfig)["opt"].choices


def rates(points, epochs, lr, **settings):
    config = TrainConfig(epochs=epochs, **settings)
    return [round(lr_at(e, epochs, config, lr), 12) for e in points]


def test_step6s_piecewise_decay():
    """120 epochs, 0.8 at batch 2048, divided by ten every 30."""
    points = [0, 29.999, 30, 59.999, 60, 89.999, 90, 119.999]
    expected = [0.8, 0.8, 0.08, 0.08, 0.008, 0.008, 0.0008, 0.0008]
    assert rates(points, 120, 0.8) == pytest.approx(expected)


def test_warm_up_is_part_of_the_epochs_and_without_prefix_moves_no_boundary():
    settings = {"lr_warmup_epochs": 2, "lr_warmup_decay": 0.0, "lr_step_size": 3,
                "lr_warmup_prefix": False}  # fmt: skip
    points = [0, 0.5, 1, 1.5, 2, 2.999, 3, 5.999, 6]
    expected = [0, 0.25, 0.5, 0.75, 1.0, 1.0, 0.1, 0.1, 0.01]
    assert rates(points, 9, 1.0, **settings) == pytest.approx(expected)


def test_cosine_falls_from_the_full_rate_to_zero_after_the_warm_up():
    settings = {"lr_scheduler": "cosine", "lr_warmup_epochs": 5, "lr_warmup_decay": 0.01}
    points = [0, 5, 5 + 95 / 3, 5 + 95 / 2, 100]
    expected = [0.01, 1.0, 0.75, 0.5, 0.0]  # cos of 0, 60, 90, 180 degrees
    assert rates(points, 100, 1.0, **settings) == pytest.approx(expected, abs=1e-12)


def case_name(case):
    settings = case["settings"]
    return f"{case['source']}-{settings['lr_scheduler']}-{settings.get('lr_warmup_epochs', 0)}"


@pytest.mark.parametrize("case", SCHEDULES, ids=case_name)
def test_rates_of_every_epoch_equal_torchvisions_and_timms(case):
    config = TrainConfig(**case["settings"], lr_per_epoch=True)
    for inside in (0.0, 0.99):  # they hold for the whole epoch
        points = [epoch + inside for epoch in range(config.epochs)]
        got = [lr_at(e, config.epochs, config, config.lr) for e in points]
        # torch multiplies its way from epoch to epoch; float64 rounding.
        assert got == pytest.approx(case["rates"], rel=1e-9, abs=1e-12)


def paddleclas(kind, epochs, steps, rate, warmup):
    """PaddleClas' schedules: one of Paddle's, counted in steps, behind a linear warm-up from 0."""
    left = (epochs - warmup) * steps
    main = {
        "cosine": lambda: paddle.optimizer.lr.CosineAnnealingDecay(rate, left),
        "step": lambda: paddle.optimizer.lr.StepDecay(rate, 3 * steps, 0.1),
        "multistep": lambda: paddle.optimizer.lr.MultiStepDecay(rate, [2 * steps, 6 * steps], 0.1),
        "polynomial": lambda: paddle.optimizer.lr.PolynomialDecay(rate, left, 0.001, 1.0),
    }[kind]()
    schedule = paddle.optimizer.lr.LinearWarmup(main, warmup * steps, 0.0, rate)
    rates = []
    for _ in range(epochs * steps):
        rates.append(schedule())
        schedule.step()
    return rates


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("cosine", {}),
        ("step", {"lr_step_size": 3}),
        ("multistep", {"lr_milestones": (2, 6)}),
        ("polynomial", {"lr_min": 0.001}),
    ],
)
def test_rates_of_every_step_equal_paddleclas(kind, settings):
    epochs, steps = 10, 7
    config = TrainConfig(
        epochs=epochs, lr_scheduler=kind, lr_warmup_epochs=2, lr_warmup_decay=0.0, **settings
    )
    # An epoch that is done is a whole number, as in the training loop.
    points = [i // steps + (i % steps) / steps for i in range(epochs * steps)]
    got = [lr_at(point, epochs, config, 0.65) for point in points]
    assert got == pytest.approx(paddleclas(kind, epochs, steps, 0.65, 2), rel=1e-9, abs=1e-12)


def test_the_rate_is_scaled_by_the_batch_on_request_only():
    assert peak_lr(TrainConfig(lr=0.1), 2048) == 0.1
    assert peak_lr(TrainConfig(lr=0.1, lr_scale_batch=256), 2048) == pytest.approx(0.8)


def test_constant():
    assert rates([0, 50, 99.9], 100, 0.3, lr_scheduler="constant") == [0.3, 0.3, 0.3]


class Small(nn.Layer):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2D(3, 4, 3)
        self.norm = nn.BatchNorm2D(4)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x)).mean([2, 3]))


def test_decay_by_kind_of_parameter():
    config = TrainConfig(weight_decay=0.1, norm_weight_decay=0.0, bias_weight_decay=0.02)
    model = Small()
    names = {id(p): n for n, p in model.named_parameters()}
    groups = {
        g["weight_decay"]: sorted(names[id(p)] for p in g["params"])
        for g in parameter_groups(model, config)
    }
    assert groups == {
        0.0: ["norm.bias", "norm.weight"],
        0.02: ["conv.bias", "fc.bias"],
        0.1: ["conv.weight", "fc.weight"],
    }


def test_biases_learn_at_their_own_rate():
    """One step of gradient 1 everywhere: 0.1 for weights, twice that for biases."""
    model = Small()
    config = TrainConfig(opt="sgd", weight_decay=0.0, bias_lr_factor=2.0)
    optimizer = build_optimizer(model, config)
    optimizer.set_lr(0.1)
    learning = {n: p for n, p in model.named_parameters() if not p.stop_gradient}
    before = {name: p.numpy() for name, p in learning.items()}
    sum(p.sum() for p in learning.values()).backward()
    optimizer.step()
    for name, p in learning.items():
        step = 0.2 if name.endswith("bias") else 0.1
        assert np.allclose(before[name] - p.numpy(), step, atol=1e-6), name  # float32 near 1


@pytest.mark.parametrize("opt", OPTIMIZERS)
def test_without_gradients_only_decaying_parameters_move(opt):
    model = Small()
    config = TrainConfig(opt=opt, weight_decay=0.5, norm_weight_decay=0.0, bias_weight_decay=0.0)
    optimizer = build_optimizer(model, config)
    optimizer.set_lr(0.1)
    for p in model.parameters():
        if not p.stop_gradient:
            p.set_value(paddle.ones_like(p))
    (model(paddle.zeros([2, 3, 5, 5])) * 0).sum().backward()
    optimizer.step()
    moved = {
        n for n, p in model.named_parameters() if (p != 1).any().item() and not p.stop_gradient
    }
    assert moved == {"conv.weight", "fc.weight"}


def step_by_step(opt, gradients, lr, **settings):
    """Feeds gradients to the real optimizer and returns the weight after each step."""
    layer = nn.Linear(1, 1, bias_attr=False)
    layer.weight.set_value(paddle.ones([1, 1]))
    optimizer = build_optimizer(layer, TrainConfig(opt=opt, **settings))
    weights = []
    for gradient in gradients:
        optimizer.set_lr(lr)
        (layer.weight * gradient).sum().backward()
        optimizer.step()
        optimizer.clear_grad()
        weights.append(layer.weight.item())
    return weights


def test_sgd_with_momentum_and_l2_as_torch_defines_it():
    """v = 0.9 v + (g + wd w);  w = w - lr v."""
    expected, w, v = [], 1.0, 0.0
    for g in (0.5, -1.0, 2.0):
        v = 0.9 * v + (g + 0.01 * w)
        w -= 0.1 * v
        expected.append(w)
    got = step_by_step("sgd", (0.5, -1.0, 2.0), 0.1, weight_decay=0.01)
    assert got == pytest.approx(expected, rel=1e-6)  # float32


def test_adamw_as_its_paper_defines_it():
    expected, w, m, s = [], 1.0, 0.0, 0.0
    for t, g in enumerate((0.5, -1.0, 2.0), start=1):
        w *= 1 - 0.1 * 0.05
        m, s = 0.9 * m + 0.1 * g, 0.999 * s + 0.001 * g * g
        w -= 0.1 * (m / (1 - 0.9**t)) / ((s / (1 - 0.999**t)) ** 0.5 + 1e-8)
        expected.append(w)
    got = step_by_step("adamw", (0.5, -1.0, 2.0), 0.1, weight_decay=0.05)
    assert got == pytest.approx(expected, rel=1e-5)  # float32, with 1 - 0.999**t near 0.001


@pytest.mark.parametrize("opt", OPTIMIZERS)
def test_saved_state_continues_in_another_model_of_the_process(opt):
    """Names are structured: a second model, whose tensors have other automatic names, can go on."""

    def train(model, optimizer, steps):
        for i in steps:
            paddle.seed(i)
            optimizer.set_lr(0.01)
            model(paddle.randn([4, 3, 5, 5])).square().mean().backward()
            optimizer.step()
            optimizer.clear_grad()

    config = TrainConfig(opt=opt)
    first, second = Small(), Small()
    optimizer = build_optimizer(first, config)
    train(first, optimizer, [0, 1])
    second.set_state_dict({k: v.numpy() for k, v in first.state_dict().items()})
    other = build_optimizer(second, config)
    load_named_state(other, second, named_state(optimizer, first))
    train(first, optimizer, [2, 3])
    train(second, other, [2, 3])
    for (name, a), b in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert (a == b).all().item(), name


@pytest.mark.parametrize(("name", "blocks"), [("mobilenet_v3_small", 11), ("mnasnet0_5", 16)])
def test_layer_decay_lowers_the_rate_block_by_block(name, blocks):
    model = create_model(name, 3)
    settings = TrainConfig(layer_decay=0.5, head_lr_factor=4)
    rates = {
        id(p): group["learning_rate"]
        for group in parameter_groups(model, settings)
        for p in group["params"]
    }
    by_name = {n: rates[id(p)] for n, p in model.named_parameters() if id(p) in rates}
    in_order = list(dict.fromkeys(by_name.values()))
    # stem, blocks, the rest of the features with the classifier's hidden layer, last layer
    assert in_order == [0.5 ** (blocks + 2 - i) for i in range(blocks + 2)] + [4.0]
    assert len({group["learning_rate"] for group in parameter_groups(model, TrainConfig())}) == 1
