"""Every command of docs/tutorial.md, in its order, on a few real photographs."""

import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
from conftest import ROOT, run_tool
from serving import serving

PHOTOS = Path(os.environ.get("PPCLS_LITE_PHOTOS") or ROOT.parent / "shared/data/clothing10")
PAGE = (ROOT / "docs/tutorial.md").read_text()
# Not of this test: `make` installs packages, `place` makes folders, the server is tested below.
ELSEWHERE = ("make ", ". .venv", "mkdir ", "cp ", "pip ", "hostname", "curl",
             "python tools/serve.py")  # fmt: skip
EACH = 8  # photographs of a class

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PHOTOS.is_dir(), reason="no images: PPCLS_LITE_PHOTOS names them"),
]


def commands():
    """The lines of the page's shell blocks, without their comments."""
    blocks = re.findall(r"```bash\n(.*?)```", PAGE, re.S)
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A checkout, by links, with my_pictures and unknown in it."""
    folder = tmp_path_factory.mktemp("tutorial")
    for name in ("tools", "ppcls_lite", "configs", "test_images", "train.py"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "unknown").mkdir()
    for name in ("dress", "hat", "shoes"):
        (folder / "my_pictures" / name).mkdir(parents=True)
        photographs = sorted((PHOTOS / "train" / name).iterdir())[: EACH + 1]
        shutil.copy(photographs.pop(), folder / "unknown" / f"{name}.jpg")
        for photograph in photographs:
            shutil.copy(photograph, folder / "my_pictures" / name)
    shutil.copy(ROOT / "test_images/chelsea.jpg", folder / "unknown/cat.jpg")
    return folder


@pytest.fixture(scope="module")
def done(place):
    """What each command said, by its words; it is run where the one before left off."""
    said = {}
    for line in commands():
        if line.startswith(ELSEWHERE):
            continue
        program, *words = shlex.split(line)
        assert program == "python", f"not a command that this test knows: {line}"
        finished = run_tool(*words, cwd=place)
        assert finished.returncode == 0, f"{line}\n{finished.stdout}{finished.stderr}"
        said[line] = finished.stdout + finished.stderr
    return said


def test_every_command_works_and_leaves_what_the_page_says(done, place):
    assert len(done) == 5
    for name in ("findings_report/index.html", "output/best.pdparams", "output/report.html",
                 "heatmaps", "inference"):  # fmt: skip
        assert name in PAGE
        assert (place / name).exists(), name


def test_it_learned_what_the_photographs_show(done):
    """Three classes: chance is a third. The command starts from features of ImageNet."""
    (line,) = [line for line in done if "finetune" in line]
    best = [float(x) for x in re.findall(r"best top1: ([\d.]+)", done[line])]
    assert best[-1] >= 0.6


def test_the_served_model_names_a_photograph(done, place, tmp_path):
    (line,) = [line for line in commands() if line.startswith("python tools/serve.py")]
    folder, *flags = shlex.split(line)[2:]
    with serving(place / folder, tmp_path / "log", *flags) as server:
        photograph = (place / "unknown/shoes.jpg").read_bytes()
        answer = server.post("/predict", photograph).json()
        assert "<html" in server.get("/").text.lower()
    text = str(answer)
    assert any(name in text for name in ("dress", "hat", "shoes"))
    assert any(line.startswith("curl") and line.endswith("/predict") for line in commands())
