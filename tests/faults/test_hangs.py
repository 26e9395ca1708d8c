"""Whoever does not answer, a run does: to signals at once, to its user with a name."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import no_process_is_left, run_tool, same_weights, start, wait_for

sys.path.insert(0, str(Path(__file__).parent))
from faults import check_goes_on, decode_workers

from ppcls_lite.data import crew as crew_module
from ppcls_lite.data.dataset import open_split
from ppcls_lite.data.image_dataset import ImageDataset
from ppcls_lite.data.loader import Loader
from ppcls_lite.data.pictures import scan_folder
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.data.watch import Watch
from ppcls_lite.errors import UserError


def stop_workers(process):
    for worker in decode_workers(process):
        os.kill(worker, signal.SIGSTOP)


def test_a_stopped_worker_does_not_make_the_run_deaf(straight, pictures, tmp_path):
    process = start(pictures, tmp_path, "--epochs=4")
    wait_for(process, "[Epoch 1, iter: 1]")
    stop_workers(process)
    for _ in range(3):
        process.terminate()  # paddle.distributed.launch sends three
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 143 and "stopped by SIGTERM; saved" in text, text
    assert no_process_is_left(process.pid)
    check_goes_on(text, run_tool)
    assert same_weights(straight[0] / "model_3.pdparams", tmp_path / "model_3.pdparams")


def test_a_stopped_worker_is_replaced_after_the_time_for_a_picture(straight, pictures, tmp_path):
    process = start(pictures, tmp_path, "--epochs=4", "--picture-timeout=2", "--on-error=skip")
    wait_for(process, "[Epoch 1, iter: 1]")
    stop_workers(process)
    text, _ = process.communicate(timeout=200)
    assert process.returncode == 0 and "skipped broken" not in text, text
    assert "takes longer than 2 s (--picture-timeout)" in text or "did not answer" in text, text
    assert no_process_is_left(process.pid)
    assert same_weights(straight[0] / "model_3.pdparams", tmp_path / "model_3.pdparams")


def test_ctrl_c_again_and_again_leaves_nothing_behind(pictures, tmp_path):
    process = start(pictures, tmp_path, "--epochs=1000")
    wait_for(process, "[Epoch 1, iter: 1]")
    stop_workers(process)
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.01)
    assert process.returncode == 130 and "Traceback" not in process.stdout.read()
    assert no_process_is_left(process.pid)


DEAF = """
import ctypes, sys
from ppcls_lite.engine.signals import StopRequest
stop = StopRequest()
libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
libc.pthread_mutex_lock(mutex)
print("in C", flush=True)
libc.pthread_mutex_lock(mutex)  # waits for itself, whatever signals arrive
"""


def test_a_second_ctrl_c_ends_a_process_that_waits_in_c():
    process = subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE, text=True)
    wait_for(process, "in C")
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
        pytest.fail("the first Ctrl-C is a request")
    while process.poll() is None:  # two pending signals of a kind are one
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.2)
    assert process.returncode == 130


def write_special(folder):
    """A pipe, a socket and a link to a device, all named like pictures."""
    os.mkfifo(folder / "pipe.png")
    here = os.getcwd()
    os.chdir(folder)  # the name of a socket has 108 bytes
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("socket.png")
    finally:
        os.chdir(here)
    (folder / "zero.png").symlink_to("/dev/zero")


@pytest.fixture
def special(pictures, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(pictures, data)
    write_special(data / "train/red")
    return data


PASSED_OVER = ("passed over, not taken for images", "1 pipe", "1 socket", "1 device")


def test_pipes_sockets_and_devices_are_no_pictures(special, tmp_path):
    os.symlink(special / "train/red/7.png", special / "train/red/link.png")
    os.symlink("nowhere", special / "train/red/dangling.png")
    found, others = scan_folder(str(special / "train/red"))
    assert {Path(f).name for f in found} >= {"link.png", "dangling.png", "7.png"}
    assert [Path(f).name for f in others] == ["pipe.png", "socket.png", "zero.png"]
    (special / "train/red/dangling.png").unlink()
    flags = ("--device=cpu", "--workers=1", "--train-crop-size=32", "--batch-size=8")
    done = run_tool("train.py", f"--data-path={special}", "--dry-run", *flags, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(words in done.stdout for words in PASSED_OVER), done.stdout
    argv = ("tools/check_data.py", f"--data-path={special}", "--workers=1", "--json")
    done = run_tool(*argv, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "other_files" in done.stdout
    assert all(
        f"train/red/{name}" in done.stdout for name in ("pipe.png", "socket.png", "zero.png")
    )


def test_prediction_passes_them_over(exported, special):
    for what in (special / "train/red", f"{special}/train/red/*.png"):
        done = run_tool(
            "tools/predict.py", "--pretrained", exported, "--img-path", what, timeout=120
        )
        assert done.returncode == 0, done.stderr
        assert all(words in done.stderr for words in PASSED_OVER), done.stderr


@pytest.mark.parametrize("workers", [0, 1])
def test_one_that_a_list_names_is_broken_and_not_opened(special, workers):
    paths = [str(special / "train/red" / name) for name in ("7.png", "pipe.png", "zero.png")]
    loader = Loader(
        ImageDataset(paths, [0, 0, 0], ["red"]), Preprocess(20, 16), 3,
        training=False, workers=workers, on_error="skip",
    )  # fmt: skip
    (batch,) = loader.epoch(0)
    loader.close()
    assert batch.indices.tolist() == [0]
    assert sorted(loader.broken.values()) == ["is a device, not a file", "is a pipe, not a file"]


@pytest.fixture
def slow_drive(pictures, monkeypatch):
    """Five pictures, the third of which lies in a file system that never answers."""
    dataset = open_split(str(pictures), "val")
    paths = [dataset.path(i) for i in range(5)]
    before = crew_module.Worker._send

    def send(worker, job):
        before(worker, job)
        # As seen from outside: the process waits in the kernel, at this picture.
        if any(s.source == paths[2] and s.cause is None for s in job.task):
            os.kill(worker._process.pid, signal.SIGSTOP)
            worker._place[job.slot] = 1 + [s.source for s in job.task].index(paths[2])

    monkeypatch.setattr(crew_module.Worker, "_send", send)
    return ImageDataset(paths, [0] * 5, ["blue"])


def test_the_picture_that_takes_too_long_is_named_and_skipped(slow_drive):
    said = []
    loader = Loader(
        slow_drive, Preprocess(20, 16), 3, training=False, workers=1, on_error="skip",
        watch=Watch(picture_timeout=1.0, say=said.append),
    )  # fmt: skip
    expected = Loader(slow_drive, Preprocess(20, 16), 5, training=False)
    (whole,) = expected.epoch(0)
    for _ in range(2):  # in the second epoch it is known
        batches = list(loader.epoch(0))
        indices = np.concatenate([batch.indices for batch in batches])
        assert indices.tolist() == [0, 1, 3, 4]
        assert np.array_equal(np.concatenate([b.images for b in batches]), whole.images[indices])
    loader.close()
    path = slow_drive.path(2)
    assert said == [
        f"{path} takes longer than 1 s (--picture-timeout); another worker process tries it once"
        " more"
    ]
    assert loader.broken == {path: "took longer than 1 s (--picture-timeout)"}


def test_the_picture_that_takes_too_long_stops_the_run_by_name(slow_drive):
    watch = Watch(picture_timeout=1.0, say=lambda text: None)
    loader = Loader(
        slow_drive, Preprocess(20, 16), 3, training=False, workers=1, watch=watch
    )  # fmt: skip
    with pytest.raises(UserError, match="took longer than 1 s") as error:
        list(loader.epoch(0))
    assert slow_drive.path(2) in error.value.message
    loader.close()


def test_a_stop_is_heard_while_a_picture_is_waited_for(slow_drive):
    class Asked(Exception):
        pass

    calls = []

    def check():
        calls.append(1)
        if len(calls) > 3:
            raise Asked

    loader = Loader(
        slow_drive, Preprocess(20, 16), 3, training=False, workers=1, watch=Watch(0, check)
    )  # fmt: skip
    with pytest.raises(Asked):
        list(loader.epoch(0))
    loader.close()
