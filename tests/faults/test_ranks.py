"""Processes that train together: what differs, who ended and why is said by all, and none hangs."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from conftest import ROOT, TINY_FLAGS
from machines import free_port

from ppcls_lite.engine.ranks import Link, Ranks, differences
from ppcls_lite.errors import RankLost

LOST = 75  # EX_TEMPFAIL, of sysexits.h


class Store(dict):
    """Stands for Paddle's; `get` waits for the key."""

    set = dict.__setitem__

    def get(self, key):
        while key not in self:
            time.sleep(0.001)
        return self[key].encode()


@contextlib.contextmanager
def company(size, timeout=60):
    """The ranks of one training, made in threads."""
    store, made = Store(), {}

    def join(rank):
        made[rank] = Ranks(rank, size, store, "127.0.0.1", timeout)

    together([lambda rank=rank: join(rank) for rank in range(size)])
    try:
        yield [made[rank] for rank in range(size)]
    finally:
        for ranks in made.values():
            ranks.close()


def together(calls):
    """Runs calls at the same time; returns what each returned or raised."""
    outcome = [None] * len(calls)

    def run(i):
        try:
            outcome[i] = calls[i]()
        except RankLost as lost:
            outcome[i] = lost

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcome


def test_every_rank_gets_the_values_of_all_in_order():
    with company(3) as ranks:
        for turn in range(3):
            calls = [lambda r=r, turn=turn: r.exchange([turn, r.rank], "x") for r in ranks]
            assert together(calls) == [[[turn, 0], [turn, 1], [turn, 2]]] * 3


@pytest.mark.parametrize("ending", [0, 2])
def test_a_rank_that_ends_tells_all_others_why(ending):
    with company(3) as ranks:
        ranks[ending].farewell("no such folder", 2)
        ranks[ending].close()
        calls = [lambda r=r: r.exchange(None, "x") for r in ranks if r.rank != ending]
        for lost in together(calls):
            assert re.match(rf"rank {ending} of 3 \(.+\) ended: no such folder", lost.message)
            assert lost.status == 2


@pytest.mark.parametrize("ending", [0, 2])
def test_a_rank_that_is_killed_is_named_by_all_others(ending):
    with company(3) as ranks:
        ranks[ending].close()
        calls = [lambda r=r: r.exchange(None, "at step 3") for r in ranks if r.rank != ending]
        for lost in together(calls):
            assert re.match(rf"rank {ending} of 3 .+ ended without a word at step 3", lost.message)
            assert lost.status == LOST


def test_a_rank_that_does_not_come_is_named_by_all_others():
    with company(3, timeout=0.2) as ranks:
        for lost in together([lambda r=r: r.exchange(None, "at step 3") for r in ranks[:2]]):
            assert re.match(r"rank 2 of 3 .+ did not answer for 0.2 s at step 3", lost.message)


def test_a_stranger_at_the_port_is_not_taken_for_a_rank():
    store = Store()

    def stranger():
        host, port, _ = json.loads(store.get("ppcls_lite/ranks"))
        link = Link(socket.create_connection((host, port)))
        link.send({"password": "guessed", "rank": 1})
        return link.read()  # closed without an answer

    made = together(
        [lambda: Ranks(0, 2, store, "127.0.0.1", 60), stranger,
         lambda: Ranks(1, 2, store, "127.0.0.1", 60)]
    )  # fmt: skip
    assert made[1] is None and made[0].names == made[2].names
    for ranks in (made[0], made[2]):
        ranks.close()


def test_differences_name_what_and_whom():
    found = [{"lr": 1, "seed": 3}, {"lr": 2, "seed": 3}, {"lr": 1, "seed": 3}]
    assert differences(found, "rank {}".format) == ["  lr: rank 0, rank 2: 1; rank 1: 2"]


@contextlib.contextmanager
def two_processes(*flags, second=()):
    """train.py twice, as Paddle's launcher starts it; the second one with further flags."""
    master, processes = free_port(), []
    for rank in (0, 1):
        own = {
            "PADDLE_TRAINER_ID": str(rank), "PADDLE_TRAINERS_NUM": "2", "PADDLE_LOCAL_SIZE": "2",
            "PADDLE_DISTRI_BACKEND": "gloo", "PADDLE_MASTER": f"127.0.0.1:{master}",
            "PADDLE_CURRENT_ENDPOINT": "127.0.0.1:1",
            "PADDLE_TRAINER_ENDPOINTS": "127.0.0.1:1,127.0.0.1:2",
        }  # fmt: skip
        command = [sys.executable, "train.py", *TINY_FLAGS, *flags, *(second if rank else ())]
        processes.append(
            subprocess.Popen(
                command, cwd=ROOT, env=os.environ | own, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
        )  # fmt: skip
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def ends(processes):
    return [(p.communicate(timeout=120)[0], p.returncode) for p in processes]


def until(process, text):
    """Reads what a process prints until a text comes."""
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"ended without {text}")


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (["--batch-size=4"], r"\n  --batch-size: rank 0 of 2 \(.+\): 8; rank 1 of 2 \(.+\): 4\n"),
        (["--seed=2"], r"\n  --seed: rank 0 of 2 \(.+\): 1; rank 1 of 2 \(.+\): 2\n"),
        (["--num-classes=9"], r"\n  --num-classes: rank 0 of 2 \(.+\): None; rank 1 .+: 9\n"),
        (["--data-path={other}"], r"\n  training images: rank 0 .+: 42, list .+: 42, list \w+\n"),
        (["--data-path=nowhere"], r"(rank 1 of 2 \(.+\) ended: )?data path nowhere: no such fold"),
    ],
)
def test_processes_that_were_given_something_else_stop_at_the_start(
    second, said, pictures, tmp_path
):
    other = tmp_path / "other"
    for picture in sorted(pictures.rglob("*.png")):
        copy = other / picture.relative_to(pictures)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.symlink_to(picture)
    (other / "train/red/0.png").rename(other / "train/red/00.png")
    second = [flag.format(other=other) for flag in second]
    flags = (f"--data-path={pictures}", f"--output-dir={tmp_path}/out", "--seed=1", "--epochs=1")
    with two_processes(*flags, second=second) as processes:
        for output, status in ends(processes):
            assert re.search(said, output) and status == 2, output
            assert "Traceback" not in output and "terminate called" not in output


ABORTS_AT_ITS_END = """
import atexit, ctypes
from ppcls_lite.__main__ import run_command
libc = ctypes.CDLL(None)
libc.on_exit(libc.abort, None)  # as the destructors of gloo do when another process is gone
atexit.register(print, "cleaned up")
run_command("train", ["--epochs=none"], "train.py")
"""


@pytest.mark.parametrize(("processes", "status"), [(1, -signal.SIGABRT), (2, 2)])
def test_one_of_several_processes_ends_with_its_status_whatever_cpp_does(processes, status):
    done = subprocess.run(
        [sys.executable, "-c", ABORTS_AT_ITS_END], cwd=ROOT, text=True, capture_output=True,
        env=os.environ | {"PADDLE_TRAINERS_NUM": str(processes)},
    )  # fmt: skip
    assert done.returncode == status and "cleaned up" in done.stdout, done.stderr
    assert "--epochs" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGKILL, r"rank 1 of 2 \(.+\) ended without a word"),
        (signal.SIGSTOP, r"rank 1 of 2 \(.+\) did not answer for \d+ s"),
    ],
)
def test_the_rank_that_is_left_says_whom_it_lost(number, said, pictures, tmp_path):
    flags = (
        f"--data-path={pictures}", f"--output-dir={tmp_path}/out", "--epochs=5000",
        "--rank-timeout=5", "--print-freq=1",
    )  # fmt: skip
    with two_processes(*flags) as processes:
        until(processes[0], "[Epoch 0, iter: 1]")
        processes[1].send_signal(number)
        output, status = ends(processes[:1])[0]
        assert re.search(said + r"[^\n]*\n  next: .+\n?$", output) and status == LOST, output
        assert "terminate called" not in output
