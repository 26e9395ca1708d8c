"""Going on: to the bit after any end, never under settings that would break it, nothing lost."""

import json
import os
import re
import shutil
import signal
import time

import numpy as np
import pytest
from conftest import no_process_is_left, run_tool, same_weights, start, train, wait_for

from ppcls_lite.weights.formats import read_weights


def test_two_epochs_and_resume_equal_four(straight, pictures, tmp_path):
    out, _ = straight
    # The schedule's length must be the same from the start; the run is stopped by moving files.
    for name in ("model_0", "model_1"):
        for suffix in (".pdparams", ".pdopt", ".json"):
            shutil.copy(out / f"{name}{suffix}", tmp_path)
    done = run_tool("train.py", "--resume=auto", f"--output-dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "[Epoch 2, iter: 1]" in done.stdout and "[Epoch 1, iter: 1]" not in done.stdout
    assert same_weights(out / "model_3.pdparams", tmp_path / "model_3.pdparams")


def test_sigkill_in_an_epoch_and_resume_arrive_at_the_same_bits(straight, pictures, tmp_path):
    out, _ = straight
    process = start(pictures, tmp_path, "--epochs=4")
    wait_for(process, "[Epoch 2, iter: 3]")
    process.kill()
    process.wait()
    assert no_process_is_left(process.pid), "workers outlived the training"
    done = run_tool("train.py", f"--resume={tmp_path}/latest.pdparams")
    assert done.returncode == 0, done.stderr
    assert same_weights(out / "model_3.pdparams", tmp_path / "model_3.pdparams")


@pytest.mark.parametrize(
    ("number", "status", "to_group"), [(signal.SIGINT, 130, True), (signal.SIGTERM, 143, False)]
)
def test_a_stop_saves_says_how_to_go_on_and_leaves_nothing_behind(
    straight, pictures, tmp_path, number, status, to_group
):
    out, _ = straight
    process = start(pictures, tmp_path, "--epochs=4")
    wait_for(process, "[Epoch 1, iter: 1]")
    # Ctrl-C on a terminal reaches the whole group, `kill` only the process.
    (os.killpg if to_group else os.kill)(process.pid, number)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == status, text
    assert "Traceback" not in text
    command = re.search(r"next: python (train.py --resume \S+)", text).group(1).split()
    assert no_process_is_left(process.pid)
    state = json.loads((tmp_path / "latest.json").read_text())["progress"]
    assert state["epoch"] == 1 and 1 <= state["batch"] <= 6
    done = run_tool(*command)
    assert done.returncode == 0, done.stderr
    assert same_weights(out / "model_3.pdparams", tmp_path / "model_3.pdparams")


def test_a_finished_run_says_so_and_how_it_goes_on(straight, tmp_path):
    out = shutil.copytree(straight[0], tmp_path / "run")
    before = {path.name: path.read_bytes() for path in out.glob("*.pd*")}
    done = run_tool("train.py", f"--resume={out}/latest.pdparams", f"--output-dir={out}")
    assert done.returncode == 0, done.stderr
    assert "all 4 epochs are done, nothing is left to train" in done.stdout
    assert f"next: python train.py --resume {out}/latest.pdparams --epochs 5\n" in done.stdout
    assert {path.name: path.read_bytes() for path in out.glob("*.pd*")} == before


def test_a_truncated_latest_is_named_and_an_older_one_is_used(straight, tmp_path):
    out, _ = straight
    shutil.copytree(out, tmp_path / "run")
    for name in ("latest", "best", "model_3"):
        path = tmp_path / "run" / f"{name}.pdparams"
        path.write_bytes(path.read_bytes()[:1000])
    done = run_tool("train.py", "--resume=auto", f"--output-dir={tmp_path}/run")
    assert done.returncode == 0, done.stderr
    assert re.search(r"passed over: \S+model_3\.pdparams \(1000 bytes\) is damaged", done.stdout)
    assert "[Epoch 3, iter: 1]" in done.stdout
    assert same_weights(out / "model_3.pdparams", tmp_path / "run" / "model_3.pdparams")


def test_nan_loss_stops_with_advice_and_keeps_the_last_good_checkpoint(straight, tmp_path):
    out, _ = straight
    for suffix in (".pdparams", ".pdopt", ".json"):
        shutil.copy(out / f"model_0{suffix}", tmp_path / f"latest{suffix}")
    done = run_tool("train.py", f"--resume={tmp_path}/latest.pdparams", "--lr=1e30")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "learning rate 1e+30 is too high" in done.stdout
    next_run = f"next: python train.py --resume {tmp_path}/latest.pdparams --lr 1e+29"
    assert next_run in done.stdout
    assert all(np.isfinite(a).all() for a in read_weights(tmp_path / "latest.pdparams").values())
    assert json.loads((tmp_path / "latest.json").read_text())["progress"]["epoch"] == 1


def test_going_back_to_an_older_checkpoint_gives_up_the_later_ones(straight, tmp_path):
    """`auto` must then go on with the new branch, and nothing of the old one is lost."""
    out, _ = straight
    run = tmp_path / "run"
    shutil.copytree(out, run)
    done = run_tool("train.py", f"--resume={run}/model_0.pdparams", "--lr=0.001", "--epochs=2")
    assert done.returncode == 0, done.stderr
    assert sorted(p.stem for p in run.glob("model_*.pdparams")) == ["model_0", "model_1"]
    assert same_weights(out / "model_3.pdparams", run / "previous-1/model_3.pdparams")
    again = run_tool("train.py", "--resume=auto", f"--output-dir={run}", "--epochs=3")
    assert "[Epoch 2, iter: 1]" in again.stdout and "lr: 0.00100" in again.stdout
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps) and steps[-1] == 18


def test_resuming_into_the_folder_of_another_run_moves_that_one_aside(straight, tmp_path):
    out, _ = straight
    shutil.copytree(out, tmp_path / "other")
    flags = (f"--resume={out}/model_2.pdparams", f"--output-dir={tmp_path}/other")
    done = run_tool("train.py", *flags)
    assert done.returncode == 0, done.stderr
    assert same_weights(out / "model_3.pdparams", tmp_path / "other/model_3.pdparams")
    assert not (tmp_path / "other/model_1.pdparams").exists()
    assert same_weights(out / "best.pdparams", tmp_path / "other/previous-1/best.pdparams")


@pytest.fixture(scope="module")
def stopped_inside_an_epoch(pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("stopped")
    process = start(pictures, out, "--epochs=4")
    wait_for(process, "[Epoch 0, iter: 1]")
    process.terminate()
    process.communicate(timeout=60)
    return out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--batch-size=4"], "batches of 4 x 1"),
        (["--gradient-accumulation-steps=2"], "2 accumulated"),
        (["--opt=adamw"], "holds the state of sgd"),
        (["--width=0.75"], "overrides: {'width': 0.5} -> {'width': 0.75}"),
        (["--seed=2"], "the run to resume has seed 1"),
    ],
)
def test_a_run_does_not_go_on_under_settings_that_would_break_it(
    stopped_inside_an_epoch, flags, message
):
    latest = stopped_inside_an_epoch / "latest.pdparams"
    done = run_tool("train.py", f"--resume={latest}", *flags)
    assert done.returncode == 2 and message in done.stderr, done.stderr
    assert latest.is_file() and "Traceback" not in done.stderr


def test_a_new_run_moves_the_earlier_one_aside(straight, pictures, tmp_path):
    out, _ = straight
    shutil.copytree(out, tmp_path / "run")
    done = train(pictures, tmp_path / "run", "--epochs=1")
    assert done.returncode == 0, done.stderr
    assert same_weights(out / "best.pdparams", tmp_path / "run/previous-1/best.pdparams")
    assert not (tmp_path / "run/model_3.pdparams").exists()


def test_old_checkpoints_are_removed_but_for_the_asked_number(pictures, tmp_path):
    done = train(pictures, tmp_path, "--epochs=3", "--keep-checkpoints=1")
    assert done.returncode == 0, done.stderr
    assert sorted(p.stem for p in tmp_path.glob("*.pdparams")) == ["best", "latest", "model_2"]


def test_a_reader_that_goes_away_stops_the_run_with_a_checkpoint(pictures, tmp_path):
    process = start(pictures, tmp_path, "--epochs=50")
    wait_for(process, "[Epoch 0, iter: 1]")
    process.stdout.close()  # what `| head` does
    assert process.wait(timeout=60) == 143
    assert (tmp_path / "latest.json").is_file() and no_process_is_left(process.pid)


def test_a_second_training_into_the_same_folder_is_refused_and_the_first_goes_on(
    straight, pictures, tmp_path
):
    out, _ = straight
    process = start(pictures, tmp_path, "--epochs=4")
    while not (tmp_path / "running.json").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGSTOP)  # or it may be done before the others ask
    for flags in ((), ("--resume=auto",), (f"--resume={tmp_path}/latest.pdparams",)):
        done = train(pictures, tmp_path, *flags) if not flags or "auto" in flags[0] else run_tool(
            "train.py", *flags
        )  # fmt: skip
        assert done.returncode == 2 and f"process {process.pid} on " in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
    process.send_signal(signal.SIGCONT)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 0, text
    assert same_weights(out / "model_3.pdparams", tmp_path / "model_3.pdparams")
    assert not (tmp_path / "running.json").exists() and not list(tmp_path.glob("previous-*"))


def test_a_damaged_record_is_named_and_the_run_goes_on(straight, tmp_path):
    out, _ = straight
    for suffix in (".pdparams", ".pdopt", ".json"):
        shutil.copy(out / f"model_2{suffix}", tmp_path)
    good = (out / "metrics.jsonl").read_bytes().splitlines(keepends=True)[:3]
    (tmp_path / "metrics.jsonl").write_bytes(b"".join([good[0], b"[1\n", b"7\n", *good[1:], b"{"]))
    done = run_tool("train.py", "--resume=auto", f"--output-dir={tmp_path}", "--dry-run")
    assert done.returncode == 0, done.stderr
    done = run_tool("train.py", "--resume=auto", f"--output-dir={tmp_path}")
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert "metrics.jsonl:2 is damaged" in done.stdout and "metrics.jsonl:3" in done.stdout
    lines = (tmp_path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    assert lines[:3] == good and all(json.loads(line)["step"] for line in lines)


def test_a_checkpoint_that_is_not_there_leaves_its_folder_as_it_was(tmp_path):
    done = run_tool("train.py", "--resume", tmp_path / "nosuch.pdparams")
    assert done.returncode == 2 and "nosuch.pdparams" in done.stderr, done.stderr
    assert not list(tmp_path.iterdir())
