"""The sheet holds what the network is fed, to the grey level."""

import numpy as np
import paddle
import pytest
from conftest import ROOT, run_tool
from PIL import Image
from test_engine import make_run

from ppcls_lite.commands import data_show
from ppcls_lite.data.dataset import open_split
from ppcls_lite.data.recipe import train_loader
from ppcls_lite.data.settings import ShowAugmentConfig
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.engine.train import inputs

FLAGS = {"batch_size": 6, "workers": 0, "train_crop_size": 32, "auto_augment": "ra_timm",
         "random_erase": 0.5, "crop_scale": (0.5, 1.0), "seed": 4}  # fmt: skip


@pytest.mark.parametrize("mixing", [{}, {"mixup": 0.8}, {"cutmix": 1.0}])
def test_the_sheet_shows_the_input_of_the_first_step(mixing, pictures, tmp_path):
    settings = {"data_path": str(pictures), **FLAGS, **mixing}
    out = tmp_path / "sheet.png"
    assert data_show.run(ShowAugmentConfig(**settings, out=str(out), pictures=5)) == 0
    page = np.asarray(Image.open(out))

    run = make_run(paddle.nn.Linear(1, 1), 7, **settings)
    run.progress.seed = 4
    data = open_split(str(pictures), "train")
    loader = train_loader(data, TrainConfig(**settings), run.info.preprocess, 4)
    images, targets, _ = inputs(run, next(loader.epoch(0)))
    mean, std = (np.array(v) for v in (run.info.preprocess.mean, run.info.preprocess.std))
    for i in range(5):
        left = i * (32 + data_show.GAP)
        levels = (images[i].numpy().transpose(1, 2, 0) * std + mean) * 255
        # Half a grey level for rounding, and float32.
        assert np.abs(page[:32, left : left + 32] - levels).max() < 0.51
        assert (page[32:, left : left + 32] != 255).any(), "the classes stand below"
    assert page.shape == (32 + data_show.GAP + 2 * data_show.LINE, 5 * 40, 3)
    assert (targets.numpy().max(axis=1) == 1).all() != bool(mixing)


def test_the_command_runs_and_unlabelled_pictures_are_said_to_be_so(pictures, tmp_path):
    flags = ["--seed=1", "--batch-size=60", "--train-crop-size=32", "--workers=0", "--pictures=60",
             f"--unlabelled-path={ROOT / 'test_images'}"]  # fmt: skip
    out = tmp_path / "sheet.png"
    done = run_tool("tools/show_augment.py", f"--data-path={pictures}", *flags, f"--out={out}")
    assert done.returncode == 0, done.stderr
    assert f"wrote {out}: 44 of 44 images, seed 1, not mixed" in done.stdout
    assert data_show.captions(np.zeros(3), None) == ["no label"]
