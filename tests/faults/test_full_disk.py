"""What a full disk is answered with: the file, what it needs, and what is left."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT, run_tool
from writers import WRITERS, make_place, words_of

from ppcls_lite.files import reserve, write_atomically

# A disk of one megabyte, in a namespace of its own.
SHELL = 'mount -t tmpfs -o size=1m none "$0" && exec "$@"'
# The same with no byte left; prints the files that are there in the end.
FULL = """mount -t tmpfs -o size=1m none "$0" && head -c 2M /dev/zero > "$0/full" 2> /dev/null
"$@"; status=$?; echo; find "$0" -type f -size +0; exit $status"""
READ_ONLY = 'mount -t tmpfs -o size=1m,ro none "$0" && exec "$@"'
# Root without its right to write anywhere; others have none.
PLAIN = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []


@pytest.fixture
def on_a_small_disk(tmp_path):
    """Runs a command with a full-to-be disk at tmp_path/small."""
    small = tmp_path / "small"
    small.mkdir()
    run = ["unshare", "-rm", "sh", "-c", SHELL, str(small)]
    try:
        works = subprocess.run([*run, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        works = False
    if not works:
        pytest.skip("no namespaces here: unshare -rm")

    def command(*argv):
        return subprocess.run(
            [*run, sys.executable, *map(str, argv)], cwd=ROOT, capture_output=True, text=True
        )

    command.folder = small
    return command


def test_an_export_says_what_it_needs_and_leaves_nothing(on_a_small_disk):
    out = on_a_small_disk.folder / "out"
    done = on_a_small_disk(
        "tools/export_model.py", "--pretrained", "mobilenet_v3_small.clothing10",
        "--save-inference-dir", out,
    )  # fmt: skip
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "No space left on device" in done.stderr and str(out) in done.stderr
    assert "MB are needed, 1.0 MB are left" in done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = make_place(tmp_path_factory.mktemp("place"))
    flags = (f"--pretrained={folder / 'weights.pdparams'}", f"--data-path={folder / 'data'}")
    done = run_tool("tools/embed.py", *flags, f"--out={folder / 'features.npz'}")
    assert done.returncode == 0, done.stderr
    return folder


def run_in(prefix, words):
    return subprocess.run(
        [*prefix, sys.executable, *words], cwd=ROOT, capture_output=True, text=True
    )


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_one_message_and_nothing_half(name, place, on_a_small_disk):
    small = on_a_small_disk.folder
    run = ["unshare", "-rm", "sh", "-c", FULL, str(small)]
    done = run_in(run, words_of(name, place, small))
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    message, _, act = done.stderr.partition("\n  next: ")
    assert "No space left on device" in message and str(small) in message, done.stderr
    assert act.startswith("df -h "), done.stderr
    assert [x for x in done.stdout.splitlines() if x.startswith(f"{small}/")] == [f"{small}/full"]


@pytest.mark.parametrize("name", ["embed", "export", "predict"])
def test_a_disk_that_cannot_be_written_is_named(name, place, on_a_small_disk):
    small = on_a_small_disk.folder
    done = run_in(["unshare", "-rm", "sh", "-c", READ_ONLY, str(small)],
                  words_of(name, place, small))  # fmt: skip
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    message, _, act = done.stderr.partition("\n  next: ")
    assert "Read-only file system" in message and str(small) in message, done.stderr
    assert act.startswith("name a folder on a disk that can be written"), done.stderr


@pytest.mark.parametrize("name", ["embed", "export", "predict"])
def test_a_folder_of_somebody_else_is_named(name, place, tmp_path):
    if PLAIN and subprocess.run([*PLAIN, "true"], capture_output=True).returncode:
        pytest.skip("root may write anywhere")
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    done = run_in(PLAIN, words_of(name, place, locked))
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    message, _, act = done.stderr.partition("\n  next: ")
    assert "Permission denied" in message and str(locked) in message, done.stderr
    assert act.startswith("ls -ld "), done.stderr


WRITE = """
import sys
from pathlib import Path
from ppcls_lite.__main__ import explain
from ppcls_lite.files import write_atomically
path = Path(sys.argv[1])
write_atomically(path, b"old")
try:
    write_atomically(path, bytes(2_500_000))
except OSError as error:
    print(explain(error), path.read_bytes(), sorted(path.parent.iterdir()) == [path])
try:
    (path.parent / "plain").write_bytes(bytes(2_500_000))
except OSError as error:
    error.filename = str(path.parent / "plain")
    print(explain(error))
"""


def test_a_file_that_finds_no_room_is_named_and_the_old_one_stays(on_a_small_disk):
    file = on_a_small_disk.folder / "file"
    done = on_a_small_disk("-c", WRITE, file)
    first, act, second, other_act = done.stdout.splitlines()
    assert first == f"{file}: No space left on device (2.5 MB are needed, 1.0 MB are left)"
    assert act.startswith("  next: ") and act.endswith("b'old' True")
    assert second.startswith(f"{file.parent}/plain: No space left on device (")
    assert second.endswith("MB are left)") and other_act.startswith("  next: ")


def test_room_that_is_there_is_given_back(tmp_path):
    reserve(tmp_path, 100_000)
    write_atomically(tmp_path / "file", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
