"""ImageNet's devkit has class ids in an order of its own, which are never silently wrong."""

import subprocess

import numpy as np
import pytest
from PIL import Image

from ppcls_lite.data.classes import ClassSet
from ppcls_lite.data.dataset import open_split
from ppcls_lite.data.imagenet import imagenet_labels, imagenet_synsets
from ppcls_lite.errors import UserError

# The first lines of ILSVRC2012_validation_ground_truth.txt, and of Caffe's val.txt.
DEVKIT = (490, 361, 171, 822, 297, 482, 13, 704, 599, 164)
SORTED = (65, 970, 230, 809, 516, 57, 334, 415, 674, 332)
NAMES = [f"ILSVRC2012_val_{n:08d}.JPEG" for n in range(1, 11)]
IMAGENET = ClassSet("the network", imagenet_labels(), 1000)


@pytest.fixture
def root(tmp_path):
    """Ten flat pictures in val/."""
    (tmp_path / "val").mkdir()
    for name in NAMES:
        Image.new("RGB", (8, 8)).save(tmp_path / "val" / name, "jpeg")
    return tmp_path


def write_map(file):
    """map_clsloc.txt: the ten classes above at their places, the others anywhere."""
    wnids = list(imagenet_synsets())
    order = dict(zip(DEVKIT, (wnids[i] for i in SORTED), strict=True))
    others = iter(sorted(set(wnids) - set(order.values()), reverse=True))
    lines = [f"{order.get(i) or next(others)} {i} some_name\n" for i in range(1, 1001)]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(lines))


def write_list(root, ids, numbers=range(1, 11)):
    lines = [f"val/{NAMES[n - 1]} {i}\n" for n, i in zip(numbers, ids, strict=True)]
    (root / "val_list.txt").write_text("".join(lines))


def labels_of(root):
    """Class id of each picture, as a network of ImageNet's classes has it."""
    data, _ = open_split(str(root), "val").matched(IMAGENET, "val", "HINT")
    return tuple(data.labels.tolist())


@pytest.mark.parametrize("subtracted", [0, 1])
def test_the_devkits_ids_are_refused_with_both_readings(root, subtracted):
    write_list(root, [i - subtracted for i in DEVKIT])
    with pytest.raises(UserError) as caught:
        open_split(str(root), "val")
    number = 490 - subtracted
    name = imagenet_labels()[number]
    assert f"by the order of the wnids: {number} is {name}, but" in caught.value.message
    assert "shows sea snake, which is 65\n" in caught.value.message
    assert "by ILSVRC2012_ID, the devkit's order" in caught.value.message
    assert caught.value.hint.startswith(f"cp DEVKIT/data/meta.mat {root}  # ")


@pytest.mark.parametrize("place", ["", "ILSVRC2012_devkit_t12/data"])
@pytest.mark.parametrize("subtracted", [0, 1])
def test_the_devkits_map_says_which_class_each_id_is(root, place, subtracted):
    write_map(root / place / "map_clsloc.txt")
    write_list(root, [i - subtracted for i in DEVKIT])
    assert labels_of(root) == SORTED


def test_matlabs_table_of_the_devkit_says_it_too(root):
    """scipy writes what scipy reads; torchvision reads the published file by these names."""
    scipy_io = pytest.importorskip("scipy.io")
    write_map(root / "map_clsloc.txt")
    lines = [line.split() for line in (root / "map_clsloc.txt").read_text().splitlines()]
    (root / "map_clsloc.txt").unlink()
    rows = [(int(i), wnid, "words", 0) for wnid, i, _ in lines]
    rows += [(1000 + i, f"n{i:08d}", "a group of classes", 3) for i in range(1, 4)]
    fields = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    file = root / "ILSVRC2012_devkit_t12/data/meta.mat"
    file.parent.mkdir(parents=True)
    scipy_io.savemat(file, {"synsets": np.array(rows, fields).reshape(-1, 1)}, do_compression=True)
    write_list(root, DEVKIT)
    assert labels_of(root) == SORTED
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"cannot read .*meta\.mat"):
        open_split(str(root), "val")


def test_a_map_of_something_else_does_not_count(root):
    wnids = list(imagenet_synsets())
    (root / "map_clsloc.txt").write_text("".join(f"{w} {i} x\n" for i, w in enumerate(wnids, 1)))
    write_list(root, DEVKIT)
    with pytest.raises(UserError, match="two readings fit"):
        open_split(str(root), "val")
    (root / "map_clsloc.txt").write_text("n02119789 1 kit_fox\n")
    with pytest.raises(UserError, match="does not give each of the ids 1 to 1000 a wnid"):
        open_split(str(root), "val")


@pytest.mark.parametrize("numbers", [range(1, 11), (2, 3), (1,)], ids=str)
def test_ids_of_the_sorted_wnids_stay_what_they_are(root, numbers):
    write_list(root, [SORTED[n - 1] for n in numbers], numbers)
    assert labels_of(root) == tuple(SORTED[n - 1] for n in numbers)


def test_a_relabelled_picture_or_two_are_no_other_order(root):
    ids = (66, *SORTED[1:9], 5)
    write_list(root, ids)
    assert labels_of(root) == ids


def test_labels_of_ones_own_decide(root):
    """ImageNet-100 has ids of its own, and labels.txt says what any id is."""
    write_list(root, [0, 1, 2, 3, 4, 5, 6, 7, 8, 99])
    assert open_split(str(root), "val").labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 99]
    write_list(root, DEVKIT)
    wnids = sorted(imagenet_synsets(), reverse=True)
    (root / "labels.txt").write_text("".join(f"{wnid}\n" for wnid in wnids))
    assert labels_of(root) == tuple(999 - i for i in DEVKIT)


def test_the_file_itself_becomes_a_list_by_the_hint(root):
    truth = root / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("".join(f"{i}\n" for i in DEVKIT))
    with pytest.raises(UserError, match="ids without their names") as caught:
        open_split(str(root), "val")
    subprocess.run(["bash", "-c", caught.value.hint], check=True)
    with pytest.raises(UserError, match="two readings fit"):
        open_split(str(root), "val")
    write_map(root / "map_clsloc.txt")
    assert labels_of(root) == SORTED


def test_ids_without_pictures_are_no_list(root):
    """They were taken for the pictures of a file without a name."""
    (root / "val_list.txt").write_text("".join(f"{i}\n" for i in DEVKIT))
    with pytest.raises(UserError, match="has ids without images") as caught:
        open_split(str(root), "val")
    hint = caught.value.hint.replace("VAL", str(root / "val"), 1)
    subprocess.run(["bash", "-c", hint], check=True)
    write_map(root / "map_clsloc.txt")
    assert labels_of(root) == SORTED
