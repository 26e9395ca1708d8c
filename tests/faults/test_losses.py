"""No way out of a training loses what it did: each fault, then a resume to the undisturbed bits."""

import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import (
    ROOT,
    TINY_FLAGS,
    no_process_is_left,
    picture,
    run_tool,
    same_weights,
    start,
    wait_for,
)
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from faults import check_goes_on, decode_workers, needs_namespaces, progress_of, until

from ppcls_lite.data import crew
from ppcls_lite.data.image_dataset import ImageDataset
from ppcls_lite.data.loader import Loader
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.data.watch import Watch
from ppcls_lite.engine.checkpoint import Progress
from ppcls_lite.engine.safe_points import GroupStart, SaveEvery
from ppcls_lite.errors import UserError


@pytest.fixture
def data(pictures, tmp_path):
    """Pictures that a test may break, where the undisturbed run's are the same."""
    shutil.copytree(pictures, tmp_path / "data")
    return tmp_path / "data"


def end_of(process):
    text, _ = process.communicate(timeout=120)
    assert no_process_is_left(process.pid)
    assert "Traceback" not in text, text
    return text


def test_a_killed_decode_worker_is_replaced(straight, pictures, tmp_path):
    process = start(pictures, tmp_path, "--epochs=4")
    wait_for(process, "[Epoch 1, iter: 1]")
    os.kill(decode_workers(process)[0], signal.SIGKILL)
    text = end_of(process)
    assert process.returncode == 0, text
    assert "was killed by SIGKILL; another one took its place (1 of 3 an epoch)" in text
    assert same_weights(straight[0] / "model_3.pdparams", tmp_path / "model_3.pdparams")


@pytest.mark.parametrize("for_good", [True, False])
def test_a_worker_without_memory_does_not_call_pictures_broken(tmp_path, monkeypatch, for_good):
    """The fifth picture takes 75 MB; the first worker may take 8 MB more."""
    for number in range(6):
        image = picture(number % 3, number)
        image = image.resize((5000, 5000), Image.Resampling.NEAREST) if number == 4 else image
        image.save(tmp_path / f"{number}.png", compress_level=1)
    paths = [str(tmp_path / f"{number}.png") for number in range(6)]
    dataset, said = ImageDataset(paths, [0] * 6, ["x"]), []
    loader = Loader(
        dataset, Preprocess(20, 16), 1, training=False, workers=1, on_error="skip",
        watch=Watch(say=said.append),
    )  # fmt: skip

    def limit():
        for child in multiprocessing.active_children():
            pages = int(Path(f"/proc/{child.pid}/statm").read_text().split()[0])
            most = pages * os.sysconf("SC_PAGESIZE") + 2**23
            resource.prlimit(child.pid, resource.RLIMIT_AS, (most, most))

    got, answers, before = [], [], crew.Worker.listen

    def listen(worker, seconds):
        heard = before(worker, seconds)
        if heard:
            answers.append(heard)
            if len(answers) == 1:
                limit()
        return heard

    monkeypatch.setattr(crew.Worker, "listen", listen)
    if for_good:
        monkeypatch.setattr(crew, "REPLACED", 0)
        with pytest.raises(UserError, match="ran out of memory; 0 were replaced") as error:
            list(loader.epoch(0))
        assert "smaller --workers" in error.value.hint
    else:
        got += [batch.indices.tolist() for batch in loader.epoch(0)]
        assert got == [[0], [1], [2], [3], [4], [5]]
        assert len(said) == 1 and "ran out of memory; another one took its place" in said[0]
    assert loader.broken == {}
    loader.close()


@pytest.mark.parametrize("for_good", [True, False])
@pytest.mark.parametrize("fault", ["garbage", "gone"])
def test_pictures_that_cannot_be_read_are_waited_for_and_then_the_run_is_saved(
    straight, data, tmp_path, fault, for_good
):
    out = tmp_path / "out"
    process = start(
        data, out, "--epochs=4", "--on-error=" + ("skip" if fault == "gone" else "stop")
    )
    wait_for(process, "[Epoch 1, iter: 1]")
    shutil.copytree(data / "train", tmp_path / "kept")
    if fault == "gone":
        (data / "train").rename(data / "away")
    else:
        for file in (data / "train").rglob("*.png"):
            file.write_bytes(b"garbage")
    if not for_good:
        said = wait_for(process, "trying it again")
    shutil.rmtree(data / "train", ignore_errors=True)
    if not for_good:
        (tmp_path / "kept").rename(data / "train")
        text = end_of(process)
        assert process.returncode == 0 and "skipped broken" not in text, said + text
    else:
        text = end_of(process)
        assert process.returncode == 2, text
        assert f"broken image {data}/train/" in text and "stopped by a fault" in text
        assert 0 < progress_of(out / "latest.pdparams")["epoch"] < 4
        (tmp_path / "kept").rename(data / "train")
        check_goes_on(text, run_tool)
    assert same_weights(straight[0] / "model_3.pdparams", out / "model_3.pdparams")


def test_a_closed_terminal_saves_and_nohup_goes_on(straight, pictures, tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    try:
        process = start(pictures, tmp_path / "a", "--epochs=4")
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_for(process, "[Epoch 1, iter: 1]")
    process.send_signal(signal.SIGHUP)
    text = end_of(process)
    assert process.returncode == 128 + signal.SIGHUP and "stopped by SIGHUP; saved" in text
    check_goes_on(text, run_tool)
    assert same_weights(straight[0] / "model_3.pdparams", tmp_path / "a/model_3.pdparams")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what nohup does; children inherit it
    try:
        process = start(pictures, tmp_path / "b", "--epochs=4")
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_for(process, "[Epoch 1, iter: 1]")
    process.send_signal(signal.SIGHUP)
    assert "stopped" not in end_of(process) and process.returncode == 0


def test_a_full_disk_for_the_console_does_not_end_the_run(straight, pictures, tmp_path):
    command = [sys.executable, "train.py", f"--data-path={pictures}", f"--output-dir={tmp_path}"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*command, "--seed=1", *TINY_FLAGS, "--epochs=4"], cwd=ROOT, stdout=full, timeout=300
        )
    assert done.returncode == 0
    text = (tmp_path / "train.log").read_text()
    assert text.count("the console cannot be written: No space left on device") == 1
    assert "[Epoch 3] val top1" in text
    assert same_weights(straight[0] / "model_3.pdparams", tmp_path / "model_3.pdparams")


def test_a_full_disk_for_the_log_does_not_end_the_run(straight, tmp_path):
    for suffix in (".pdparams", ".pdopt", ".json"):
        shutil.copy(straight[0] / f"model_1{suffix}", tmp_path)
    (tmp_path / "train.log").symlink_to("/dev/full")
    done = run_tool("train.py", "--resume=auto", f"--output-dir={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("train.log cannot be written: No space left") == 1
    assert same_weights(straight[0] / "model_3.pdparams", tmp_path / "model_3.pdparams")


VISUALDL = """
import resource, sys
from pathlib import Path
from ppcls_lite.engine.log import RunLog, visualdl_lives
log = RunLog(Path(sys.argv[1]), visualdl=True)
size = sum(f.stat().st_size for f in Path(sys.argv[1]).rglob("*.log*"))
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
for step in range(1000):
    log.record("train", step, {"loss": 1.0, "top1": 0.5, "name": "x" * 100})
log.close()
print("closed", visualdl_lives())
"""


def test_a_full_disk_for_records_does_not_hang(tmp_path):
    done = run_tool("-c", VISUALDL, tmp_path, timeout=60)
    assert done.returncode == 0 and "closed False" in done.stdout, done.stdout + done.stderr
    assert "metrics.jsonl cannot be written: File too large; the run goes on" in done.stdout


def test_a_full_temporary_folder_evaluates_with_dygraph_and_says_why(straight, pictures, tmp_path):
    needs_namespaces()
    small = tmp_path / "tmp"
    small.mkdir()
    command = [sys.executable, "train.py", f"--data-path={pictures}", f"--output-dir={tmp_path}/o"]
    shell = f'mount -t tmpfs -o size=100k none {small} && exec "$@"'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", shell, "sh", *command, "--seed=1", *TINY_FLAGS,
         "--eval-engine=exported", "--epochs=4"],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
        env=os.environ | {"TMPDIR": str(small)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    words = "MB are needed, 0.1 MB are left); evaluating with dygraph"
    assert done.stdout.count(words) == 4 and "No space left on device" in done.stdout, done.stdout
    assert same_weights(straight[0] / "model_3.pdparams", tmp_path / "o/model_3.pdparams")


def test_an_evaluation_leaves_no_temporary_folder(straight, pictures, tmp_path):
    (tmp_path / "tmp").mkdir()
    done = run_tool(
        "train.py", f"--data-path={pictures}", f"--output-dir={tmp_path}/o", "--seed=1",
        *TINY_FLAGS, "--epochs=1", "--eval-engine=exported",
        env=os.environ | {"TMPDIR": str(tmp_path / "tmp")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not list((tmp_path / "tmp").iterdir())


def test_save_every_saves_inside_of_an_epoch(straight, pictures, tmp_path):
    out = tmp_path / "out"
    process = start(pictures, out, "--epochs=4", "--save-every=2")

    def inside():
        try:
            at = progress_of(out / "latest.pdparams")
        except (OSError, ValueError):
            return False
        return at["epoch"] >= 1 and at["batch"] in (2, 4)

    until(inside, process)
    process.kill()
    process.communicate()
    assert no_process_is_left(process.pid)
    assert progress_of(out / "latest.pdparams")["batch"] in (2, 4)
    done = run_tool("train.py", f"--resume={out}/latest.pdparams")
    assert done.returncode == 0, done.stderr
    assert same_weights(straight[0] / "model_3.pdparams", out / "model_3.pdparams")


def test_save_every_counts_steps_or_minutes(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    assert [SaveEvery("3").due(step) for step in range(1, 7)] == [False, False, True] * 2
    assert not any(SaveEvery().due(step) for step in range(1, 7))
    every = SaveEvery("2m")
    due = []
    for _ in range(6):
        now[0] += 50
        due.append(every.due(1))
    assert due == [False, False, True, False, False, True]


@pytest.mark.parametrize("wrong", ["0", "-5", "5s", "m", "1.5m", ""])
def test_save_every_refuses_what_is_neither(wrong):
    done = run_tool("train.py", f"--save-every={wrong}", "--dry-run")
    assert done.returncode == 2 and "--save-every" in done.stderr and "Traceback" not in done.stderr


def test_a_fault_inside_of_an_accumulation_group_goes_back_to_its_start(data, tmp_path):
    """Batch norm's statistics have seen batches of the group by then."""
    flags = ("--epochs=2", "--gradient-accumulation-steps=3", "--workers=0")
    whole = start(data, tmp_path / "whole", *flags)
    end_of(whole)
    process = start(data, tmp_path / "out", *flags)
    wait_for(process, "[Epoch 0, iter: 1]")
    shutil.copytree(data / "train", tmp_path / "kept")
    shutil.rmtree(data / "train")
    text = end_of(process)
    assert process.returncode == 2, text
    assert progress_of(tmp_path / "out/latest.pdparams")["batch"] % 3 == 0
    (tmp_path / "kept").rename(data / "train")
    check_goes_on(text, run_tool)
    assert same_weights(tmp_path / "whole/model_1.pdparams", tmp_path / "out/model_1.pdparams")


def test_a_group_that_is_left_undoes_statistics_only():
    import paddle

    norm, group = paddle.nn.BatchNorm2D(2), GroupStart()
    before = {name: value.clone() for name, value in norm.state_dict().items()}

    def unchanged():
        return [bool((before[k] == v).all()) for k, v in norm.state_dict().items()]

    for size in (2, 1):
        at = Progress(batch=5)
        group.begin(4, size, norm)
        norm(paddle.randn([4, 2, 3, 3]))
        assert sum(unchanged()) == 2  # gain and bias
        group.go_back(at)
        # A group of one batch is never left unfinished, and costs nothing.
        assert (sum(unchanged()), at.batch) == ((4, 4) if size == 2 else (2, 5))
