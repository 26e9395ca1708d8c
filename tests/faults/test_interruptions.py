"""Ctrl-C at any point of a command: one line, status 130, and no half of a file."""

import subprocess
import sys

import pytest
from conftest import ROOT, run_tool
from writers import WRITERS, check_whole, make_place, words_of

# Sends SIGINT to the group, as a terminal does, when something is written below a folder for the
# n-th time; ends with 99 when that does not come.
DRIVER = """
import os, runpy, signal, sys

place, nth, sys.argv = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
seen = 0

def watch(event, args):
    global seen
    if event == "open":
        path, mode, flags = args
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
    elif event in ("os.mkdir", "os.rename"):
        path, writes = args[0], True
    else:
        return
    if writes and isinstance(path, str | bytes | os.PathLike):
        if os.fsdecode(path).startswith(place):
            seen += 1
            if seen == nth:
                os.killpg(0, signal.SIGINT)

sys.addaudithook(watch)
sys.path.insert(0, os.path.dirname(sys.argv[0]))
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    if seen < nth:
        os._exit(99)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = make_place(tmp_path_factory.mktemp("place"))
    flags = (f"--pretrained={folder / 'weights.pdparams'}", f"--data-path={folder / 'data'}")
    done = run_tool("tools/embed.py", *flags, f"--out={folder / 'features.npz'}")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("nth", [1, 3])
@pytest.mark.parametrize("name", WRITERS)
def test_ctrl_c_while_something_is_written(name, nth, place, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(tmp_path), str(nth), *words_of(name, place, tmp_path)],
        cwd=ROOT, capture_output=True, text=True, start_new_session=True,
    )  # fmt: skip
    if done.returncode == 99:
        pytest.skip(f"writes fewer than {nth} times")
    assert done.returncode == 130, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.endswith(": stopped by SIGINT") and "Traceback" not in done.stderr, done.stderr
    for path in [path for path in tmp_path.rglob("*") if path.is_file()]:
        assert not path.name.startswith("."), path
        check_whole(path)


def test_the_driver_says_where_nothing_was_interrupted(place, tmp_path):
    """Else a command that writes less would pass without a signal."""
    for name in ("plot", "convert"):
        words = words_of(name, place, tmp_path)
        done = subprocess.run(
            [sys.executable, "-c", DRIVER, str(tmp_path), "1000", *words],
            cwd=ROOT, capture_output=True, text=True, start_new_session=True,
        )  # fmt: skip
        assert done.returncode == 99 and any(tmp_path.iterdir()), done.stderr
