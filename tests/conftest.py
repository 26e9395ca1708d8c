"""A tiny data set made by formula, and real processes."""

import atexit
import inspect
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import warm as warm_fork
from PIL import Image

from ppcls_lite.environment import load_paddle
from ppcls_lite.files import cache_folder
from ppcls_lite.weights.formats import read_weights

ROOT = Path(__file__).parent.parent
WARM = Path(__file__).parent / "warm.py"
REAL_POPEN = subprocess.Popen
# Settings that make a training take seconds: the network is real, the pictures are small.
# At the default rate of 0.1 such a network is about to diverge, and rounding decides.
TINY = "--train-crop-size=32 --val-resize-size=36 --val-crop-size=32 --width=0.5 --batch-size=8"
TINY_FLAGS = [*TINY.split(), "--device=cpu", "--lr=0.02", "--workers=1", "--print-freq=2",
              "--no-visualdl", "--eval-engine=dygraph"]  # fmt: skip


def pytest_addoption(parser):
    parser.addoption(
        "--check", action="store_true", help="only tests that start no process and train nothing"
    )
    parser.addoption(
        "--answers", type=int, default=160, help="asked of each engine by test_threads.py"
    )


def pytest_configure(config):
    if hasattr(config, "workerinput"):  # pytest-xdist starts its workers with `python -c`,
        sys.argv[:] = config.workerinput["mainargv"]  # which hints would take for a way we start
    # Before anything imports paddle, which reads this once.
    os.environ.setdefault("OMP_NUM_THREADS", "2")  # more than one, to see that it stays
    # Beside another worker a thread that waits awake keeps a core from one that computes.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # Each file of Python is compiled once, not by each of the thousand processes of the tests.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


def picture(class_id: int, number: int) -> Image.Image:
    """A noisy picture whose colour tells its class."""
    draws = np.random.RandomState(1000 * class_id + number)
    pixels = draws.randint(0, 120, (40, 44, 3), np.uint8)
    pixels[..., class_id] += 100
    return Image.fromarray(pixels)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """DATA/{train,val}/{red,green,blue}/*.png: 14 + 14 + 14 train, 7 + 7 + 7 val pictures."""
    root = tmp_path_factory.mktemp("pictures")
    for split, count, start in (("train", 14, 0), ("val", 7, 500)):
        for class_id, name in enumerate(("blue", "green", "red")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(start, start + count):
                picture(class_id, number).save(folder / f"{number}.png")
    return root


# What no library reads when it is imported: pytest's note of the test it runs, and what the
# project's own code looks up when it needs it.
LATE = {"PYTEST_CURRENT_TEST", "CXX", "PPCLS_LITE_HOME", warm_fork.BENCHMARK}


def environment(variables):
    """What a process is started with, as far as its imports may depend on it."""
    return {name: value for name, value in variables.items() if name not in LATE}


@cache
def warm():
    """The environment and the socket of a process that forks with paddle loaded: warm.py."""
    load_paddle()  # sets variables; later they would differ from what this process was started with
    os.environ[warm_fork.EXPORTS] = str(start_warm(environment(os.environ | warm_fork.OLD_FORMAT)))
    started = environment(os.environ)
    return started, start_warm(started)


def start_warm(variables):
    """Starts a process that forks; returns its socket."""
    socket = Path(tempfile.mkdtemp(prefix="warm-"), "socket")
    process = REAL_POPEN(
        [sys.executable, WARM, socket], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=variables
    )
    assert process.stdout.readline() == b"ready\n"
    atexit.register(shutil.rmtree, socket.parent, ignore_errors=True)
    atexit.register(process.communicate)  # the end of its standard input ends it
    return socket


def warm_python(path):
    """Writes a program that stands for `python`: what it runs is a fork of `warm`."""
    _, socket = warm()
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{WARM}" "{socket}" "$@"\n')
    path.chmod(0o755)
    return path


def warm_path():
    """A PATH whose `python` is a fork of `warm`, with what is installed beside this one."""
    _, socket = warm()
    python = warm_python(socket.with_name("python"))
    return f"{python.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"


def run_tool(*argv, fresh=False, **options):
    """Runs `python ARGV` in the checkout and returns the finished process.

    Args:
        fresh: it loads paddle itself, for what that says or takes.
    """
    command = [sys.executable, *map(str, argv)]
    if command[1].endswith(".py") and not fresh:
        started, socket = warm()
        if environment(options.get("env", os.environ)) == started:  # else others could load
            command = [sys.executable, "-S", WARM, socket, *command[1:]]
    options = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": 900} | options
    return subprocess.run(command, **options)


@pytest.fixture(autouse=True, scope="session")
def exports_start_warm():
    """The process that each export of a test starts is a fork, too."""

    class Popen(warm_fork.Popen):
        def __init__(self, args, *more, **options):
            if warm_fork.is_export(args):
                warm()
            super().__init__(args, *more, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", Popen)
        yield


@cache
def warm_benchmarks():
    """The variables by which a benchmark's processes of one or our number of threads are forks."""
    started, socket = warm()
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    sockets = {started["OMP_NUM_THREADS"]: str(socket), "1": str(start_warm(started | one))}
    return {warm_fork.BENCHMARK: json.dumps(sockets)}


def cache_of_its_own(folder):
    """Makes a folder a cache for PPCLS_LITE_HOME: empty but for what is compiled already."""
    compiled = cache_folder() / "compiled"
    compiled.mkdir(parents=True, exist_ok=True)
    folder.mkdir(exist_ok=True)
    (folder / "compiled").symlink_to(compiled)
    return str(folder)


def train(data, out, *flags, **options):
    """Runs train.py with small settings, and without decode workers, which change no bit."""
    argv = ["train.py", f"--data-path={data}", f"--output-dir={out}", "--seed=1", *TINY_FLAGS]
    return run_tool(*argv, "--workers=0", *flags, **options)


def workers_of(session):
    """Processes of a process session that are still alive (and no zombies)."""
    listed = subprocess.run(["ps", "-o", "pid=,stat=", "-s", str(session)], capture_output=True)
    rows = [line.split() for line in listed.stdout.decode().splitlines()]
    return [pid for pid, stat in rows if not stat.startswith("Z")]


def same_weights(a, b):
    """Bit-identical weights, statistics and optimizer state."""
    for suffix in (".pdparams", ".pdopt"):
        left, right = read_weights(a.with_suffix(suffix)), read_weights(b.with_suffix(suffix))
        assert left.keys() == right.keys()
        for name in left:
            assert np.array_equal(left[name], right[name]), name
    return True


@pytest.fixture(scope="session")
def straight(pictures, tmp_path_factory):
    """Four epochs without interruption: what every interrupted run must arrive at."""
    out = tmp_path_factory.mktemp("straight")
    flags = ("--keep-checkpoints=0", "--visualdl", "--eval-engine=exported", "--workers=1")
    done = train(pictures, out, "--epochs=4", *flags, fresh=True)
    assert done.returncode == 0, done.stderr
    return out, done


def start(pictures, out, *flags):
    """Starts a training in a process session of its own."""
    command = [sys.executable, "train.py", f"--data-path={pictures}", f"--output-dir={out}"]
    return subprocess.Popen(
        [*command, "--seed=1", *TINY_FLAGS, *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for(process, text):
    """Reads the output up to a line with `text`; returns all of it."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return "".join(lines)
    pytest.fail("never printed: " + text + "\n" + "".join(lines))


def no_process_is_left(session):
    for _ in range(100):
        if not workers_of(session):
            return True
        time.sleep(0.1)
    return False


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """All formats of a small network, as the servers of several tests serve them."""
    from small_checkpoint import checkpoint  # imports paddle, which reads the environment once

    from ppcls_lite.deploy.export import export_model

    folder = tmp_path_factory.mktemp("serve")
    export_model(checkpoint(folder), folder / "all")
    return folder / "all"


@pytest.fixture(scope="session")
def expected(exported):
    """What tools/predict.py says about the two photographs."""
    from ppcls_lite.deploy.predictor import Predictor

    return Predictor(exported)(
        [ROOT / "test_images" / name for name in ("chelsea.jpg", "coffee.jpg")], topk=5
    )


# Files of a minute and more, the longest first: begun last, one would run alone at the end.
LONG = (
    "test_resume", "test_remedies", "test_benchmark", "test_benchmark_builds", "test_alignment",
    "test_accelerator_chain", "test_kernels", "test_read_once", "test_accelerator_zoo",
    "test_tflite", "test_export", "test_finetune", "test_train", "test_slim", "test_engine",
    "test_predict", "test_zoo", "test_serving_limits",
)  # fmt: skip


def place(item):
    return LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG)


def pytest_collection_modifyitems(config, items):
    items.sort(key=place)
    if config.getoption("--check"):
        slow = [item for item in items if item.get_closest_marker("slow") or is_slow(item)]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in set(slow)]


def is_slow(item):
    """Tells whether a test, a helper or a fixture of it starts a process or trains, by its code."""
    fixtures = [
        definition.func
        for name in item.fixturenames
        for definition in item._fixtureinfo.name2fixturedefs.get(name, ())[-1:]
        if name not in ("exports_start_warm", "no_process_in_a_check")
    ]
    return any(map(is_slow_by_code, (item.function, *fixtures)))


@cache
def is_slow_by_code(function):
    return calls_slow(function, set())


# What starts a process or trains, by the names that tests know it under.
SLOW = {
    "Popen",
    "subprocess",
    "export_model",
    "worker_pool",
    "fit",
    "fork",
    "sync_playwright",
    "train_batch",
}
STEP = {"backward", "step"}  # of a loss and of an optimizer, in one function


def calls_slow(function, seen):
    """Follows the names that a function of the tests uses."""
    codes, used = [inspect.unwrap(function).__code__], set()
    while codes:
        code = codes.pop()
        used |= {*code.co_names, *code.co_freevars}
        codes += [part for part in code.co_consts if inspect.iscode(part)]
    known = inspect.unwrap(function).__globals__
    return (
        bool(used & SLOW)
        or used >= STEP
        or any(
            inspect.isfunction(helper := known.get(name))
            and "ppcls_lite" not in helper.__module__
            and not (helper in seen or seen.add(helper))
            and calls_slow(helper, seen)
            for name in sorted(used)
        )
    )


@pytest.fixture(autouse=True, scope="session")
def no_process_in_a_check(request, exports_start_warm):
    """`make check` answers in minutes: what starts a process after all is left out there.

    So are the kernels after a change of their source, until `make test` has compiled them.
    """
    if not request.config.getoption("--check"):
        yield
        return

    class Popen(subprocess.Popen):
        def __init__(self, args, *more, **options):
            program = args if isinstance(args, str) else str(args[0])
            pytest.skip(f"starts {program}: `make test` runs it")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", Popen)
        yield
