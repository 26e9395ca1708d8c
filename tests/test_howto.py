"""The commands of docs/howto.md run one after the other, but for those with a row in documented.py.

So do the commands of a few other pages.
"""

import shlex
import shutil

import pytest
from conftest import ROOT, run_tool
from documented import blocks, row_of, spans

# Behind the page's own flags, of which the last counts: a training of seconds.
TRAINING = (
    "--train-crop-size=32 --val-resize-size=36 --val-crop-size=32 --epochs=1 --batch-size=8"
    " --device=cpu --workers=1 --no-visualdl --eval-engine=dygraph"
)
SMALL = {
    "train.py": TRAINING.split(),
    "tools/finetune.py": ["--epochs=1"],  # test_tutorial.py has all of them
    "tools/show_augment.py": ["--workers=0"],
}
# A resumed run, one that is evaluated and one that reads a recipe keep their sizes; help has none.
ALSO = ("explain.md", "trust.md", "unequal_classes.md")
# Of other pages, behind those.
MORE = (
    "python train.py --help all",
    "python tools/serve.py --help",
    "python train.py -c configs/ppcls_MobileNetV3_small_x1_0.yaml --data-path ILSVRC2012"
    " --print-config",
    "python tools/predict.py --pretrained tf_mobilenetv3_small_100.imagenet"
    " --img-path test_images/chelsea.jpg",
)
AS_IT_STANDS = ("--resume", "--test-only", "-c", "--help")


def commands():
    """What this test runs, each once."""
    page, *others = [(ROOT / "docs" / name).read_text() for name in ("howto.md", *ALSO)]
    lines = spans(page) + [line for text in others for line in blocks(text)]
    lines = [line for line in lines if line.startswith("python ") and not row_of(line)]
    return list(dict.fromkeys([*lines, *MORE]))


@pytest.fixture(scope="module")
def place(pictures, tmp_path_factory):
    """A checkout, by links, with the images that the pages speak of."""
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
