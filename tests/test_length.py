"""--early-stop and --max-minutes: the same end with the same bits, whenever a run was killed."""

import json
import shutil
from dataclasses import replace

import pytest
from conftest import same_weights, train
from test_engine import frozen_network, make_run

from ppcls_lite.engine.checkpoint import Progress
from ppcls_lite.engine.length import fix_length, goes_on, schedule_epoch, total_epochs
from ppcls_lite.engine.log import RunLog
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.optimizer.schedule import lr_at


def state_of(path):
    return json.loads(path.with_suffix(".json").read_text())


def test_a_run_ends_after_epochs_without_gain_killed_or_not(pictures, tmp_path):
    # At a rate of 0 nothing can gain; of equal epochs the later is the best one all the same.
    flags = ("--epochs=9", "--lr=0", "--early-stop=2", "--keep-checkpoints=0")
    done = train(pictures, tmp_path / "a", *flags)
    assert done.returncode == 0, done.stderr
    assert "no better val top1 in 2 epochs" in done.stdout
    state = state_of(tmp_path / "a/latest.pdparams")["progress"]
    # Batch norm's statistics do change, so the first epoch need not be the last to gain.
    assert state["epoch"] == state["gain_epoch"] + 3 < 9
    again = train(pictures, tmp_path / "b", f"--resume={tmp_path / 'a/model_0.pdparams'}", "--lr=0")
    assert again.returncode == 0, again.stderr
    assert same_weights(tmp_path / "a/latest.pdparams", tmp_path / "b/latest.pdparams")
    over = train(pictures, tmp_path / "a", "--resume=auto")
    assert over.returncode == 0 and "[Epoch" not in over.stdout


@pytest.fixture
def run():
    run = make_run(frozen_network(), 1, epochs=10, max_minutes=1.0, lr_scheduler="cosine", lr=1.0)
    return replace(run, log=RunLog(None))


def test_the_number_of_epochs_is_fixed_once_by_the_first(run):
    assert total_epochs(run.config, run.progress) == 10
    fix_length(run, 15.5, 1.0)  # three such in a minute
    assert run.progress.epochs == 3
    fix_length(run, 0.1, 0.01)
    assert run.progress.epochs == 3
    run.progress.epoch = 3
    assert not goes_on(run)
    for seconds, epochs in ((600.0, 1), (0.001, 10)):
        run.progress.epoch = run.progress.epochs = 0
        fix_length(run, seconds, 0.0)
        assert run.progress.epochs == epochs


@pytest.mark.parametrize(
    ("setup", "calibrate", "epochs"), [(0.0, False, 6), (20.0, False, 4), (20.0, True, 3)]
)
def test_what_comes_before_and_after_the_epochs_is_of_the_time(run, setup, calibrate, epochs):
    run = replace(run, config=replace(run.config, calibrate=calibrate))
    run.progress.setup = setup
    fix_length(run, 10.0, 5.0)  # an epoch, and its evaluation
    assert run.progress.epochs == epochs


def test_the_schedule_is_drawn_together():
    config, fixed = TrainConfig(epochs=10, lr_scheduler="cosine", lr=1.0), Progress(epochs=4)
    shorter = replace(config, epochs=4)
    for epoch in (0.0, 1.0, 2.5, 3.9):
        at = lr_at(schedule_epoch(epoch, config, fixed), config.epochs, config, 1.0)
        assert at == pytest.approx(lr_at(epoch, 4, shorter, 1.0))
    assert schedule_epoch(2.5, config, Progress()) == 2.5


def test_a_run_with_a_time_goes_on_to_the_same_bits(pictures, tmp_path):
    flags = ("--max-minutes=60", "--lr-scheduler=cosine", "--keep-checkpoints=0")
    done = train(pictures, tmp_path / "a", "--epochs=4", *flags)
    assert done.returncode == 0 and "4 epochs in --max-minutes 60" in done.stdout, done.stderr
    # As if the first epoch had left time for one more.
    cut = tmp_path / "cut"
    cut.mkdir()
    for suffix in (".pdparams", ".pdopt", ".json"):
        shutil.copy(tmp_path / f"a/model_0{suffix}", cut)
    state = state_of(cut / "model_0.pdparams")
    state["progress"]["epochs"] = 3
    (cut / "model_0.json").write_text(json.dumps(state))
    for name, start in (("b", cut / "model_0.pdparams"), ("c", tmp_path / "b/model_1.pdparams")):
        done = train(pictures, tmp_path / name, f"--resume={start}")
        assert done.returncode == 0, done.stderr
        assert state_of(tmp_path / name / "latest.pdparams")["progress"]["epoch"] == 3
    assert same_weights(tmp_path / "b/latest.pdparams", tmp_path / "c/latest.pdparams")
    rates = [
        [row["lr"] for row in map(json.loads, (tmp_path / n / "metrics.jsonl").open())
         if row["event"] == "train" and row["epoch"] == 1]
        for n in ("a", "b")
    ]  # fmt: skip
    assert all(b < a for a, b in zip(*rates, strict=True))
