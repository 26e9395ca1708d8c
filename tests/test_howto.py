"""Every command of docs/howto.md runs, or a table of the page says why it does not.

So do the commands of a few other pages; what runs those of the rest stands in a second table.
"""

import re
import shlex
import shutil

import pytest
from conftest import ROOT, run_tool

PAGE = (ROOT / "docs/howto.md").read_text()
TASKS, _, REASONS = PAGE.partition("## What runs these commands")
# Behind the page's own flags, of which the last counts: a training of seconds.
TRAINING = (
    "--train-crop-size=32 --val-resize-size=36 --val-crop-size=32 --epochs=1 --batch-size=8"
    " --device=cpu --workers=1 --no-visualdl --eval-engine=dygraph"
)
SMALL = {"train.py": TRAINING.split(), "tools/show_augment.py": ["--workers=0"]}
# A resumed run, one that is evaluated and one that reads my.yaml keep their sizes.
ALSO = ("explain.md", "trust.md", "unequal_classes.md")
AS_IT_STANDS = ("--resume", "--test-only", "-c")


def spans(text):
    """The `code` of the tables that begins with python, in the order of the page."""
    rows = "\n".join(line for line in text.splitlines() if line.startswith("|"))
    return re.findall(r"`(python [^`]+)`", rows)


def left_out():
    return tuple(spans(REASONS))


def typed(text):
    """The commands of the shell blocks of a page that begin with python, without their comments."""
    blocks = "".join(re.findall(r"```bash\n(.*?)```", text, re.S))
    lines = [line.partition("  #")[0].strip() for line in blocks.splitlines()]
    return [line for line in lines if line.startswith("python ")]


def commands():
    """What this test runs, each once."""
    others = [line for name in ALSO for line in typed((ROOT / "docs" / name).read_text())]
    lines = [line for line in spans(TASKS) + others if not line.startswith(left_out())]
    return list(dict.fromkeys(lines))


@pytest.fixture(scope="module")
def place(pictures, tmp_path_factory):
    """A checkout, by links, with the images that the page speaks of."""
    folder = tmp_path_factory.mktemp("howto")
    for name in ("tools", "ppcls_lite", "configs", "test_images", "train.py"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(pictures, folder / "my_pictures")
    for name in ("gallery", "pictures"):
        (folder / name).symlink_to(folder / "my_pictures/val/red")
    for name in ("cat", "shirt", "query"):
        shutil.copy(ROOT / "test_images/chelsea.jpg", folder / f"{name}.jpg")
    return folder


def test_the_commands_of_the_page_run_one_after_the_other(place):
    done = commands()
    assert len(done) > 15
    for line in done:
        line, _, file = line.partition(" > ")
        program, *words = shlex.split(line)[1:]
        small = [] if any(word in words for word in AS_IT_STANDS) else SMALL.get(program, [])
        finished = run_tool(program, *words, *small, cwd=place)
        assert finished.returncode == 0, f"{line}\n{finished.stdout}{finished.stderr}"
        if file:
            (place / file).write_text(finished.stdout)
    for name in ("output/best.pdparams", "packed", "features.npz", "found.html", "seen",
                 "heatmaps", "inference/inference.onnx", "back.safetensors"):  # fmt: skip
        assert (place / name).exists(), name


def test_what_is_left_out_is_on_the_page_and_its_tests_are_there():
    for start in left_out():
        assert any(line.startswith(start) for line in spans(TASKS)), start
    rows = [line for line in REASONS.splitlines() if line.startswith("| `")]
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)`", row)
        assert named, row
        assert all((ROOT / name).is_file() for name in named), row


def test_every_page_with_commands_says_what_runs_them():
    table = REASONS.partition("### The other pages")[2]
    named = {(ROOT / "docs" / link).resolve() for link in re.findall(r"\]\(([^)]+\.md)\)", table)}
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        if "```bash" in page.read_text() and page.parent.name != "measurements":
            same = page.with_name(page.name.replace("_cn", ""))
            assert same.resolve() in {*named, ROOT / "docs/howto.md"}, page
    for file in re.findall(r"`(tests/[\w/]+\.py)`", table):
        assert (ROOT / file).is_file(), file
