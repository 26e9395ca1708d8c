"""Names on the disk that are not UTF-8, as a zip packed on a Chinese Windows leaves them."""

import os
import shutil
import subprocess

import pytest
from conftest import ROOT, picture, run_tool, train

from ppcls_lite.data.dataset import open_split
from ppcls_lite.errors import UserError
from ppcls_lite.files import check_utf8, readable
from ppcls_lite.program import quoted

NAME = os.fsdecode(b"\xca\xfd\xbe\xdd")  # GBK
WRITTEN = r"\xca\xfd\xbe\xdd"
STRICT = {"env": os.environ | {"LC_ALL": "C.UTF-8"}}  # under C alone Python lets all bytes pass


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Everything has such a name: the data root, a class, a broken picture, the run folder."""
    root = tmp_path_factory.mktemp("odd") / NAME
    for split in ("train", "val"):
        for class_id, name in enumerate(("blue", NAME)):
            (root / split / name).mkdir(parents=True)
            for number in range(4):
                picture(class_id, number).save(root / split / name / f"{number}.png")
    (root / "train" / "blue" / f"{NAME}.png").touch()
    flags = ("--epochs=1", "--on-error=skip", "--confusion-matrix", "--visualdl")
    done = train(root, root / "out", *flags, **STRICT)
    assert done.returncode == 0, done.stderr
    return root, done.stdout


def test_a_training_says_and_keeps_such_names(trained):
    root, printed = trained
    log = (root / "out" / "train.log").read_bytes().decode("utf-8")
    shown = os.fspath(root).encode("utf-8", "backslashreplace").decode()
    for text in (log, printed):
        assert f"skipped broken image {shown}/train/blue/" in text
    assert f"\n{WRITTEN},4," in (root / "out" / "per_class.csv").read_text(encoding="utf-8")
    assert open_split(str(root), "val").classes == ["blue", WRITTEN]
    again = ["train.py", "-c", root / "out" / "config.yaml", "--dry-run", "--device=cpu"]
    assert run_tool(*again, **STRICT).returncode == 0


def test_the_hints_run_as_they_are_printed(trained):
    root, printed = trained
    (hint,) = [line for line in printed.splitlines() if "tools/predict.py" in line]
    hint = hint.partition("next: ")[2].replace("IMAGE", quoted(str(root / "val" / NAME)))
    hint = hint.replace("python ", f"{quoted(str(ROOT / '.venv/bin/python'))} ", 1)
    done = subprocess.run(["bash", "-c", hint], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("class_id: ") == 4, done.stderr


def test_engines_cannot_write_there_and_say_so(trained, tmp_path):
    root, _ = trained
    weights = root / "out" / "best.pdparams"
    argv = ["tools/export_model.py", "--pretrained", weights, "--save-inference-dir"]
    done = run_tool(*argv, root / "inference", **STRICT)
    assert done.returncode == 2 and "its name is not UTF-8" in done.stderr
    done = run_tool(*argv, tmp_path / "inference", **STRICT)
    assert done.returncode == 0, done.stderr
    assert WRITTEN in (tmp_path / "inference" / "inference.yml").read_text(encoding="utf-8")
    shutil.copytree(tmp_path / "inference", root / "copied")
    argv = ["tools/predict.py", "--img-path", root / "val" / NAME, "--pretrained"]
    done = run_tool(*argv, root / "copied", "--engine=onnxruntime", **STRICT)
    assert done.returncode == 2 and "its name is not UTF-8" in done.stderr


@pytest.mark.parametrize("word", ["a b", "it's", NAME, f"{NAME}'\\ $x", "é", ""])
def test_bash_takes_a_quoted_word_as_it_was(word):
    done = subprocess.run(["bash", "-c", f"printf %s {quoted(word)}"], capture_output=True)
    assert done.stdout == os.fsencode(word)


def test_names_of_bytes_are_readable(tmp_path):
    assert readable(NAME) == WRITTEN and readable("é/a") == "é/a"
    check_utf8(tmp_path)
    with pytest.raises(UserError, match="not UTF-8"):
        check_utf8(tmp_path / NAME)
