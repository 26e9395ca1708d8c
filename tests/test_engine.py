"""The optimizer step against arithmetic, two processes against one, wrong exported graphs."""

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle
import pytest
from conftest import ROOT, TINY_FLAGS, run_tool, train, workers_of

from ppcls_lite import create_model
from ppcls_lite.data.loader import Batch
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.engine.checkpoint import Progress
from ppcls_lite.engine.distributed import World
from ppcls_lite.engine.evaluate import checked
from ppcls_lite.engine.log import RunLog
from ppcls_lite.engine.plan import lr_line
from ppcls_lite.engine.run import Diverged, Run
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.engine.train import finish_epoch, train_batch, train_one_epoch
from ppcls_lite.metric import Accuracy
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.optimizer.optimizers import build_optimizer


def make_run(model, batches, world=None, **settings):
    """A run over `batches` batches whose parts around the optimizer step are left out."""
    config = TrainConfig(**settings)
    world = world or World(0, 1, "cpu")
    info = ModelInfo("mobilenet_v3_small", 5, preprocess=Preprocess(36, 32))
    return Run(
        config=config,
        info=info,
        whole=info,
        model=model,
        loaded=None,
        parallel=model,
        kernels="",
        optimizer=build_optimizer(model, config),
        scaler=paddle.amp.GradScaler(enable=False),
        loader=[None] * batches,
        evaluate=None,
        progress=Progress(),
        world=world,
        log=None,
        stop=None,
        folder=Path(),
    )


def batches(count, size):
    draws = np.random.RandomState(3)
    for _ in range(count):
        images = draws.randint(0, 256, (size, 32, 32, 3), np.uint8)
        yield Batch(images, draws.randint(0, 5, size), np.arange(size))


def frozen_network():
    """The real network with batch norm on its running statistics and no dropout: then, and only
    then, a batch's gradient is the mean of its samples' gradients."""
    paddle.seed(0)
    model = create_model("mobilenet_v3_small", 5, width=0.35)
    model.eval()
    return model


def joined(parts):
    parts = list(parts)
    return Batch(
        *(np.concatenate([getattr(p, f) for p in parts]) for f in ("images", "labels", "indices"))
    )


def weights(model):
    return {name: value.numpy() for name, value in model.state_dict().items()}


def assert_close(a, b):
    for name in a:
        # Sums of a batch in another order: float32 rounding, 1e-7 of the largest value, grown by
        # the lr of 1 and four sums of products on the way.
        limit = 2e-5 * max(1.0, np.abs(b[name]).max())
        assert np.abs(a[name] - b[name]).max() <= limit, name


def test_four_accumulated_batches_step_like_one_of_four_times_the_size():
    accumulated, whole = frozen_network(), frozen_network()
    parts = list(batches(4, 2))
    run = make_run(accumulated, 4, gradient_accumulation_steps=4, lr=1.0)
    stepped = [train_batch(run, part)[2] for part in parts]
    assert stepped == [False, False, False, True] and run.progress.step == 1
    train_batch(make_run(whole, 1, lr=1.0), joined(parts))
    assert_close(weights(accumulated), weights(whole))


def test_an_incomplete_group_at_the_end_of_an_epoch_steps_with_what_it_has():
    accumulated, whole = frozen_network(), frozen_network()
    parts = list(batches(3, 2))
    run = make_run(accumulated, 3, gradient_accumulation_steps=2, lr=1.0)
    assert [train_batch(run, part)[2] for part in parts] == [False, True, True]
    run = make_run(whole, 2, lr=1.0)
    train_batch(run, joined(parts[:2]))
    train_batch(run, parts[2])
    assert_close(weights(accumulated), weights(whole))


def test_the_norm_of_the_whole_gradient_is_clipped():
    model, limit = frozen_network(), 0.01
    before = weights(model)
    run = make_run(model, 1, lr=1.0, momentum=0.0, weight_decay=0.0, clip_grad_norm=limit,
                   norm_weight_decay=1e-30)  # fmt: skip  # two parameter groups
    train_batch(run, next(batches(1, 4)))
    after = weights(model)
    moved = [np.square(after[n] - before[n], dtype=np.float64).sum() for n in before]
    assert np.sqrt(sum(moved)) == pytest.approx(limit, rel=1e-3)  # differences of float32 weights


class Batches:
    """A loader over batches that are already there."""

    def __init__(self, batches):
        self.batches = list(batches)

    def __len__(self):
        return len(self.batches)

    def epoch(self, epoch, start_batch=0):
        return iter(self.batches[start_batch:])


def test_a_stop_does_not_save_weights_that_are_no_numbers():
    """The log line that would notice is far away; the stop has to look for itself."""
    model = frozen_network()
    run = make_run(model, 4, lr=1e30, print_freq=1000)
    run = replace(run, loader=Batches(batches(4, 2)), log=RunLog(None), stop=StopAfter(3))
    with pytest.raises(Diverged):
        train_one_epoch(run)


class StopAfter:
    """A stop request that comes after some steps."""

    def __init__(self, steps):
        self.left = steps

    @property
    def signal(self):
        self.left -= 1
        return signal.SIGTERM if self.left <= 0 else None


def test_an_evaluation_that_is_no_number_is_neither_best_nor_saved(tmp_path):
    run = replace(make_run(frozen_network(), 1), folder=tmp_path, log=RunLog(None))
    accuracy = Accuracy(5)
    accuracy.add(np.full((2, 5), np.nan), np.array([0, 1]))
    with pytest.raises(Diverged, match="validation loss nan after epoch 0"):
        finish_epoch(run, accuracy)
    assert not list(tmp_path.iterdir()) and run.progress.best_score is None


def test_label_smoothing_is_the_mixture_with_the_uniform_distribution():
    model = frozen_network()
    batch = next(batches(1, 4))
    loss, logits, _ = train_batch(make_run(model, 1, label_smoothing=0.1, lr=0.0), batch)
    log_p = logits.numpy() - np.log(np.exp(logits.numpy()).sum(axis=1, keepdims=True))
    own = log_p[np.arange(4), batch.labels]
    assert loss.item() == pytest.approx(-np.mean(0.9 * own + 0.1 * log_p.mean(axis=1)), rel=1e-5)


def test_a_scaled_rate_is_used_and_shown():
    run = make_run(frozen_network(), 1, lr=0.1, batch_size=64, lr_scale_batch=256,
                   lr_scheduler="cosine")  # fmt: skip
    assert lr_line(run) == "0.025 = 0.1 x 64 / 256, cosine schedule"
    train_batch(run, next(batches(1, 2)))
    assert run.optimizer.get_lr() == pytest.approx(0.025)


TWO_PROCESSES = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
from ppcls_lite.environment import leave, load_paddle
paddle = load_paddle()
import numpy as np
from test_engine import batches, frozen_network, joined, make_run, weights
from ppcls_lite.data.loader import Batch
from ppcls_lite.engine.distributed import share_statistics, start_world
from ppcls_lite.engine.train import train_batch

world = start_world("cpu")
run = make_run(frozen_network(), 4, world, lr=1.0, gradient_accumulation_steps=2)
for whole in batches(4, 4):
    mine = slice(world.rank, None, world.size)
    train_batch(run, Batch(whole.images[mine], whole.labels[mine], whole.indices[mine]))
if world.is_main:
    np.savez({out!r}, **weights(run.model))

shared = dict()
state = run.model.state_dict()
for how in ("broadcast", "reduce"):
    for name, tensor in state.items():
        tensor.set_value(np.full(tensor.shape, 1.0 + 2 * world.rank, np.float32))
    share_statistics(state, world, how)
    kept = [(n.rpartition(".")[2], sorted(set(t.numpy().ravel()))) for n, t in state.items()]
    shared[how] = sorted(set((n, *map(float, values)) for n, values in kept))
with open({out!r} + str(world.rank), "w") as file:
    print(shared, file=file)
leave(0)
"""


def launch(*argv, cwd, timeout=200):
    command = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node=2", *argv]
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=timeout, env=environment
    )


def test_two_processes_average_to_one_with_the_double_batch(tmp_path):
    script, out = tmp_path / "two.py", tmp_path / "two.npz"
    tests = str(Path(__file__).parent)
    script.write_text(TWO_PROCESSES.format(root=str(ROOT), tests=tests, out=str(out)))
    done = launch(str(script), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    one = frozen_network()
    run = make_run(one, 4, lr=1.0, gradient_accumulation_steps=2)
    for whole in batches(4, 4):
        train_batch(run, whole)
    assert_close(dict(np.load(out)), weights(one))
    # Every rank filled its state with 1 + 2 x rank: the statistics are shared, the weights left.
    for rank in (0, 1):
        own = 1.0 + 2 * rank
        shared = ast.literal_eval((tmp_path / f"two.npz{rank}").read_text())
        for how, expected in (("broadcast", 1.0), ("reduce", 2.0)):
            statistics = [("_mean", expected), ("_variance", expected)]
            assert shared[how] == [*statistics, ("bias", own), ("weight", own)]


def test_launched_training_evaluates_every_picture_once(pictures, tmp_path):
    flags = (
        f"--data-path={pictures}", f"--output-dir={tmp_path}/out", *TINY_FLAGS, "--batch-size=4",
    )  # fmt: skip
    done = launch(str(ROOT / "train.py"), *flags, "--epochs=2", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    logs = [(tmp_path / f"log/workerlog.{rank}").read_text() for rank in (0, 1)]
    # 21 pictures a rank: five batches of four; one alone has no batch statistics and is left out.
    assert "4 per device x 2 x 1 accumulated = 8; 5 steps per epoch" in logs[0]
    assert "[Epoch" not in logs[1], "only rank 0 speaks"
    printed = [line for line in logs[0].splitlines() if line.startswith(" * Acc@1")]
    # The same weights on one process: 21 pictures do not divide by two, yet each counts once.
    single = run_tool(
        "train.py", "--test-only", f"--data-path={pictures}", "--device=cpu",
        f"--pretrained={tmp_path}/out/latest.pdparams",
    )  # fmt: skip
    assert single.stdout.splitlines()[-1] == printed[-1]


def test_a_launched_training_stops_on_sigterm_with_a_checkpoint(pictures, tmp_path):
    command = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node=2",
               str(ROOT / "train.py"), f"--data-path={pictures}", f"--output-dir={tmp_path}/out",
               *TINY_FLAGS, "--epochs=200", "--print-freq=1000"]  # fmt: skip
    process = subprocess.Popen(command, cwd=tmp_path, start_new_session=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    log = tmp_path / "log/workerlog.0"
    for _ in range(3000):  # two processes start slowly on a busy machine
        if process.poll() is not None or (log.exists() and "[Epoch 1, iter" in log.read_text()):
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=60)
    for _ in range(100):
        if not workers_of(process.pid):
            break
        time.sleep(0.1)
    assert not workers_of(process.pid)
    assert re.search(r"stopped by SIGTERM; saved \S+latest\.pdparams", log.read_text())
    assert json.loads((tmp_path / "out/latest.json").read_text())["progress"]["epoch"] >= 1


COMMON_SEED = """
import sys
sys.path[:0] = [{root!r}]
from ppcls_lite.environment import load_paddle
load_paddle()
from ppcls_lite.engine.resolve import common_seed
from ppcls_lite.engine.distributed import start_world

world = start_world("cpu")
open(f"{out}/seed-{{world.rank}}", "w").write(str(common_seed(world)))
"""


def test_without_a_seed_all_ranks_draw_the_same(tmp_path):
    """Else they would cut different permutations, and share neither order nor pictures."""
    script = tmp_path / "seed.py"
    script.write_text(COMMON_SEED.format(root=str(ROOT), out=str(tmp_path)))
    done = launch(str(script), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    seeds = [(tmp_path / f"seed-{rank}").read_text() for rank in (0, 1)]
    assert seeds[0] == seeds[1] != "0"


def test_an_exported_graph_that_answers_differently_is_not_used(capsys):
    def reference(images):
        return images.mean(axis=(2, 3))

    log, images = RunLog(None), np.random.RandomState(0).random((9, 3, 2, 2))
    good = checked(lambda x: reference(x) + 1e-6, reference, log)
    assert (good(images) == reference(images) + 1e-6).all() and capsys.readouterr().out == ""
    for wrong in (1e-2, np.nan):
        bad = checked(lambda x, by=wrong: reference(x) + by, reference, log)
        assert (bad(images) == reference(images)).all() and (bad(images) == bad(images)).all()
        assert capsys.readouterr().out.count("evaluating with dygraph") == 1


def test_broken_pictures_stop_or_are_skipped_counted_and_listed(pictures, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(pictures, data)
    (data / "train/red/bad.png").write_bytes(b"no picture")
    (data / "val/red/bad.png").write_bytes(b"no picture")
    stopped = train(data, tmp_path / "a", "--epochs=1")
    assert stopped.returncode == 2 and f"{data}/train/red/bad.png" in stopped.stderr
    skipped = train(data, tmp_path / "b", "--epochs=1", "--on-error=skip")
    assert skipped.returncode == 0, skipped.stderr
    for split in ("train", "val"):
        assert f"skipped broken image {data}/{split}/red/bad.png" in skipped.stdout
