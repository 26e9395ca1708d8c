"""Every recipe in configs/ builds all it asks for and takes real steps on real pictures."""

import pytest
from conftest import ROOT

from ppcls_lite.__main__ import dispatch

# What makes a step quick or possible here; all else is the recipe's own.
SMALL = (
    "--dry-run", "--device=cpu", "--workers=0", "--batch-size=4", "--train-crop-size=32",
    "--val-resize-size=36", "--val-crop-size=32", "--num-classes=1000", "--dataset=folder",
    "--cpu-kernels=off", "--seed=0", "--no-visualdl",
)  # fmt: skip

pytestmark = pytest.mark.slow  # trains


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_a_recipe_takes_a_step(path, pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PPCLS_LITE_HOME", str(tmp_path))  # nothing is in the cache
    flags = [*SMALL, f"--data-path={pictures}", f"--output-dir={tmp_path / 'run'}"]
    if "\nteacher: " in path.read_text():  # whose weights a run before this one makes
        # Three colours are no classes of that teacher; without labels its answers are learnt.
        flags += ["--teacher-pretrained=default", "--distill-weight=1"]
    assert dispatch("train", ["-c", str(path), *flags], "train") == 0
    said = capsys.readouterr().out
    assert "dry run   loss" in said and "memory" in said
    assert not list(tmp_path.rglob("*.pd*"))  # a dry run leaves nothing behind
