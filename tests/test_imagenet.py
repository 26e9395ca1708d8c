"""A network that was trained on ImageNet is right as often, however its photographs are laid out.

The photographs and the network lie beside the checkout (see `needs_files`); without them, only the
tests of made-up weights run.
"""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from ppcls_lite.arch.zoo import ZOO, build_model
from ppcls_lite.data.classes import ClassSet, match_classes
from ppcls_lite.data.dataset import open_split
from ppcls_lite.data.decode import load_image
from ppcls_lite.data.imagenet import imagenet_labels, imagenet_synsets
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.deploy.predictor import Predictor
from ppcls_lite.weights.find import find_weights
from ppcls_lite.weights.load import load_weights
from ppcls_lite.weights.mapping import from_ours
from ppcls_lite.weights.writing import write_weights

SHARED = ROOT.parent / "shared/data"
PHOTOGRAPHS = SHARED / "imagenet200/val"
INT8 = SHARED / "imagenet_weights/mobilenet_v3_small_int8_float_io.tflite"
needs_files = pytest.mark.skipif(
    not (PHOTOGRAPHS.is_dir() and INT8.is_file()), reason="no ../shared/data"
)
# In the order of the class ids, which no line of the code under test has a part in.
WNIDS = [line.split()[0] for line in
         (ROOT / "ppcls_lite/data/imagenet_synsets.txt").read_text().splitlines()]  # fmt: skip


@pytest.fixture(scope="module")
def network():
    """The network's class set; the answer to each of 40 photographs, by the file's content."""
    predictor = Predictor(INT8, "dygraph", "cpu")
    files = sorted(PHOTOGRAPHS.glob("*/*"))[::5]
    images = predictor.info.preprocess([load_image(file) for file in files])
    answers = np.argmax(predictor.raw(images), axis=1)
    contents = {file.read_bytes(): answer for file, answer in zip(files, answers, strict=True)}
    right = np.mean([answer == WNIDS.index(file.parent.name)
                     for file, answer in zip(files, answers, strict=True)])  # fmt: skip
    assert 0.8 < right < 0.95  # 0.845 of all 200
    return predictor.info.class_set("the network"), contents, right, files


def folders(root, files, split, name=lambda wnid: wnid):
    for file in files:
        place = root / split / name(file.parent.name)
        place.mkdir(parents=True)
        shutil.copy(file, place / "picture.JPEG")


def flat(root, files, below="val"):
    """photograph_0000000N.JPEG in an order of no meaning: ImageNet's own names have theirs."""
    (root / below).mkdir(parents=True)
    order = np.random.RandomState(3).permutation(len(files))
    rows = [(f"photograph_{n:08}.JPEG", files[k]) for n, k in enumerate(order, 1)]
    for name, file in rows:
        shutil.copy(file, root / below / name)
    return [(name, file.parent.name) for name, file in rows]


def listed(form, below="val", train=False):
    """A flat val with a list of ids, whatever else is there."""

    def make(root, files):
        if train:
            folders(root, files, "train")
        rows = flat(root, files, below)
        lines = [form[1].format(file=f, id=WNIDS.index(w), wnid=w) for f, w in rows]
        (root / form[0]).write_text("\n".join([*form[2:], *lines, ""]))

    return make


def paddleclas(root, files):
    folders(root, files, "train")
    lines = [f"train/{f.parent.name}/picture.JPEG {WNIDS.index(f.parent.name)}\n" for f in files]
    (root / "train_list.txt").write_text("".join(lines))
    (root / "labels.txt").write_text("".join(f"{n}\n" for n in imagenet_synsets().values()))
    listed(("val_list.txt", "val/{file} {id}"))(root, files)


def csv_of_names(root, files):
    rows = flat(root, files, "images")
    with (root / "val.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label"])
        writer.writerows([f"images/{f}", imagenet_labels()[WNIDS.index(w)]] for f, w in rows)


def linked(root, files):
    (root / "val").mkdir()
    for file in files:
        (root / "val" / file.parent.name).symlink_to(file.parent)


def all_folders(root, files):
    folders(root, files, "val")
    for wnid in WNIDS:
        (root / "val" / wnid).mkdir(exist_ok=True)


LAYOUTS = {
    "wnid folders": lambda root, files: folders(root, files, "val"),
    "validation": lambda root, files: folders(root, files, "validation"),
    "test": lambda root, files: folders(root, files, "test"),
    "1,000 folders, most of them empty": all_folders,
    "folders of names": lambda root, files: folders(
        root, files, "val", lambda wnid: imagenet_labels()[WNIDS.index(wnid)].replace(" ", "_")
    ),
    "links": linked,
    "PaddleClas": paddleclas,
    "val_label.txt": listed(("val_label.txt", "{file} {id}")),
    "val_list.txt": listed(("val_list.txt", "val/{file} {id}")),
    "ids beside a train of fewer folders": listed(("val_list.txt", "val/{file} {id}"), train=True),
    "Kaggle": listed(
        ("LOC_val_solution.csv", "{file},{wnid} 1 2 3 4 ", "ImageId,PredictionString"),
        "ILSVRC/Data/CLS-LOC/val",
    ),
    "CSV of names": csv_of_names,
    "CSV of wnids": listed(("val.csv", "val/{file},{wnid}", "file,label")),
}


@needs_files
@pytest.mark.parametrize("count", [40, 10])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_network_is_right_as_often_in_every_layout(network, tmp_path, layout, count):
    known, contents, right, files = network
    if count == 10:
        files = files[::4]
        answers = [contents[file.read_bytes()] for file in files]
        right = np.mean([WNIDS[a] == f.parent.name for a, f in zip(answers, files, strict=True)])
    LAYOUTS[layout](tmp_path, files)
    data, _ = open_split(str(tmp_path), "val").matched(known, "val", "")
    assert len(data) == count
    answers = [contents[Path(data.path(i)).read_bytes()] for i in range(count)]
    assert np.mean(data.labels == answers) == right


def as_held_by(name):
    """The network's weights as a row of another source holds them; the row's network.

    Kernels turned by 180 degrees and padded by k // 2 on every side do to turned pictures what
    TensorFlow's padding does to upright ones: every layer that strides reads an even size here.
    """
    source, model = build_model("tf_mobilenetv3_small_100"), build_model(name)
    load_weights(source, INT8)
    arrays = {key: tensor.numpy() for key, tensor in source.state_dict().items()}
    fed = Preprocess()  # ImageNet's mean and std, where the file's own are 0.5
    stem, mean, std = (np.float32(x) for x in (arrays["features.0.0.weight"], fed.mean, fed.std))
    arrays["features.0.1._mean"] -= stem.sum((2, 3)) @ (2 * mean - 1)
    arrays["features.0.0.weight"] = stem * (2 * std).reshape(1, 3, 1, 1)
    for key, array in arrays.items():
        if array.ndim == 4:
            arrays[key] = np.ascontiguousarray(array[:, :, ::-1, ::-1])
        elif key.endswith("_variance"):
            arrays[key] = array + np.float32(1e-3 - model.flavour.bn_eps)
    return arrays, model


@needs_files
@pytest.mark.parametrize(
    ("name", "layout"),
    [("mobilenet_v3_small", "torchvision"), ("mobilenet_v3_small", "paddle_vision"),
     ("mobilenetv3_small_100", "timm"), ("tf_mobilenetv3_small_100", "timm")],
)  # fmt: skip
def test_trained_weights_give_the_same_classes_in_their_sources_names(
    network, tmp_path, name, layout
):
    """PaddleClas, MindCV and ShowLo compute what these weights cannot be turned into; what they
    compute is held by test_layouts.py."""
    _, contents, _, files = network
    pixels = np.stack([Preprocess().pixels(load_image(file)) for file in files[::4]])
    arrays, model = as_held_by(name)
    if model.flavour.same_stem:  # the network itself
        load_weights(model, INT8)
        arrays = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
    else:
        pixels = pixels[:, ::-1, ::-1]
    path = tmp_path / "as_downloaded.safetensors"
    write_weights(path, from_ours(arrays, model, layout))
    predictor = Predictor(path, "dygraph", "cpu", model=name)
    answers = predictor.raw(predictor.info.preprocess.normalize(pixels)).argmax(1)
    assert answers.tolist() == [contents[file.read_bytes()] for file in files[::4]]


@pytest.mark.parametrize(
    "name", ["mobilenet_v3_small", "mobilenetv3_small_050", "tf_mobilenetv3_small_minimal_100",
             "MobileNetV3_small_x0_35", "mobilenet_v3_small_075", "showlo_mobilenetv3_small"]
)  # fmt: skip
def test_weights_of_every_source_are_of_imagenet_s_classes(name, tmp_path):
    """1,000 classes in any project's own names and shapes, as downloaded: no JSON beside them."""
    model = build_model(name)
    source = model.flavour.source
    arrays = {key: np.zeros(tensor.shape, np.float32) for key, tensor in model.state_dict().items()}
    path = tmp_path / "as_downloaded.safetensors"
    write_weights(path, from_ours(arrays, model, source))
    known = find_weights(path, name).info.class_set("the network")
    some = [WNIDS[i] for i in (999, 0, 517, 134)]  # 134 and 517 are both called crane
    match = match_classes(known, ClassSet("val", tuple(some), 4))
    assert match.ids == (999, 0, 517, 134)


def test_every_source_is_tried():
    tried = {"torchvision", "timm", "ppcls", "mindcv", "showlo"}
    assert {spec.source for spec in ZOO} == tried
