"""The moving average in a real training: what is evaluated, saved, resumed; stochastic depth."""

import json
import re
from dataclasses import replace

import numpy as np
import paddle
import pytest
from conftest import run_tool, same_weights, start, train, wait_for
from test_engine import batches, frozen_network, make_run, weights

from ppcls_lite import create_model
from ppcls_lite.arch.layers import InvertedResidual, set_drop_path, set_zero_gamma
from ppcls_lite.engine.train import train_batch
from ppcls_lite.optimizer.ema import Ema
from ppcls_lite.weights.formats import read_weights

FLAGS = ("--epochs=3", "--model-ema", "--model-ema-rule=plain", "--model-ema-decay=0.9",
         "--model-ema-steps=1", "--drop-path=0.3", "--opt=rmsprop", "--lr=0.002")  # fmt: skip


@pytest.fixture(scope="module")
def averaged(pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("averaged")
    done = train(pictures, out, *FLAGS, "--keep-checkpoints=0")
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_the_average_is_evaluated_and_is_what_a_checkpoint_holds(averaged, pictures):
    out, text = averaged
    assert text.count("Test: of the moving average (--model-ema)") == 3
    weights, optimizer = read_weights(out / "best.pdparams"), read_weights(out / "best.pdopt")
    for name, values in weights.items():
        own = optimizer[f"{name}.trained"]
        assert not np.array_equal(values, own) or not values.any(), name
    best = json.loads((out / "best.json").read_text())["metrics"]["loss"]
    losses = {r["loss"] for r in map(json.loads, (out / "metrics.jsonl").read_text().splitlines())}
    assert best in losses
    tested = run_tool(
        "train.py", "--test-only", f"--pretrained={out}/best.pdparams", f"--data-path={pictures}",
        "--device=cpu", "--batch-size=8", "--eval-engine=dygraph",
    )  # fmt: skip
    mean_loss = re.findall(r"loss: \S+ \((\S+)\)", tested.stdout)
    during = re.findall(r"loss: \S+ \((\S+)\)", text)
    assert mean_loss and set(mean_loss) <= set(during)


def test_a_run_with_an_average_stopped_in_an_epoch_goes_on_to_the_same_bits(
    averaged, pictures, tmp_path
):
    out, _ = averaged
    process = start(pictures, tmp_path, *FLAGS)
    wait_for(process, "[Epoch 1, iter: 1]")
    process.terminate()
    process.communicate(timeout=60)
    done = run_tool("train.py", f"--resume={tmp_path}/latest.pdparams")
    assert done.returncode == 0, done.stderr
    assert same_weights(out / "model_2.pdparams", tmp_path / "model_2.pdparams")


def test_updates_come_every_few_steps_of_an_epoch_and_copy_until_the_warm_up_ends():
    model = frozen_network()
    run = make_run(model, 5, lr=0.5, model_ema=True, model_ema_steps=2, lr_warmup_epochs=1,
                   lr_warmup_decay=0.5, epochs=10)  # fmt: skip
    run = replace(run, ema=Ema(model, decay=0.75))
    seen = []
    for epoch in range(2):
        run.progress.epoch, run.progress.batch = epoch, 0
        for batch in batches(5, 2):
            before = {k: v.numpy() for k, v in run.ema.average.items()}
            train_batch(run, batch)
            name = "classifier.3.weight"
            average, own = run.ema.average[name].numpy(), weights(model)[name]
            if np.array_equal(average, before[name]):
                seen.append("-")
            elif np.array_equal(average, own):
                seen.append("copy")
            else:
                mixed = 0.75 * before[name] + 0.25 * own
                seen.append("mix" if np.allclose(average, mixed, rtol=0, atol=1e-6) else "wrong")
    assert seen == [*("copy", "-", "copy", "-", "copy"), *("copy", "-", "mix", "-", "mix")]


def test_the_model_gets_its_own_weights_back_after_an_evaluation():
    model = frozen_network()
    ema, before = Ema(model, 0.5), weights(model)
    ema.average["classifier.3.bias"].set_value(np.full(5, 7, np.float32))
    with ema.in_place():
        assert (model.classifier[3].bias == 7).all().item()
    assert all(np.array_equal(before[k], v) for k, v in weights(model).items())


# timm 1.0.31: [b.drop_path.drop_prob for b in every block], drop_path_rate 0.2, the last one's
@pytest.mark.parametrize(
    ("name", "blocks", "first", "last"),
    [
        ("mobilenetv3_large_100", 15, 0, 0.2 * 14 / 16),
        ("mobilenetv3_small_100", 11, 0, 0.2 * 10 / 12),
        ("mnasnet1_0", 16, 0.2 / 17, 0.2 * 16 / 17),
        ("semnasnet_100", 15, 0.2 / 16, 0.2 * 15 / 16),
        ("mnasnet_small", 15, 0, 0.2 * 14 / 15),
        ("tf_efficientnet_lite0", 15, 0.2 / 16, 0.2 * 15 / 16),
    ],
)
def test_stochastic_depth_rises_block_by_block_as_in_timm(name, blocks, first, last):
    model = create_model(name, 2)
    set_drop_path(model, 0.2)
    rates = [m.drop_path for m in model.sublayers() if isinstance(m, InvertedResidual)]
    assert len(rates) == blocks
    assert rates == pytest.approx(np.linspace(first, last, blocks))


def test_zero_gamma_starts_blocks_with_a_shortcut_as_the_shortcut():
    model = create_model("mobilenet_v3_small", 2)
    set_zero_gamma(model)
    model.eval()
    blocks = [m for m in model.sublayers() if isinstance(m, InvertedResidual)]
    for before, block in zip([None, *blocks], blocks, strict=False):
        if block.shortcut and before is not None:
            x = paddle.randn([2, before.sublayers()[-1].weight.shape[0], 7, 7])
            assert bool((block(x) == x).all())
    norms = [m for m in model.sublayers() if isinstance(m, paddle.nn.BatchNorm2D)]
    without_gain = [m for m in norms if not m.weight.any()]
    assert len(without_gain) == sum(block.shortcut for block in blocks) == 6


def test_stochastic_depth_drops_whole_samples_in_training_only():
    model = create_model("mobilenet_v3_small", 2)
    block = next(m for m in model.sublayers() if isinstance(m, InvertedResidual) and m.shortcut)
    for layer in block.sublayers():
        layer.eval()  # batch norm on its running statistics: samples do not depend on each other
    paddle.seed(0)
    x = paddle.randn([400, block.block[0][0].weight.shape[1], 4, 4])
    block.eval()
    branch = (block(x) - x).numpy()
    block.drop_path = 0.25
    assert np.array_equal((block(x) - x).numpy(), branch)
    block.training = True
    paddle.seed(1)
    dropped = (block(x) - x).numpy()
    gone = np.abs(dropped).max(axis=(1, 2, 3)) == 0
    assert abs(gone.mean() - 0.25) < 0.09  # 4 deviations of 400 draws
    # What stays is 1 / 0.75 of the branch; float32 rounding of x + y - x.
    assert np.abs(dropped[~gone] - branch[~gone] / 0.75).max() < 1e-5
    paddle.seed(1)
    assert np.array_equal((block(x) - x).numpy(), dropped)
