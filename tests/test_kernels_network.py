"""Whole networks in the training kernels: against float64, Paddle's layers and other processes."""

import os
import subprocess
import sys

import numpy as np
import paddle
import pytest
from conftest import ROOT
from float64_reference import Reference, compare, distance, randomised, step
from paddle import nn

from ppcls_lite import create_model
from ppcls_lite.arch.count import count_operations
from ppcls_lite.benchmark.stages import profile
from ppcls_lite.data.dataset import open_split
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.engine import evaluate
from ppcls_lite.engine.distributed import World
from ppcls_lite.engine.log import RunLog
from ppcls_lite.engine.settings import EvaluationSettings
from ppcls_lite.kernels.accelerate import accelerate
from ppcls_lite.kernels.calls import Kernels
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.slim.fpgm import prune
from ppcls_lite.slim.pact import PactConv2D, quantize, replace_layer

# As far as Paddle's own layers are from float64 in these networks, measured 1e-6 to 2e-5.
ROUNDING = 5e-5

pytestmark = pytest.mark.slow  # every test takes a training step of a whole network, or several


@pytest.mark.parametrize(
    ("name", "size", "overrides"),
    [
        ("mobilenet_v3_large", 64, {}),
        ("tf_efficientnet_lite0", 63, {}),  # TensorFlow's padding depends on the parity
        ("showlo_mobilenetv3_small", 64, {}),  # gates before the activation
        ("mobilenet_v3_small", 32, {"small_input": True}),
        ("mnasnet_small", 32, {"small_input": True}),  # gates of sigmoids
        # Odd widths, as pruning leaves them; 45 is two vectors of 16, one of 8 and 5 single lanes.
        ("mobilenet_v3_small", 64, {"expanded": (16, 45, 51, 77, 3, 239, 101, 99, 201, 333, 7)}),
    ],
)
def test_kernels_are_as_close_to_float64_as_stock_is(name, size, overrides):
    """On the same side of every kink; docs/measurements/kernels.md has all networks."""
    found = compare(name, 6, size, **overrides)
    for what in ("same", "statistics"):
        stock, ours = found[what]
        assert ours <= max(1.5 * stock, ROUNDING if what == "same" else 1e-7), found


def test_gradients_repeat_to_the_bit_and_accumulate_as_sums():
    reference = Reference("mobilenet_v3_small", 6, 64)
    model = reference.make()
    model.set_state_dict(reference.state)
    net = accelerate(model, Kernels(2))
    grads = []
    for count in (1, 1, 2):
        model.clear_gradients()
        model.set_state_dict(reference.state)  # the running statistics as well
        for _ in range(count):
            gradients, _ = step(net, model, reference.images, reference.labels)
        grads.append(gradients)
    once, again, twice = grads
    assert all(np.array_equal(once[k], again[k]) for k in once)
    assert all(np.array_equal(2 * once[k], twice[k]) for k in once)  # g + g rounds nothing


def test_images_that_ask_for_a_gradient_get_it():
    """As what attacks and saliency maps do; the stem's kernel alone has none for them."""
    reference = Reference("mobilenet_v3_small", 4, 32)
    found = []
    for wrap in (lambda model: model, lambda model: accelerate(model, Kernels(2))):
        model = reference.make()
        model.set_state_dict(reference.state)
        images = reference.images.clone().detach()
        images.stop_gradient = False
        nn.functional.cross_entropy(wrap(model)(images), reference.labels).backward()
        found.append(images.grad.numpy())
    stock, ours = found
    assert np.abs(stock).max() > 0
    # Kinks may fall on the other side; memory that nobody wrote is off by more.
    np.testing.assert_allclose(ours, stock, rtol=0, atol=0.02 * np.abs(stock).max())


def test_a_profile_covers_all_that_a_step_multiplies_and_changes_no_bit():
    """A network without squeeze-excite, whose products a profile leaves out."""
    reference = Reference("mnasnet0_5", 2, 64)
    model = reference.make()
    model.set_state_dict(reference.state)
    net = accelerate(model, Kernels(2))
    found = []

    def train():
        model.clear_gradients()
        model.set_state_dict(reference.state)
        found.append(step(net, model, reference.images, reference.labels)[0])

    train()
    rows = profile(train, {"run": (net, "run")}, 2)
    assert all(np.array_equal(found[0][k], again[k]) for again in found[1:] for k in found[0])
    forward, backward = (
        [row for row in rows if row.get("direction") == direction]
        for direction in ("forward", "backward")
    )
    assert all(row["seconds"] > 0 for row in forward + backward)
    macs = 2 * count_operations(model, 64).macs
    assert sum(row["flops"] for row in forward) == 2 * macs
    stem = forward[0]  # has no gradient of its input
    assert stem["part"] == "stem"
    assert sum(row["flops"] for row in backward) == 4 * macs - stem["flops"]
    assert [row["stage"] for row in rows[-2:]] == ["run", "Python, loss and the rest"]


TWO_PROCESSES = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
from ppcls_lite.environment import leave, load_paddle
paddle = load_paddle()
import numpy as np
from float64_reference import Reference, step
from ppcls_lite.engine.distributed import average_gradients, start_world
from ppcls_lite.kernels.accelerate import accelerate
from ppcls_lite.kernels.calls import Kernels

world = start_world("cpu")
reference = Reference("mobilenet_v3_small", 8, 32)
model = reference.make()
model.set_state_dict(reference.state)
net = accelerate(model, Kernels(1))
mine = slice(4 * world.rank, 4 * world.rank + 4)
step(net, model, reference.images[mine], reference.labels[mine])
average_gradients(model, world)
if world.is_main:
    trained = [(k, p) for k, p in model.named_parameters() if not p.stop_gradient]
    np.savez({out!r}, **{{k: p.grad.numpy().astype(np.float64) for k, p in trained}})
leave(0)
"""


def test_two_processes_average_the_gradients_of_their_halves(tmp_path):
    script, out = tmp_path / "two.py", tmp_path / "two.npz"
    tests = os.path.dirname(__file__)
    script.write_text(TWO_PROCESSES.format(root=str(ROOT), tests=tests, out=str(out)))
    command = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node=2", script]
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=200, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    reference = Reference("mobilenet_v3_small", 8, 32)
    model = reference.make()
    halves = []
    for half in (slice(0, 4), slice(4, 8)):
        model.set_state_dict(reference.state)
        model.clear_gradients()
        net = accelerate(model, Kernels(1))
        halves.append(step(net, model, reference.images[half], reference.labels[half])[0])
    together = {k: (halves[0][k] + halves[1][k]) / 2 for k in halves[0]}
    # Averaging rounds once, 3e-8 of the size; the halves themselves are the same bits.
    assert distance(dict(np.load(out)), together) < 1e-7


def test_a_second_import_does_not_take_paddles_threads_for_the_users():
    """Finding weights loads paddle again, which has set OMP_NUM_THREADS to 1 by then."""
    names = ("OMP_NUM_THREADS", "PPCLS_LITE_KERNEL_THREADS")
    environment = {k: v for k, v in os.environ.items() if k not in names}
    code = (
        "from ppcls_lite.environment import cpu_cores, kernel_threads, load_paddle\n"
        "load_paddle(); load_paddle()\n"
        "print(kernel_threads(), cpu_cores())"
    )
    command = [sys.executable, "-c", code]
    for asked in ("", "3"):
        variables = environment | ({"OMP_NUM_THREADS": asked} if asked else {})
        done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        threads, cores = done.stdout.split()[-2:]
        assert threads == (asked or cores)


@pytest.mark.parametrize("engine", ["auto", "exported", "dygraph"])
def test_what_trains_a_network_evaluates_it_unless_another_engine_is_asked_for(
    engine, pictures, monkeypatch
):
    """Against Paddle's own layers; no predictor is made, each of which keeps 0.25 MB for good."""
    made = []
    monkeypatch.setattr(evaluate, "PaddleInferenceRuntime", lambda file: made.append(file))
    monkeypatch.setattr(evaluate, "FEWEST", 1)
    paddle.seed(0)
    model = create_model("mobilenet_v3_small", 3, width=0.5)
    randomised(model)
    model.train()
    before = {k: v.numpy() for k, v in model.state_dict().items()}
    config = EvaluationSettings(eval_engine=engine, workers=0, batch_size=8)
    info = ModelInfo("mobilenet_v3_small", 3, preprocess=Preprocess(36, 32))
    run = evaluate.build_evaluation(
        model, open_split(str(pictures), "val"), info, config, World(0, 1, "cpu"), RunLog(None),
        trained=accelerate(model, Kernels(2)),
    )  # fmt: skip
    images = np.random.RandomState(0).standard_normal((5, 3, 48, 48)).astype(np.float32)
    assert (run.kernels is not None) == (engine == "auto")
    assert (run.graph is not None) == (engine == "exported")
    if engine == "auto":
        expected = run.dygraph(images)
        model.train()  # as an epoch leaves it
        assert np.abs(run.kernels(images) - expected).max() < 1e-5 * np.abs(expected).max()
        assert run().count == 21 and not made
    assert all(np.array_equal(before[k], v.numpy()) for k, v in model.state_dict().items())
    bf16 = accelerate(model, Kernels(2))
    bf16.kernels = Kernels(2, bf16=True)
    again = evaluate.build_evaluation(
        model, run.loader.dataset, info, config, run.world, run.log, trained=bf16
    )
    assert again.kernels is None  # bfloat16 changes answers


def test_a_pruned_network_trains_in_the_kernels():
    paddle.seed(0)
    whole = create_model("mobilenet_v3_small", 10, dropout=0.0)
    model, info = prune(whole, ModelInfo("mobilenet_v3_small", 10), 0.3)
    widths = info.overrides["expanded"]
    assert any(width % 8 for width in widths)
    model.classifier[2].p = 0.0  # dropout
    net = accelerate(model, Kernels(2))
    assert all(piece.fused for piece in net.pieces), net.summary()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    images, labels = paddle.randn([4, 3, 64, 64]), paddle.arange(4)
    ours, _ = step(net, model, images, labels)
    model.clear_gradients()
    model.set_state_dict(state)
    stock, _ = step(model, model, images, labels)
    assert distance(ours, stock) < 1e-2  # a kink; rounding alone is 1e-6


def test_layers_of_8_bits_stay_stock_and_the_blocks_around_them_do_not():
    paddle.seed(0)
    model = create_model("mobilenet_v3_small", 10, dropout=0.0)
    randomised(model)
    for name in ("features.2.block.1.0", "features.4.block.2.fc1"):  # depthwise, squeeze-excite
        conv = dict(model.named_sublayers())[name]
        replace_layer(model, name, PactConv2D(conv))
    net = accelerate(model, Kernels(2))
    stock = {piece.name: piece.reason for piece in net.pieces if not piece.fused}
    assert stock.keys() == {"block 1", "block 3"} and "PactConv2D" not in stock["block 3"]
    images, labels = paddle.randn([4, 3, 64, 64]), paddle.arange(4)
    results = []
    for forward in (model, net, model, net):  # the first round sets the thresholds
        state = {k: v.clone() for k, v in model.state_dict().items() if "alpha" not in k}
        results.append(step(forward, model, images, labels)[0])
        model.clear_gradients()
        model.set_state_dict(state)
    assert distance(results[3], results[2]) < 0.1  # one value rounded to the next of 255 steps
    whole = create_model("mobilenet_v3_small", 10)
    quantize(whole, ())
    with pytest.raises(Exception, match="no part fits: stem: has PactConv2D"):
        accelerate(whole, Kernels(2))


@pytest.mark.parametrize("of", ["fc1.weight", "fc2.bias"])
def test_squeeze_excite_in_another_precision_stays_stock(of):
    model = create_model("mobilenet_v3_small", 10)
    layer, kind = of.split(".")
    conv = getattr(model.features[1].block[1], layer)
    double = getattr(conv, kind).astype("float64")
    setattr(conv, kind, conv.create_parameter(double.shape, dtype="float64"))
    net = accelerate(model, Kernels(2))
    assert [p.reason for p in net.pieces if not p.fused] == ["its weights are not float32"]


def masks(name, poison, frozen):
    """Where logits, gradients and running statistics of stock and kernels are no finite numbers."""
    paddle.seed(0)
    model = create_model(name, 10, dropout=0.0)
    randomised(model)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    images = paddle.randn([4, 3, 64, 64])
    clean = images.clone()
    images[1, 0, 20, 20] = poison
    found = []
    net = accelerate(model, Kernels(2))
    for forward, batch in ((model, images), (net, images), (net, clean)):
        model.train()
        for layer in model.sublayers():
            if frozen and isinstance(layer, nn.BatchNorm2D):
                layer.eval()
        logits = forward(batch)
        logits.sum().backward()
        arrays = {"logits": logits.numpy()}
        arrays |= {f"d {k}": p.grad.numpy() for k, p in model.named_parameters() if p.trainable}
        arrays |= {k: v.numpy() for k, v in model.state_dict().items() if k.endswith("_mean")}
        found.append(arrays)
        model.clear_gradients()
        model.set_state_dict(state)
    return found


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["mobilenet_v3_small", "mnasnet0_5", "tf_efficientnet_lite0"])
def test_no_number_spreads_as_far_as_in_stock_layers(name, poison):
    for frozen in (False, True):
        stock, ours, clean = masks(name, poison, frozen)
        for k in stock:
            # Paddle's ReLU makes 0 of NaN, where IEEE 754 and these kernels keep it: so ours are
            # at least as many.
            assert not np.isfinite(ours[k][~np.isfinite(stock[k])]).any(), (k, frozen)
        if not frozen or np.isnan(poison):  # ReLU6 makes a number of infinity
            assert not np.isfinite(ours["logits"][1]).all()
        if frozen:  # the other pictures do not notice
            others = [0, 2, 3]
            assert np.array_equal(ours["logits"][others], clean["logits"][others])
