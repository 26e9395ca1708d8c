"""tools/launch.py: what dies is started again and ends with the bits of an undisturbed run."""

import contextlib
import json
import os
import re
import signal

import pytest
from conftest import run_tool
from machines import Machine, bits, can_make_networks, free_port, network, nobody_left

from ppcls_lite.commands.launch import going_on
from ppcls_lite.engine.checkpoint import Progress
from ppcls_lite.engine.resolve import progress_under
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.launch.processes import handed_on

EPOCHS = "--epochs=6"


@contextlib.contextmanager
def machines(*made):
    try:
        yield made
    finally:
        for machine in made:
            machine.end()


def flags(pictures, out):
    return [f"--data-path={pictures}", f"--output-dir={out}", "--seed=1", EPOCHS]


@pytest.fixture(scope="module")
def undisturbed(pictures, tmp_path_factory):
    """The bits of two processes on one machine that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with machines(Machine(folder, ["--nproc-per-node=2"], flags(pictures, folder / "out"))) as (m,):
        assert m.wait() == 0, m.said() + m.logs()
    return bits(folder / "out")


@pytest.mark.slow
def test_a_killed_process_costs_no_bit(pictures, tmp_path, undisturbed):
    out = tmp_path / "out"
    with machines(Machine(tmp_path, ["--nproc-per-node=2"], flags(pictures, out))) as (machine,):
        machine.until("[Epoch 2, iter")
        os.kill(machine.ranks()[1], signal.SIGKILL)
        assert machine.wait() == 0, machine.said() + machine.logs()
    said = machine.said()
    assert re.search(r"rank 1 of 2 \(.+\) ended without a word|ended by SIGKILL", said), said
    assert "starting again: 1 of 3 restarts" in said and "terminate called" not in said
    assert bits(out) == undisturbed
    assert nobody_left(str(out)) == []
    assert machine.log_dir.stat().st_mode & 0o777 == 0o700
    written = [path for path in machine.log_dir.iterdir() if "s3cr3t" in path.read_text()]
    assert written == [] and (machine.log_dir / "workerlog.1").is_file()


@pytest.mark.slow
def test_a_mistake_is_said_once_and_nothing_starts_again(pictures, tmp_path):
    train = [*flags(pictures, tmp_path / "out"), "--num-classes=2"]
    with machines(Machine(tmp_path, ["--nproc-per-node=2"], train)) as (machine,):
        assert machine.wait() == 2
    said = machine.said()
    assert "--num-classes 2: the data has 3 classes" in said
    assert "starting again" not in said and "Traceback" not in said


@pytest.mark.slow
def test_sigterm_saves_and_ends_all(pictures, tmp_path):
    out = tmp_path / "out"
    train = [*flags(pictures, out), "--epochs=5000"]
    with machines(Machine(tmp_path, ["--nproc-per-node=2"], train)) as (machine,):
        machine.until("[Epoch 1, iter")
        machine.process.terminate()
        assert machine.wait() == 128 + signal.SIGTERM, machine.said()
    assert re.search(r"stopped by SIGTERM; saved \S+latest\.pdparams", machine.logs())
    assert json.loads((out / "latest.json").read_text())["progress"]["epoch"] >= 1
    assert nobody_left(str(out)) == []


@pytest.mark.slow
def test_no_process_outlives_a_killed_launcher(pictures, tmp_path):
    out = tmp_path / "out"
    train = [*flags(pictures, out), "--epochs=5000"]
    with machines(Machine(tmp_path, ["--nproc-per-node=2"], train)) as (machine,):
        machine.until("[Epoch 1, iter")
        machine.process.kill()
        assert nobody_left(str(out)) == []


@pytest.mark.slow
def test_fewer_machines_go_on_with_the_same_step(pictures, tmp_path):
    """Two machines at one address; the second one never comes back."""
    master, out = f"--master=127.0.0.1:{free_port()}", tmp_path / "out"
    launch = [master, "--nodes=2", "--min-nodes=1", "--node-timeout=10", "--nproc-per-node=1"]
    first = Machine(tmp_path / "first", launch, flags(pictures, out))
    with machines(first):
        first.until("1 of 2 machines are here", of="said")  # the address belongs to both
        with machines(Machine(tmp_path / "second", launch, flags(pictures, out))):
            first.until("[Epoch 2, iter")
        assert first.wait() == 0, first.said() + first.logs()
    assert "going on with 1 of 2 machines" in first.said()
    plans = re.findall(r"batch +8 per device x (\d) x (\d) accumulated = 16", first.logs())
    assert plans == [("2", "1"), ("1", "2")]
    stored = json.loads((out / "latest.json").read_text())
    assert stored["config"]["gradient_accumulation_steps"] == 1, "of all machines"
    assert stored["progress"]["epoch"] == 6


@pytest.mark.slow
@pytest.mark.skipif(not can_make_networks(), reason="this user may not make network namespaces")
def test_a_machine_that_comes_back_costs_no_bit(pictures, tmp_path, undisturbed):
    out = tmp_path / "out"
    with network() as ((one, address), (other, _)):
        launch = [f"--master={address}:6170", "--nodes=2", "--nproc-per-node=1"]
        first = Machine(tmp_path / "first", launch, flags(pictures, out), one)
        second = Machine(tmp_path / "second", launch, flags(pictures, out), other)
        with machines(first, second):
            first.until("[Epoch 2, iter")
            second.end()
            second.start()
            assert first.wait() == 0, first.said() + first.logs() + second.said()
            assert second.wait() == 0, second.said()
    assert "starting again: 1 of 3 restarts" in first.said()
    assert bits(out) == undisturbed
    assert nobody_left(str(out)) == []


@pytest.mark.slow
def test_machines_that_differ_start_nothing(tmp_path):
    launch = [f"--master=127.0.0.1:{free_port()}", "--nodes=2"]
    pair = [Machine(tmp_path / name, [*launch, f"--restarts={name}"], []) for name in "12"]
    with machines(*pair):
        for machine in pair:
            assert machine.wait() == 2
            assert re.search(r"differ in\n  --restarts: .+: [12]; .+: [12]\n", machine.said())
            assert machine.logs() == ""


@pytest.mark.slow
def test_a_machine_that_does_not_come_is_not_waited_for_forever(tmp_path):
    launch = [f"--master=127.0.0.1:{free_port()}", "--nodes=2", "--node-timeout=1"]
    with machines(Machine(tmp_path, launch, [])) as (machine,):
        assert machine.wait() == 75
        assert "1 of 2 machines came within 1 s (--node-timeout)" in machine.said()


def test_no_secret_is_handed_on():
    given = {"PATH": "/bin", "OMP_NUM_THREADS": "2", "FLAGS_x": "1", "GLOO_SOCKET_IFNAME": "eth0",
             "PPCLS_LITE_KERNEL_THREADS": "2", "LC_ALL": "C", "AWS_ACCESS_KEY_ID": "x",
             "HF_TOKEN": "x", "PADDLE_API_KEY": "x", "PADDLE_AUTH": "x", "https_proxy": "u:p@h",
             "MY_PASSWORD": "x", "CUDA_VISIBLE_DEVICES": "0"}  # fmt: skip
    kept = {"PATH", "OMP_NUM_THREADS", "FLAGS_x", "GLOO_SOCKET_IFNAME", "LC_ALL",
            "PPCLS_LITE_KERNEL_THREADS", "CUDA_VISIBLE_DEVICES"}  # fmt: skip
    assert set(handed_on(given)) == kept


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["train.py", "--lr=abc"], "--lr: 'abc' is not possible"),
        (["--nodes=2", "train.py"], "--nodes 2 needs --master ADDRESS:PORT"),
        (["--master=10.0.0.1", "train.py"], "--master 10.0.0.1: give ADDRESS:PORT"),
        (["--nodes=2", "--min-nodes=3", "--master=h:1", "train.py"], "--min-nodes 3 is more than"),
        (["--nproc-per-node=2"], "what to start is missing"),
        (["tools/serve.py", "x"], "what to start is tools/serve.py"),
        (["--host=192.0.2.1", "train.py"], "--host 192.0.2.1 is not an address of this machine"),
    ],
)
def test_mistakes_are_told_before_anything_starts(argv, said, tmp_path):
    argv = [f"--log-dir={tmp_path}/log", *argv]
    done = run_tool("tools/launch.py", *argv)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


def test_the_second_start_goes_on_with_what_was_saved():
    assert going_on(TrainConfig()) == ["--resume", "auto"]
    config = TrainConfig(resume="runs/a/latest.pdparams")
    assert going_on(config) == ["--resume", "auto", "--output-dir", "runs/a"]


@pytest.mark.parametrize(
    ("then", "batch", "now", "expected"),
    [
        ("8 x 2, 1", 3, "8 x 1, 2", 6),
        ("8 x 1, 2", 6, "8 x 2, 1", 3),
        ("8 x 4, 1", 5, "8 x 2, 2", 10),
        ("8 x 2, 1", 3, "8 x 1, 1", 3),  # another step: left as it is, and refused later
        ("8 x 1, 2", 5, "8 x 2, 1", 5),  # inside of a step
    ],
)
def test_the_place_in_an_epoch_is_the_same_picture(then, batch, now, expected, monkeypatch):
    monkeypatch.setenv("PPCLS_LITE_SHARE", "1/2")
    then, now = (f"99 pictures, batches of {words} accumulated" for words in (then, now))
    found = progress_under(Progress(epoch=2, batch=batch, batching=then), now)
    assert (found.batch, found.batching) == (expected, now if expected != batch else then)
