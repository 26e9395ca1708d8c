"""One folder of class folders is enough: the split that is drawn, and who uses it later."""

import json
import shutil

import numpy as np
import pytest
from conftest import TINY_FLAGS, picture, run_tool, train
from PIL import Image

from ppcls_lite.commands.folds import run_all
from ppcls_lite.data.dataset import open_split
from ppcls_lite.data.shares import Shares, equal_groups, is_whole, split_pictures
from ppcls_lite.engine.sets import open_sets
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.errors import UserError


@pytest.fixture
def one(tmp_path):
    """DATA/{blue,green,red}/*.png: 9 + 11 + 14 pictures."""
    for class_id, (name, count) in enumerate((("blue", 9), ("green", 11), ("red", 14))):
        folder = tmp_path / "one" / name
        folder.mkdir(parents=True)
        for number in range(count):
            picture(class_id, number).save(folder / f"{number}.png")
    return tmp_path / "one"


def files(root, side, **shares):
    data = open_split(str(root), side, shares=Shares(**shares))
    return {data.path(i): data.classes[data.label(i)] for i in range(len(data))}


def everything(root):
    return {p: p.stat().st_mtime_ns for p in sorted(root.rglob("*"))}


def test_each_class_gives_its_share_and_the_seed_decides(one):
    train_side, val = files(one, "train"), files(one, "val")
    assert not {*train_side} & {*val} and len(train_side) + len(val) == 34
    assert [list(val.values()).count(x) for x in ("blue", "green", "red")] == [2, 2, 3]
    assert files(one, "val") == val != files(one, "val", seed=1)
    assert [*files(one, "val", val_share=0.5).values()].count("red") == 7


def test_every_picture_is_once_in_one_fold(one):
    folds = [files(one, "val", folds=3, fold=i) for i in range(3)]
    assert sum(map(len, folds)) == 34 == len({path for fold in folds for path in fold})
    counts = [[list(fold.values()).count(x) for x in ("blue", "green", "red")] for fold in folds]
    assert max(map(max, zip(*counts, strict=True))) <= 5 and [sum(x) for x in counts] != [34, 0, 0]
    assert {*files(one, "train", folds=3, fold=1)} == {p for i in (0, 2) for p in folds[i]}


def photograph(number):
    """Smooth, as photographs are."""
    small = np.random.RandomState(number).randint(0, 255, (5, 5, 3)).astype(np.uint8)
    return Image.fromarray(small).resize((160, 120), Image.Resampling.BICUBIC)


def test_copies_and_near_copies_stay_on_one_side(tmp_path):
    for i in range(12):
        photograph(i).save(tmp_path / f"{i:02}.png")
    shutil.copy(tmp_path / "00.png", tmp_path / "copy.png")
    near = photograph(1).resize((120, 90), Image.Resampling.BILINEAR)
    near.save(tmp_path / "near.jpg", quality=60)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    paths = sorted(map(str, tmp_path.iterdir()))
    groups = dict(zip(paths, equal_groups(tuple(paths)).tolist(), strict=True))
    same = {name: groups[str(tmp_path / name)] for name in ("00.png", "01.png", "copy.png")}
    assert (
        same["00.png"] == same["copy.png"] != same["01.png"] == groups[str(tmp_path / "near.jpg")]
    )
    assert len({*groups.values()}) == 13
    for seed in range(8):
        sides = split_pictures(paths, [0] * 15, Shares(0.5, seed=seed))
        held = {paths[i] for i in sides.val}
        for pair in (("00.png", "copy.png"), ("01.png", "near.jpg")):
            assert len({str(tmp_path / name) in held for name in pair}) == 1
        assert "2 images are others once more, or nearly" in sides.notes[0]


def test_what_cannot_be_split_is_said(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(3):
            photograph(0).save(tmp_path / name / f"{i}.png")
    with pytest.raises(UserError, match="all 6 images are the same"):
        files(tmp_path, "val")
    (tmp_path / "train").mkdir()
    assert not is_whole(str(tmp_path))  # something is missing there
    with pytest.raises(UserError, match="has no val/"):
        files(tmp_path, "val")
    pairs, single = tmp_path / "pairs", tmp_path / "single"
    for i, name in enumerate(("a", "b", "a", "b")):
        for root, copies in ((single, i < 2), (pairs, 2)):
            for copy in range(copies):
                (root / name).mkdir(parents=True, exist_ok=True)
                photograph(i).save(root / name / f"{i}-{copy}.png")
    # Two pictures of each class, twice: a fifth of four is one, and fits none of them.
    with pytest.raises(UserError, match="no image is left for validation") as refused:
        files(pairs, "val")
    assert refused.value.hint == "--val-share 0.5" and files(pairs, "val", val_share=0.5)
    with pytest.raises(UserError, match="no image is left for validation") as refused:
        files(single, "val")  # no share helps
    assert refused.value.hint.startswith("add another image of each class")
    with pytest.raises(UserError, match="--fold 3 is one of --folds K"):
        TrainConfig(folds=3, fold=3)


def test_a_split_of_one_image_many_times_is_refused(tmp_path):
    for place in ("train/a/0", "train/a/1", "train/b/0", "val/a/0", "val/b/0"):
        file = tmp_path / f"{place}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        photograph(0).save(file)
    config = TrainConfig(data_path=str(tmp_path))
    with pytest.raises(UserError, match="all 3 training images are the same"):
        open_sets(config)
    photograph(1).save(tmp_path / "train/b/0.png")
    assert len(open_sets(config).train) == 3


@pytest.mark.parametrize(
    ("names", "whole"),
    [
        (("Valio-Yoghurt", "trainers", "test tube"), True),  # classes that begin like a split
        (("bus", "car", "train"), True),
        (("bus", "train"), False),  # train/ without class folders, and something else
        (("bus", "car", "train", "val"), False),
        (("a", "b", "Training_set"), False),
        (("a", "b", "val2017"), False),
        (("train-images", "test-images"), False),
    ],
)
def test_which_folders_are_classes(names, whole, tmp_path):
    for name in names:
        (tmp_path / name).mkdir()
        picture(0, 1).save(tmp_path / name / "1.png")
    assert is_whole(str(tmp_path)) is whole


def test_a_run_keeps_its_split_and_leaves_the_data_alone(one, tmp_path):
    before, out = everything(one), tmp_path / "out"
    done = train(one, out, "--epochs=1", "--val-share=0.5")
    assert done.returncode == 0, done.stderr
    assert "17 train, 17 val images" in done.stdout or "16 train, 18 val" in done.stdout
    val = (out / "split/val_list.txt").read_text()
    assert "train/" not in val and "split" in {p.name for p in out.iterdir()}
    count = len(val.splitlines())
    # Pictures that came later are in no side; another share or seed is not drawn either.
    picture(0, 99).save(one / "blue" / "99.png")
    best = out / "best.pdparams"
    done = run_tool("train.py", "--test-only", f"--data-path={one}", f"--pretrained={best}")
    assert done.returncode == 0, done.stderr
    assert f"{count} images of" in done.stdout and f"val is that of {out / 'split'}" in done.stdout
    done = train(one, out, "--epochs=2", "--resume=auto")
    assert done.returncode == 0 and f"{34 - count} train, {count} val images" in done.stdout
    assert (out / "split/val_list.txt").read_text() == val
    (one / "blue" / "99.png").unlink()
    assert {p: t for p, t in everything(one).items() if p.is_file()} == {
        p: t for p, t in before.items() if p.is_file()
    }


def test_a_flag_of_the_split_beside_a_split_is_refused(pictures, tmp_path):
    done = train(pictures, tmp_path / "out", "--val-share=0.3")
    assert done.returncode == 2 and "has a train and val of its own" in done.stderr
    assert f"--data-path {pictures / 'train'}" in done.stderr


def test_all_folds_run_and_are_summed_up(tmp_path, capsys):
    def one_fold(config):
        folder = tmp_path / f"fold-{config.fold}"
        assert config.output_dir == str(folder) and config.folds == 3
        folder.mkdir()
        metrics = {"top1": (0.5, 0.7, 0.9)[config.fold], "loss": 1.0}
        (folder / "best.json").write_text(json.dumps({"metrics": metrics}))
        return 0

    assert run_all(TrainConfig(folds=3, output_dir=str(tmp_path)), one_fold) == 0
    assert "3 folds: val top1 0.7000 +- 0.2000" in capsys.readouterr().out
    found = json.loads((tmp_path / "folds.json").read_text())
    assert found["mean"]["top1"] == pytest.approx(0.7) and found["deviation"]["loss"] == 0


def test_the_check_of_one_folder_counts_it_whole(one):
    done = run_tool("tools/check_data.py", f"--data-path={one}", "--json", "--workers=0")
    report = json.loads(done.stdout)
    assert done.returncode == 0 and [*report["splits"]] == ["all"] and not report["problems"]


def test_the_short_command_takes_one_folder(one, tmp_path):
    flags = [x for x in TINY_FLAGS if not x.startswith(("--lr", "--width"))]
    argv = [f"--data-path={one}", f"--output-dir={tmp_path / 'out'}", "--dry-run", *flags]
    done = run_tool("tools/finetune.py", *argv, "--model=mobilenet_v3_small", "--split-seed=4")
    assert done.returncode == 0, done.stderr
    assert "7 images for val (20% of each class, seed 4)" in done.stdout
    assert not (tmp_path / "out").exists()
