"""Which class is which, through every command: the right number, where the wrong one was silent.

The network is the one of the tests, which tells blue, green and red pictures apart. As an ImageNet
network it has 1,000 rows, of which three are its own: tench, goldfish and crane bird.
"""

import json
import logging
import os
import re
import shutil
import subprocess
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT, TINY_FLAGS, picture, run_tool, train, warm_path
from test_folders import NUMBERS

from ppcls_lite.accelerator.settings import ExportAcceleratorConfig
from ppcls_lite.commands import data_pack, export_accelerator, export_check, predict
from ppcls_lite.data.classes import ClassSet
from ppcls_lite.data.dataset import open_split
from ppcls_lite.data.imagenet import imagenet_names, imagenet_synsets
from ppcls_lite.data.settings import PackDatasetConfig
from ppcls_lite.deploy.export import export_model
from ppcls_lite.deploy.predictor import Predictor
from ppcls_lite.deploy.settings import CompareConfig, PredictConfig
from ppcls_lite.engine.sets import head_rows, open_sets
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.errors import UserError
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.quantize.job import open_job
from ppcls_lite.quantize.settings import QuantizeConfig
from ppcls_lite.serving.store import Entry, _warn_of_other_classes
from ppcls_lite.weights.description import save_weights
from ppcls_lite.weights.find import find_weights

COLOURS = ("blue", "green", "red")
WNIDS = {"blue": "n01440764", "green": "n01443537", "red": "n02012849"}
IDS = {"blue": 0, "green": 1, "red": 134}


@pytest.fixture(scope="module")
def score(straight):
    """Top-1 of the network on the validation pictures, as it printed it."""
    return re.findall(r" \* Acc@1 ([\d.]+)", straight[1].stdout)[-1]


def with_head(straight, folder, ids, count, names):
    """The network with `count` classes, of which `ids` are its own three."""
    found = find_weights(straight[0] / "latest.pdparams")
    arrays = dict(found.arrays)
    weight, bias = list(arrays)[-2:]
    wide, low = np.zeros((len(arrays[weight]), count), "f4"), np.full(count, -50, "f4")
    wide[:, ids], low[ids] = arrays[weight], arrays[bias]
    info = found.info
    info = ModelInfo(info.name, count, info.overrides, tuple(names), info.preprocess)
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(folder / "net.pdparams", {**arrays, weight: wide, bias: low}, info)
    return folder / "net.pdparams"


@pytest.fixture(scope="module")
def imagenet(straight, tmp_path_factory):
    """The network as one of ImageNet's 1,000 classes."""
    folder = tmp_path_factory.mktemp("imagenet")
    return with_head(straight, folder, list(IDS.values()), 1000, imagenet_names(1000))


def links(pictures, root, names, splits=("train", "val")):
    """The same pictures in class folders of other names."""
    for split in splits:
        (root / split).mkdir(parents=True, exist_ok=True)
        for colour, name in names.items():
            (root / split / name).symlink_to(pictures / split / colour)
    return root


def flat(pictures, root):
    """val/photo_val_0000000N.JPEG, and the colour of each."""
    (root / "val").mkdir(parents=True)
    colours = []
    for colour in COLOURS:
        for file in sorted((pictures / "val" / colour).iterdir()):
            colours.append(colour)
            (root / "val" / f"photo_val_{len(colours):08}.JPEG").symlink_to(file)
    return [(f"photo_val_{i:08}", colour) for i, colour in enumerate(colours, 1)]


def evaluate(weights, data, *flags):
    argv = ["train.py", "--test-only", "--device=cpu", "--workers=0", "--eval-engine=dygraph"]
    return run_tool(*argv, f"--pretrained={weights}", f"--data-path={data}", *flags)


# Evaluation


def test_an_imagenet_network_on_wnid_folders(imagenet, pictures, score, tmp_path):
    done = evaluate(imagenet, links(pictures, tmp_path, WNIDS, ["val"]))
    assert done.returncode == 0, done.stderr
    assert f" * Acc@1 {score} Acc@5" in done.stdout
    assert "classes: 3 of the 1000 classes of the model, by name: n01440764 is tench" in done.stdout
    assert "no image of 997 of the model's 1000 classes" in done.stdout


def listed_layouts(pictures, root):
    """A flat val with each kind of list; yields what is tried."""
    files = flat(pictures, root)
    rows = [(name, IDS[colour], WNIDS[colour]) for name, colour in files]
    for name, lines in {
        "val_label.txt": [f"{file}.JPEG {i}" for file, i, _ in rows],
        "val_list.txt": [f"val/{file}.JPEG {i}" for file, i, _ in rows],
        "LOC_val_solution.csv": [
            "ImageId,PredictionString",
            *(f"{file},{wnid} 1 2 3 4 " for file, _, wnid in rows),
        ],
        "val.csv": ["file,label", *(f"{file}.JPEG,{wnid}" for file, _, wnid in rows)],
    }.items():
        (root / name).write_text("".join(f"{line}\n" for line in lines))
        yield name
        (root / name).unlink()
    # Ids from 1 to 1,000: that of class 999 is given to a picture that is none of the three.
    extra = root / "val" / NUMBERS.format(0)
    picture(0, 77).save(extra.with_suffix(".png"))
    extra.with_suffix(".png").rename(extra)
    lines = [f"{file}.JPEG {i + 1}" for file, i, _ in rows] + [f"{extra.name} 1000"]
    (root / "val_list.txt").write_text("".join(f"{line}\n" for line in lines))
    yield "from 1"


def test_labels_are_the_networks_ids_in_every_layout(imagenet, pictures, tmp_path):
    known = find_weights(imagenet).info.class_set("the network")
    for layout in listed_layouts(pictures, tmp_path):
        data, match = open_split(str(tmp_path), "val").matched(known, "val", "")
        labels = np.sort(data.labels).tolist()
        expected = [0] * 7 + [1] * 7 + [134] * 7
        assert labels == ([*expected, 999] if layout == "from 1" else expected), layout
        assert ("count from 1" in match.how) == (layout == "from 1")


def test_a_list_of_ids_beside_the_folders_to_train_on(imagenet, pictures, score, tmp_path):
    """The ids are positions of three folders, not ImageNet's."""
    links(pictures, tmp_path, WNIDS, ["train"])
    lines = [f"{name}.JPEG {COLOURS.index(colour)}" for name, colour in flat(pictures, tmp_path)]
    (tmp_path / "val_list.txt").write_text("".join(f"{line}\n" for line in lines))
    done = evaluate(imagenet, tmp_path)
    assert f" * Acc@1 {score} Acc@5" in done.stdout, done.stderr


def test_numeric_folders_and_a_list_beside_them(straight, pictures, score, tmp_path):
    """Twelve folders, of which three have the pictures; sorted as text, 10 comes before 2."""
    names = {"blue": "2", "green": "10", "red": "11"}
    links(pictures, tmp_path, names, ["train"])
    for number in range(12):
        (tmp_path / "train" / str(number)).mkdir(exist_ok=True)
    lines = [f"{name}.JPEG {names[colour]}" for name, colour in flat(pictures, tmp_path)]
    (tmp_path / "val_list.txt").write_text("".join(f"{line}\n" for line in lines))
    ids = [2, 10, 11]
    net = with_head(straight, tmp_path / "new", ids, 12, map(str, range(12)))
    assert f" * Acc@1 {score} Acc@5" in evaluate(net, tmp_path).stdout
    # A network that was trained when folders were sorted as text: by its class names.
    order = sorted(map(str, range(12)))
    older = with_head(straight, tmp_path / "old", [order.index(str(i)) for i in ids], 12, order)
    assert f" * Acc@1 {score} Acc@5" in evaluate(older, tmp_path).stdout
    config = TrainConfig(data_path=str(tmp_path))
    sets = open_sets(config)
    assert sets.train.classes == [str(i) for i in range(12)]
    assert [sets.val.labels.tolist().count(i) for i in ids] == [7, 7, 7]
    resumed = open_sets(config, find_weights(older).info)
    assert resumed.train.classes == resumed.val.classes == order
    assert np.bincount(resumed.val.labels)[[order.index(str(i)) for i in ids]].tolist() == [7, 7, 7]


def test_data_with_a_class_that_the_network_lacks(imagenet, pictures, tmp_path):
    links(pictures, tmp_path, WNIDS | {"red": "n00004475"}, ["val"])
    done = evaluate(imagenet, tmp_path)
    assert done.returncode == 2 and "only in val: n00004475" in done.stderr
    assert f"next: python train.py --pretrained {imagenet} --data-path {tmp_path}" in done.stderr


# Training


def head_of(path):
    arrays = find_weights(path).arrays
    return list(arrays.values())[-2:]


def fine_tune(weights, data, out):
    flags = [f for f in TINY_FLAGS if not f.startswith(("--width", "--lr"))]
    argv = [f"--data-path={data}", f"--output-dir={out}", f"--pretrained={weights}"]
    done = run_tool("train.py", *argv, *flags, "--lr=0", "--epochs=1", "--seed=1")
    assert done.returncode == 0, done.stderr
    return done.stdout, *head_of(out / "best.pdparams")


def test_other_names_with_the_same_count_start_fresh(straight, pictures, tmp_path):
    weight, bias = head_of(straight[0] / "best.pdparams")
    other = links(pictures, tmp_path / "other", {"blue": "ant", "green": "bee", "red": "cat"})
    printed, new_weight, new_bias = fine_tune(straight[0] / "best.pdparams", other, tmp_path / "a")
    assert "the last layer starts fresh: classifier.3.weight, classifier.3.bias" in printed
    # Small, and its own: sums of 512 weights would differ by far more.
    assert not new_bias.any() and 0.005 < new_weight.std() < 0.015
    some = links(pictures, tmp_path / "some", {"red": "GREEN", "blue": "ant", "green": "red"})
    printed, new_weight, new_bias = fine_tune(straight[0] / "best.pdparams", some, tmp_path / "b")
    assert "the last layer: 2 of 3 rows by name (GREEN, red), fresh: ant" in printed
    assert np.array_equal(new_weight[:, [0, 2]], weight[:, [1, 2]])  # GREEN, ant, red
    assert new_bias.tolist() == [bias[1], 0, bias[2]] and new_weight[:, 1].std() < 0.015


def test_rows_of_an_imagenet_network_go_on_by_wnid(imagenet, pictures, tmp_path):
    data = links(pictures, tmp_path / "data", WNIDS | {"red": "n00004475"})  # of ImageNet-21k
    printed, weight, bias = fine_tune(imagenet, data, tmp_path / "out")
    names = "tench (n01440764), goldfish (n01443537)"
    assert f"the last layer: 2 of 3 rows by name ({names}), fresh: n00004475" in printed
    wide, low = head_of(imagenet)
    assert np.array_equal(weight[:, 1:], wide[:, :2]) and bias.tolist() == [0, *low[:2]]
    info = find_weights(tmp_path / "out" / "best.pdparams").info
    assert info.classes == ("n00004475", "n01440764", "n01443537")


def test_which_rows_go_on():
    net = ModelInfo("m", 3, classes=("a", "b", "c"))

    def classes(names, **more):
        return ClassSet("train", tuple(names), len(names), **more)

    assert head_rows(net, classes("abc"), 3) == (None, "")
    assert head_rows(net, classes("cb"), 2)[0] == [2, 1]
    assert head_rows(net, classes("ab"), 4)[0] == [0, 1, -1, -1]
    assert head_rows(net, classes("xyz"), 3) == ([-1, -1, -1], "")
    rows, words = head_rows(ModelInfo("m", 3), classes("xyz"), 3)
    assert rows is None and "goes on as it is: the weights has no class names" in words
    rows, words = head_rows(net, classes("012", numbers=(0, 1, 2)), 3)
    assert rows is None and "train has no class names" in words
    assert head_rows(ModelInfo("m", 5), classes("xyz"), 3) == (None, "")
    assert head_rows(net, classes("012"), 3)[0] == [-1, -1, -1]  # folders called by digits


def test_the_plan_names_classes_with_few_pictures(pictures, tmp_path):
    links(pictures, tmp_path / "data", {"red": "n01440764", "blue": "bee", "green": "cat"})
    root = tmp_path / "data"
    (root / "val" / "cat").unlink()
    (root / "val" / "empty").mkdir()
    (root / "train" / "ant").mkdir()
    picture(1, 5).save(root / "train" / "ant" / "1.png")
    (root / "train" / "none").mkdir()
    (root / "train" / "none" / "1.psd").touch()
    (root / "val" / "bee").rename(root / "val" / "BEE")
    done = train(root, tmp_path / "out", "--dry-run")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "warning   train has no image of class none" in lines
    assert "warning   train has a single image of class ant" in lines
    assert "warning   val has no image of 3 classes: ant, cat, none" in lines
    assert "classes   2 of val's 3 classes, by name: BEE is bee" in lines
    assert f"note      {root}/train: passed over, not taken for images: 1 .psd" in lines
    draw = picture(1, 6)
    draw.save(root / "val" / "empty" / "1.png")
    done = train(root, tmp_path / "out", "--dry-run")
    assert done.returncode == 2 and "only in val: empty" in done.stderr


def test_predict_answers_with_names_and_the_wnid_beside_them(
    imagenet, straight, pictures, tmp_path, capsys
):
    small = with_head(straight, tmp_path / "small", [0, 1, 2], 3, WNIDS.values())
    image = str(next((pictures / "val" / "red").iterdir()))
    names = {p.class_id: p.name for p in Predictor(small)([image], topk=3)[0]}
    assert names[2] == "crane bird (n02012849)"
    names = {p.class_id: p.name for p in Predictor(imagenet)([image], topk=1000)[0]}
    assert names[134] == "crane bird"  # torchvision's
    export_model(find_weights(small), tmp_path / "export", formats=("onnx",))
    assert predict.run(PredictConfig(pretrained=str(tmp_path / "export"), img_path=image)) == 0
    assert "2  crane bird (n02012849)" in capsys.readouterr().out
    # The C++ program reads the names there.
    assert "crane bird (n02012849)" in (tmp_path / "export" / "inference.yml").read_text()


# Deployment


def quantize_job(weights, data):
    settings = QuantizeConfig(
        pretrained=str(weights), data_path=str(data), calibration_images=6, out="x"
    )
    return open_job(settings)


def test_quantize_goes_by_the_folders_names(straight, imagenet, pictures, score, tmp_path):
    """Two folders renamed: their names tell, not their places."""
    weights = with_head(straight, tmp_path / "net", [2, 1, 0], 3, ("red", "green", "blue"))
    for net, data in ((weights, pictures), (imagenet, links(pictures, tmp_path / "in", WNIDS))):
        job = quantize_job(net, data)
        right = float(np.mean(job.reference.argmax(1) == job.labels))
        assert f"{right:.3f}" == score
    assert "3 of the 1000 classes" in job.matched[0]
    other = links(pictures, tmp_path / "other", {"red": "red", "green": "blue", "blue": "grey"})
    with pytest.raises(UserError, match=r"only in train: grey"):
        quantize_job(weights, other)


@pytest.fixture(scope="module")
def bundle(imagenet, pictures, tmp_path_factory):
    """Of an ImageNet network and three wnid folders."""
    root = tmp_path_factory.mktemp("bundle")
    links(pictures, root / "data", WNIDS)
    config = ExportAcceleratorConfig(
        pretrained=str(imagenet), out=str(root / "bundle"), data_path=str(root / "data"),
        calibration_images=9, opset_version=10,
    )  # fmt: skip
    assert export_accelerator.run(config) == 0
    return root / "bundle"


def test_a_bundle_of_an_imagenet_network_and_a_few_folders(bundle):
    lines = (bundle / "labels/val_label.txt").read_text().splitlines()
    assert sorted({int(line.rpartition(" ")[2]) for line in lines}) == [0, 1, 134]
    listed = (bundle / "calibration_list.txt").read_text().split()[1::2]
    assert sorted(set(listed), key=int) == ["0", "1", "134"]
    assert json.loads((bundle / "labels/wnid.json").read_text())["n02012849"] == 134
    names = (bundle / "labels/label.txt").read_text().splitlines()
    assert names == list(imagenet_synsets().values())
    missing = json.loads((bundle / "bundle.json").read_text())["calibration"]["missing_classes"]
    assert len(missing) == 997


def simulate(bundle, val):
    """Both lines that `run.sh sim` prints, as top-1 in percent."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "PATH": warm_path()}
    done = subprocess.run(
        ["sh", "run.sh", "sim", val], cwd=bundle, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [float(x) for x in re.findall(r"top1_rate: ([\d.]+)", done.stdout)]


def test_the_simulated_card_is_right_where_the_network_is(bundle, pictures, score, tmp_path):
    right = 100 * float(score)
    found = simulate(bundle, bundle.parent / "data" / "val")
    # int8, and the card's own resizing: a picture of 21 or two may flip.
    assert len(found) == 2 and min(found) > right - 12
    # Another val set than the bundle's own, spelled otherwise.
    names = {"blue": "tench", "green": "Goldfish", "red": "n02012849-crane"}
    other = links(pictures, tmp_path, names, ["val"])
    for colour in COLOURS:
        (other / "val" / names[colour]).unlink()
        shutil.copytree(pictures / "val" / colour, other / "val" / names[colour])
    for file in list((other / "val").glob("*/*.png")):
        file.rename(file.with_name(f"other_{file.name}"))
    assert simulate(bundle, other / "val") == found


def test_a_bundle_of_listed_pictures_is_tried_on_their_flat_folder(
    imagenet, pictures, score, tmp_path
):
    data = links(pictures, tmp_path / "data", WNIDS, ["train"])
    rows = [f"val/{name}.JPEG {IDS[colour]}\n" for name, colour in flat(pictures, data)]
    (data / "val_list.txt").write_text("".join(rows))
    (data / "train_list.txt").write_text(
        "".join(
            f"train/{WNIDS[colour]}/{file.name} {IDS[colour]}\n"
            for colour in COLOURS
            for file in (data / "train" / WNIDS[colour]).iterdir()
        )
    )
    config = ExportAcceleratorConfig(
        pretrained=str(imagenet), out=str(tmp_path / "bundle"), data_path=str(data),
        calibration_images=9, opset_version=10,
    )  # fmt: skip
    assert export_accelerator.run(config) == 0
    found = simulate(tmp_path / "bundle", data / "val")
    assert len(found) == 2 and min(found) > 100 * float(score) - 12


def test_compare_looks_at_the_same_classes(straight, pictures, tmp_path, capsys):
    names = ("green", "red", "blue")
    turned = with_head(straight, tmp_path / "turned", [2, 0, 1], 3, names)
    export_model(find_weights(turned), tmp_path / "export", formats=("onnx",))
    config = CompareConfig(
        pretrained=str(straight[0] / "latest.pdparams"), exported=str(tmp_path / "export"),
        img_path=str(pictures / "val"),
    )  # fmt: skip
    assert export_check.run(config) == 0
    assert capsys.readouterr().out.count("100%") >= 2
    other = with_head(straight, tmp_path / "other", [0, 1, 2], 3, ("green", "red", "pink"))
    export_model(find_weights(other), tmp_path / "export2", formats=("onnx",))
    config = CompareConfig(
        pretrained=str(straight[0] / "latest.pdparams"), exported=str(tmp_path / "export2"),
        img_path=str(pictures / "val"),
    )  # fmt: skip
    with pytest.raises(UserError, match=r"they do not agree: only in .*latest.pdparams: blue"):
        export_check.run(config)


def test_packed_pictures_have_the_classes_of_train(pictures, tmp_path):
    links(pictures, tmp_path / "data", {"blue": "B", "green": "G", "red": "R"}, ["train"])
    links(pictures, tmp_path / "data", {"red": "r", "blue": "b"}, ["val"])
    config = PackDatasetConfig(str(tmp_path / "data"), out=str(tmp_path / "packed"), workers=0)
    config = replace(config, follow_links=True)
    assert data_pack.run(config) == 0
    val = open_split(str(tmp_path / "packed"), "val")
    assert val.classes == ["B", "G", "R"] and np.bincount(val.labels).tolist() == [7, 0, 7]


@pytest.mark.parametrize(
    ("now", "said"), [("abc", None), ("acb", "c, b"), ("abcd", "d"), ("ab", "c"), ("", None)]
)
def test_a_server_says_that_a_model_has_other_classes(now, said, caplog):
    def entry(names):
        info = ModelInfo("m", len(names) or 3, classes=tuple(names))
        return Entry((), {"e": SimpleNamespace(predictor=SimpleNamespace(info=info))})

    with caplog.at_level(logging.WARNING):
        _warn_of_other_classes(("m", "1"), entry("abc"), entry(now))
    assert [r.getMessage() for r in caplog.records] == (
        [f"reload: m version 1 has other classes: {said}"] if said else []
    )
