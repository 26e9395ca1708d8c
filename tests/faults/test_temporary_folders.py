"""Temporary folders go: at the end, and at the next start when their owner was killed."""

import subprocess
import sys

import pytest
from conftest import ROOT

from ppcls_lite.files import temporary_folder

KILLED = """
import os, signal, sys
from pathlib import Path
from ppcls_lite.files import temporary_folder
with temporary_folder("ppcls-x-", Path(sys.argv[1])) as folder:
    (Path(folder) / "file").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_goes_and_what_is_in_use_stays(tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    assert subprocess.run(command, cwd=ROOT).returncode == -9
    (left,) = tmp_path.iterdir()
    (tmp_path / "ppcls-x-mine").mkdir()  # without an owner it is not ours
    with temporary_folder("ppcls-x-", tmp_path) as first:
        assert not left.exists()
        with temporary_folder("ppcls-x-", tmp_path) as second:
            names = {path.name for path in tmp_path.iterdir()}
            assert len(names) == 3 and first != second
    with pytest.raises(KeyError), temporary_folder("ppcls-x-", tmp_path):
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["ppcls-x-mine"]
