"""tools/check_data.py finds what was put into a data set to be found."""

import json
import shutil
from pathlib import Path

import pytest
from golden.data_images import make_image

from ppcls_lite.commands.data_check import run
from ppcls_lite.data.settings import CheckDataConfig
from ppcls_lite.errors import UserError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A clean data set: two pictures per class and split, one empty class in both."""
    seed = 0
    for split in ("train", "val"):
        (tmp_path / split / "cat").mkdir(parents=True)
        for name in ("ant", "bee"):
            (tmp_path / split / name).mkdir()
            for i in range(2):
                seed += 1
                image = make_image(20 + 10 * seed, 30, seed)
                image.save(tmp_path / split / name / f"{i}.png")
    return tmp_path


def test_a_clean_data_set_is_ok(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(CheckDataConfig(str(root), workers=0)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:5]] == [
        ["class", "train", "val"],
        ["0", "ant", "2", "2"],
        ["1", "bee", "2", "2"],
        ["2", "cat", "0", "0"],
        ["total", "4", "4"],
    ]
    assert f"train: smallest 30 x 30 {root}/train/ant/0.png" in lines
    assert f"val: largest 100 x 30 {root}/val/bee/1.png" in lines
    assert "train: classes without pictures (1): cat" in lines
    assert lines[-1] == "OK"


@pytest.mark.parametrize("workers", [0, 2])
def test_problems_are_listed_and_set_the_exit_status(
    root: Path, workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "train" / "ant" / "broken.jpg").write_bytes(b"")
    (root / "train" / "ant" / "phone.cr2").touch()
    shutil.copy(root / "train" / "bee" / "1.png", root / "val" / "ant" / "copy.png")
    (root / "val" / "dog").mkdir()
    assert run(CheckDataConfig(str(root), workers=workers, json=True)) == 1
    report = json.loads(capsys.readouterr().out)
    train = report["splits"]["train"]
    assert train["pictures"] == 5
    assert train["classes"][0] == {"id": 0, "name": "ant", "pictures": 3}
    assert train["broken"] == [
        {"file": f"{root}/train/ant/broken.jpg", "cause": "is empty (0 bytes)"}
    ]
    assert train["other_files"] == [f"{root}/train/ant/phone.cr2"]
    assert train["largest"] == {"file": f"{root}/train/bee/1.png", "width": 60, "height": 30}
    classes, broken, duplicate = report["problems"]
    assert broken == f"broken picture {root}/train/ant/broken.jpg: is empty (0 bytes)"
    assert classes == "only in val, and without pictures: dog"
    assert (
        duplicate == f"val picture {root}/val/ant/copy.png is also in train: {root}/train/bee/1.png"
    )


def test_bad_list_lines_and_a_missing_split_are_problems(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train_list.txt").write_text("a.png zero\nb.png 0 0.5\n")
    assert run(CheckDataConfig(str(tmp_path), workers=0)) == 1
    output = capsys.readouterr().out
    assert "train_list.txt:1: 'a.png zero'" in output and "train_list.txt:2: " in output
    assert "has no val/ with class folders and no val_list.txt" in output
    assert "2 problems:" in output


def test_a_wrong_data_path_is_one_mistake(root: Path) -> None:
    with pytest.raises(UserError, match=r"no such folder; did you mean train\?"):
        run(CheckDataConfig(str(root / "trian"), workers=0))
