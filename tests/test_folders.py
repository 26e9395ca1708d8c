"""Data sets as people have them on disk: what is found, and what is said where nothing is."""

import os
import shutil
import subprocess
import tarfile
import zipfile

import numpy as np
import pytest
from golden.data_images import make_image
from PIL import Image
from test_classes import SPELLINGS

from ppcls_lite.data.classes import ClassSet
from ppcls_lite.data.dataset import open_split
from ppcls_lite.data.decode import load_image
from ppcls_lite.data.pictures import LITTER, passed_over
from ppcls_lite.data.preprocess import find_images
from ppcls_lite.errors import UserError

WNIDS = ("n01440764", "n01443537", "n02012849")
NUMBERS = "ILSVRC2012_val_0000000{}.JPEG"


def draw(*files):
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        make_image(12, 10, len(file.name)).save(file, "JPEG")


def tree(folder, classes=WNIDS, count=1):
    """FOLDER/CLASS/CLASS_0.JPEG ..."""
    draw(*(folder / name / f"{name}_{i}.JPEG" for name in classes for i in range(count)))


def flat(folder, count=3):
    """FOLDER/ILSVRC2012_val_00000001.JPEG ..., as ImageNet's val is packed."""
    draw(*(folder / NUMBERS.format(i + 1) for i in range(count)))


def seen(root, split, *lists):
    """{path below the root: name of its class}."""
    data = open_split(str(root), split, *lists)
    start = len(str(root)) + 1
    return {data.path(i)[start:]: data.classes[data.label(i)] for i in range(len(data))}


def matched(root):
    """The same of val, once its classes were matched to those of train."""
    known = open_split(str(root), "train").class_set("train")
    data, match = open_split(str(root), "val").matched(known, "val", "HINT")
    assert data.classes == list(known.names)
    return {data.path(i): data.classes[data.label(i)] for i in range(len(data))}, match


def message_of(call, *args):
    with pytest.raises(UserError) as caught:
        call(*args)
    return caught.value


# ImageNet and its parts


def test_imagenet_as_torchvision_has_it(tmp_path):
    tree(tmp_path / "train")
    tree(tmp_path / "val", WNIDS[::-1])
    assert seen(tmp_path, "val") == {f"val/{w}/{w}_0.JPEG": w for w in WNIDS}
    assert matched(tmp_path)[1].is_identity


@pytest.mark.parametrize("labels", ["", "names", "synsets"])
def test_imagenet_as_paddleclas_has_it(tmp_path, labels):
    """train/WNID/, a flat val/, both lists, and perhaps labels.txt: one rule for both splits."""
    tree(tmp_path / "train")
    flat(tmp_path / "val")
    ids = {WNIDS[0]: 2, WNIDS[1]: 0, WNIDS[2]: 1}  # not the order of the folders
    lines = [f"train/{w}/{w}_0.JPEG {i}\n" for w, i in ids.items()]
    (tmp_path / "train_list.txt").write_text("".join(lines))
    lines = [f"val/{NUMBERS.format(i + 1)} {i}\n" for i in range(3)]
    (tmp_path / "val_list.txt").write_text("".join(lines))
    names = [WNIDS[1], WNIDS[2], WNIDS[0]]
    if labels == "names":
        names = ["goldfish", "crane bird", "tench"]
        (tmp_path / "labels.txt").write_text("\n".join(names))
    if labels == "synsets":
        names = ["n01443537 goldfish", "n02012849 crane", "n01440764 tench"]
        (tmp_path / "labels.txt").write_text("".join(f"{n}\n" for n in names))
    assert open_split(str(tmp_path), "train").classes == names
    assert [name for _, name in sorted(matched(tmp_path)[0].items())] == names


def test_train_folders_and_a_list_of_val_only(tmp_path):
    """The ids are the positions of the sorted folders; names in labels.txt are other names."""
    tree(tmp_path / "train")
    flat(tmp_path / "val")
    lines = [f"{NUMBERS.format(i + 1)} {2 - i}\n" for i in range(3)]
    (tmp_path / "val_list.txt").write_text("".join(lines))
    found, match = matched(tmp_path)
    assert [name for _, name in sorted(found.items())] == list(WNIDS[::-1])
    assert match.is_identity
    data = open_split(str(tmp_path), "val")
    assert data.notes == ("the ids of val are train's",) and data.classes == list(WNIDS)
    # So a network of other classes finds them by name, not by id.
    net = ClassSet("net", tuple(SPELLINGS["torchvision"]), 1000)
    assert sorted(set(data.matched(net, "val", "")[0].labels.tolist())) == [0, 1, 134]
    (tmp_path / "labels.txt").write_text("tench\ngoldfish\ncrane bird\n")
    found, match = matched(tmp_path)
    assert [name for _, name in sorted(found.items())] == list(WNIDS[::-1])
    assert "tench is n01440764" in match.how


@pytest.mark.parametrize("ending", [".JPEG", ""])
@pytest.mark.parametrize("name", ["val_label.txt", "val_list.txt", "val.txt"])
def test_a_flat_val_with_a_list_of_file_names(tmp_path, name, ending):
    flat(tmp_path / "val")
    lines = [f"{NUMBERS.format(i + 1)[:-5]}{ending} {5 * i}\n" for i in range(3)]
    (tmp_path / name).write_text("".join(lines))
    assert seen(tmp_path, "val") == {f"val/{NUMBERS.format(i + 1)}": str(5 * i) for i in range(3)}


@pytest.mark.parametrize("below", ["", "ILSVRC/Data/CLS-LOC"])
def test_imagenet_as_kaggle_has_it(tmp_path, below):
    pictures = tmp_path / "ILSVRC/Data/CLS-LOC"
    tree(pictures / "train")
    flat(pictures / "val", 2)
    flat(pictures / "test", 2)
    (tmp_path / "LOC_train_solution.csv").write_text("ImageId,PredictionString\n")
    (tmp_path / "LOC_val_solution.csv").write_text(
        "ImageId,PredictionString\n"
        "ILSVRC2012_val_00000001,n02012849 85 1 499 272 \n"
        "ILSVRC2012_val_00000002,n01440764 131 0 499 254 n01440764 1 2 3 4 \n"
    )
    found, match = matched(tmp_path / below)
    assert [name for _, name in sorted(found.items())] == ["n02012849", "n01440764"]
    assert match.lacking == ("n01443537",)


def test_imagenet_100_in_kaggles_parts(tmp_path):
    tree(tmp_path / "train.X1", WNIDS[2:])
    tree(tmp_path / "train.X2", WNIDS[:2])
    tree(tmp_path / "val.X")
    (tmp_path / "Labels.json").write_text("{}")
    data = open_split(str(tmp_path), "train")
    assert data.classes == list(WNIDS) and len(data) == 3
    assert matched(tmp_path)[1].is_identity


def test_imagenette(tmp_path):
    tree(tmp_path / "train", count=2)
    tree(tmp_path / "val")
    (tmp_path / "noisy_imagenette.csv").write_text(
        "path,noisy_labels_0,noisy_labels_1,is_valid\ntrain/n01440764/x.JPEG,n01440764,,False\n"
    )
    assert len(seen(tmp_path, "train")) == 6 and matched(tmp_path)[1].is_identity


@pytest.mark.parametrize("name", ["valid", "validation", "test"])
def test_val_may_have_another_name(tmp_path, name):
    tree(tmp_path / "train")
    tree(tmp_path / name)
    data = open_split(str(tmp_path), "val")
    assert len(data) == 3 and data.notes == (f"val is read from {name}",)
    if name == "test":
        tree(tmp_path / "validation", WNIDS[:1])
        assert open_split(str(tmp_path), "val").notes == ("val is read from validation",)
    tree(tmp_path / "val", WNIDS[:2])
    assert list(seen(tmp_path, "val").values()) == list(WNIDS[:2])


def test_links_to_folders_and_pictures(tmp_path):
    tree(tmp_path / "disk" / "elsewhere")
    root = tmp_path / "root"
    (root / "val").mkdir(parents=True)
    (root / "train").symlink_to(tmp_path / "disk" / "elsewhere")
    (root / "val" / WNIDS[0]).symlink_to(tmp_path / "disk" / "elsewhere" / WNIDS[0])
    (root / "val" / WNIDS[1]).mkdir()
    link = root / "val" / WNIDS[1] / "link.JPEG"
    link.symlink_to(tmp_path / "disk" / "elsewhere" / WNIDS[1] / f"{WNIDS[1]}_0.JPEG")
    assert len(seen(root, "train")) == 3
    expected = {
        f"val/{WNIDS[0]}/{WNIDS[0]}_0.JPEG": WNIDS[0],
        f"val/{WNIDS[1]}/link.JPEG": WNIDS[1],
    }
    assert seen(root, "val") == expected


# Folders


def test_numeric_folders_are_sorted_as_numbers(tmp_path):
    tree(tmp_path / "train", [str(i) for i in range(12)])
    flat(tmp_path / "val", 2)
    (tmp_path / "val_list.txt").write_text(f"{NUMBERS.format(1)} 10\n{NUMBERS.format(2)} 2\n")
    assert open_split(str(tmp_path), "train").classes == [str(i) for i in range(12)]
    assert sorted(matched(tmp_path)[0].values()) == ["10", "2"]
    (tmp_path / "train" / "ant").mkdir()  # not all are numbers
    assert open_split(str(tmp_path), "train").classes[:4] == ["0", "1", "10", "11"]


def test_a_val_set_lacks_classes_and_an_empty_one_is_nobodys(tmp_path):
    tree(tmp_path / "train", ("ant", "bee", "cat", "dog"))
    (tmp_path / "train" / "empty").mkdir()
    tree(tmp_path / "val", ("Dog", "bee"))
    (tmp_path / "val" / "fox").mkdir()
    found, match = matched(tmp_path)
    assert sorted(found.values()) == ["bee", "dog"]
    assert match.lacking == ("ant", "cat", "empty") and not match.unknown
    draw(tmp_path / "val" / "fox" / "1.jpg")
    error = message_of(matched, tmp_path)
    assert "only in val: fox; only in train: ant, cat, empty" in error.message
    assert error.hint == "HINT"


def test_what_machines_leave_behind_is_no_class_and_no_picture(tmp_path):
    tree(tmp_path / "train", ("cat", "dog"))
    for name in sorted(LITTER):
        if "." not in name:
            draw(tmp_path / "train" / name / "cat" / "1.jpg")
            draw(tmp_path / "train" / "cat" / name / "0.jpg" / "thumb.jpg")
    for name in ("._0.jpg", ".DS_Store", "Thumbs.db", "desktop.ini"):
        (tmp_path / "train" / "cat" / name).touch()
    (tmp_path / "train" / "@eaDir").mkdir(exist_ok=True)  # spelled as Synology does
    data = open_split(str(tmp_path), "train")
    assert data.classes == ["cat", "dog"] and len(data) == 2 and data.remarks == []
    assert len(find_images(str(tmp_path))) == 2


@pytest.mark.parametrize("ending", ["jfif", "jpe", "gif", "avif", "jp2", "JPEG", "webp", "Tif"])
def test_pictures_of_rarer_endings_are_read(tmp_path, ending):
    file = tmp_path / "train" / "cat" / f"1.{ending}"
    draw(file.with_suffix(".jpg"))
    kind = {"jfif": "JPEG", "jpe": "JPEG", "jp2": "JPEG2000", "Tif": "TIFF"}.get(ending, ending)
    Image.open(file.with_suffix(".jpg")).save(file, kind)
    file.with_suffix(".jpg").unlink()
    data = open_split(str(tmp_path), "train")
    assert len(data) == 1
    assert np.asarray(load_image(data.path(0))).shape == (10, 12, 3)


def test_files_that_are_passed_over_are_counted_in_a_line(tmp_path):
    tree(tmp_path / "train", ("cat", "dog"))
    for name in ("1.psd", "2.PSD", "readme.txt", "raw"):
        (tmp_path / "train" / "cat" / name).touch()
    folder = tmp_path / "train"
    data = open_split(str(tmp_path), "train")
    (remark,) = data.remarks
    assert remark.startswith(f"{folder}: passed over, not taken for images: 2 .psd, ")
    assert "1 no ending" in remark and "1 .txt" in remark and len(data.passed_over) == 4
    assert "pip install -r requirements-heif.txt" in passed_over(["a.heic", "b.HEIC"])
    for picture in folder.glob("*/*.JPEG"):
        picture.unlink()
    assert "no image in them (passed over" in message_of(open_split, str(tmp_path), "train").message


# Lists


@pytest.fixture
def plain(tmp_path):
    """p/a.png, p/b c.png, p/d.png, which lie in no class folders."""
    draw(*(tmp_path / "p" / name for name in ("a.png", "b c.png", "d.png")))
    return tmp_path


THREE = {"p/a.png": "cat", "p/b c.png": "dog", "p/d.png": "great white"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("train.csv", "file,label\np/a.png,cat\np/b c.png,dog\np/d.png,great white\n"),
        ("train.csv", "label;filename\r\ncat;p/a.png\r\ndog;p/b c.png\r\ngreat white;p/d.png\r\n"),
        ("train.csv", 'p/a.png,cat\n"p/b c.png","dog"\np/d.png,great white\n\n'),
        ("train_list.csv", "id\tbreed\np/a.png\tcat\np/b c.png\tdog\np/d.png\tgreat white\n"),
        ("train_list.txt", "p/a.png cat\np/b c.png dog\np/d.png great white\n"),
        ("train_list.txt", "p/a.png\tcat\np/b c.png\tdog\np/d.png\tgreat white\n"),
        ("train_list.txt", "p\\a.png cat\r\np\\b c.png dog\r\np\\d.png great white\r\n"),
        ("train_list.txt", "'p/a.png' 'cat'\n\"p/b c.png\" \"dog\"\n'p/d.png' \"great white\"\n"),
        ("train.txt", "p/a.png,cat\np/b c.png,dog\np/d.png,great white\n"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lists_of_names(plain, name, text, encoding):
    (plain / name).write_bytes(text.encode(encoding))
    assert seen(plain, "train") == THREE


@pytest.mark.parametrize(
    "line", ["{} {}", "{}\t{}", '"{}" {}', "'{}' {}", "{},{}", "{};{}", '"{}",{}', "{}   {}  \r"]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_lists_of_ids(plain, line, encoding):
    rows = [line.format(path, i) for i, path in enumerate(THREE)]
    text = "\n".join(rows) + "\n"
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    (plain / "train_list.txt").write_bytes((mark + text).encode(encoding))
    data = open_split(str(plain), "train")
    assert data.labels.tolist() == [0, 1, 2] and data.classes == ["0", "1", "2"]
    assert data.numbers == (0, 1, 2)


def test_a_picture_whose_name_begins_like_a_comment(plain):
    draw(plain / "#1.png", plain / "p" / "# 2.png")
    (plain / "train_list.txt").write_text("# a comment 7\np/a.png 0\n#1.png 1\n#3.png 4\n")
    assert seen(plain, "train") == {"p/a.png": "0", "#1.png": "1"}
    assert len(open_split(str(plain), "train").classes) == 2


def test_a_list_in_another_encoding_names_the_files_it_means(tmp_path):
    name = b"\xca\xfd\xbe\xdd.png"  # GBK
    draw(tmp_path / os.fsdecode(name))
    (tmp_path / "train_list.txt").write_bytes(name + b" 0\n")
    data = open_split(str(tmp_path), "train")
    assert os.fsencode(data.path(0)).endswith(name) and data.label(0) == 0
    load_image(data.path(0))


def lists(root, train, val, labels=None):
    """Both lists, with these ids of pictures that lie in one folder."""
    for split, ids in (("train", train), ("val", val)):
        lines = []
        for i, label in enumerate(ids):
            draw(root / "p" / f"{split}{i}.png")
            lines.append(f"p/{split}{i}.png {label}\n")
        (root / f"{split}_list.txt").write_text("".join(lines))
    if labels:
        (root / "labels.txt").write_text("".join(f"{line}\n" for line in labels))
    found, _ = matched(root)
    return open_split(str(root), "train").classes, [name for _, name in sorted(found.items())]


@pytest.mark.parametrize(
    ("train", "val", "labels", "classes", "named"),
    [
        ([0, 1, 2], [2, 0], None, "012", "20"),
        ([1, 2, 3], [3, 1], None, "123", "31"),  # from 1: three classes, not four
        ([1, 2], [0, 1], None, "012", "01"),  # the other list has a 0
        ([0, 1], [1], None, "01", "1"),
        ([1, 3], [3, 1], None, "0123", "31"),  # not all from 1 to K
        ([0, 1, 2], [2, 0], "abc", "abc", "ca"),
        ([1, 2, 3], [3, 1], "abc", "abc", "ca"),
        ([1, 2, 3], [2, 1], "abc", "abc", "ba"),  # val lacks the last, and must not be from 0
        ([1, 2], [3, 1], "abc", "abc", "ca"),  # train lacks it
        ([1, 2], [0, 1], "abc", "abc", "ab"),
        ([1, 2], [2, 1], "abc", "abc", "cb"),  # nothing speaks for 1
        ([1, 2], [2, 1], ["1 a", "2 b"], "ab", "ba"),
        ([0, 1], [1, 0], ["0 a", "1 b"], "ab", "ba"),
        ([1, 2], [1], ["1 a", "2 b", "3 c"], "abc", "a"),
    ],
)
def test_what_the_ids_of_lists_count_from(tmp_path, train, val, labels, classes, named):
    found, seen_in_val = lists(tmp_path, train, val, labels)
    assert found == list(classes) and seen_in_val == list(named)
    of_val = open_split(str(tmp_path), "val").classes  # alone, it counts alike
    assert of_val == found[: len(of_val)]
    note = open_split(str(tmp_path), "train").notes
    from_1 = min(train + val) > 0 and found[val[0] - 1] == named[0]
    assert bool(note) == from_1
    if note:
        assert note[0].endswith(f"count from 1: 1 is class 0, {found[0]}")


def test_a_list_with_more_ids_than_names_is_refused(tmp_path):
    error = message_of(lists, tmp_path, [0, 1, 2], [0], "ab")
    assert "names 2 classes, but the list has label 2" in error.message
    error = message_of(lists, tmp_path, [0, 1], [0], ["1 a", "2 b"])
    assert "names 2 classes, but the list has label 0" in error.message


def test_names_of_a_list_are_those_of_its_folders_where_they_tell(tmp_path):
    tree(tmp_path / "p", ("dog", "cat"), 2)
    rows = [
        f"p/{name}/{name}_{i}.JPEG {k}\n" for k, name in ((0, "dog"), (3, "cat")) for i in (0, 1)
    ]
    (tmp_path / "train_list.txt").write_text("".join(rows))
    data = open_split(str(tmp_path), "train")
    assert data.classes == ["dog", "1", "2", "cat"] and data.numbers == (0, 1, 2, 3)
    (tmp_path / "train_list.txt").write_text("".join([*rows, "p/dog/dog_0.JPEG 3\n"]))
    assert open_split(str(tmp_path), "train").classes == ["0", "1", "2", "3"]


def test_named_lists_know_each_other(plain):
    (plain / "mine.txt").write_text("p/a.png 1\np/d.png 2\n")
    (plain / "yours.txt").write_text("p/a.png 0\n")
    assert open_split(str(plain), "train", "mine.txt").classes == ["1", "2"]
    assert open_split(str(plain), "train", "mine.txt", "yours.txt").classes == ["0", "1", "2"]
    assert open_split(str(plain), "train", "mine.txt", str(plain / "yours.txt")).numbers[0] == 0


@pytest.mark.parametrize(
    ("name", "text", "bad"),
    [
        ("train_list.txt", "p/a.png 0\np/d.png cat\n", ":2: 'p/d.png cat'"),
        ("train_list.txt", "p/a.png cat\np/d.png 0.5\n", ":2: 'p/d.png 0.5'"),
        ("train.csv", "file,label\np/a.png,cat\np/d.png,\n", ":3: 'p/d.png,'"),
        ("train.csv", "p/a.png,0\np/d.png\n", ":2: 'p/d.png'"),
    ],
)
def test_lines_that_cannot_be_read_are_named(plain, name, text, bad):
    (plain / name).write_text(text)
    error = message_of(open_split, str(plain), "train")
    assert f"{name}{bad}" in error.message


# What cannot work says which command makes it work


def pack(archive, folder, *names):
    """FOLDER/NAME as members NAME of an archive."""
    archive.parent.mkdir(exist_ok=True)
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as packed:
            for file in sorted(folder.rglob("*")):
                if file.is_file():
                    packed.write(file, file.relative_to(folder))
        return
    with tarfile.open(archive, "w:gz" if archive.suffix in (".tgz", ".gz") else "w") as tar:
        for name in names or sorted(entry.name for entry in folder.iterdir()):
            tar.add(folder / name, name)


def follow(hint):
    """Runs a hint as it is printed and returns the data path that it names."""
    command, _, path = hint.partition("  # then --data-path ")
    subprocess.run(["bash", "-c", hint], check=True, capture_output=True)
    assert command
    return path


@pytest.mark.parametrize("name", ["imagenette2-160.tgz", "set.tar", "set.tar.gz", "my set.zip"])
@pytest.mark.parametrize("given", ["the archive", "its folder"])
def test_an_archive_comes_with_the_command_that_unpacks_it(tmp_path, name, given, monkeypatch):
    source, root = tmp_path / "source", tmp_path / "a root"
    root.mkdir()
    tree(source / "imagenette2-160" / "train")
    tree(source / "imagenette2-160" / "val")
    pack(root / name, source)
    monkeypatch.setenv("PATH", f"{shutil.which('python3').rpartition('/')[0]}:/usr/bin:/bin")
    error = message_of(open_split, str(root / name if given == "the archive" else root), "train")
    path = follow(error.hint).strip("'")
    assert path == str(root / "imagenette2-160")
    assert len(open_split(path, "train")) == len(open_split(path, "val")) == 3


@pytest.mark.parametrize("name", ["pictures.zip", "pictures.tar"])
def test_an_archive_with_the_splits_at_its_top(tmp_path, name):
    tree(tmp_path / "source" / "train")
    tree(tmp_path / "source" / "val")
    pack(tmp_path / "root" / name, tmp_path / "source")
    path = follow(message_of(open_split, str(tmp_path / "root"), "train").hint)
    assert len(open_split(path, "train")) == len(open_split(path, "val")) == 3


def test_a_zip_with_class_folders_at_its_top_gets_a_folder(tmp_path):
    tree(tmp_path / "source")
    pack(tmp_path / "root" / "flowers.zip", tmp_path / "source")
    path = follow(message_of(open_split, str(tmp_path / "root"), "train").hint)
    assert path == str(tmp_path / "root/flowers")
    assert sorted(os.listdir(path)) == sorted(os.listdir(tmp_path / "source"))


def test_archives_of_the_splits_are_unpacked_into_folders_of_theirs(tmp_path):
    for split in ("train", "val"):
        tree(tmp_path / "source" / split)
        pack(tmp_path / f"{split}.tar", tmp_path / "source" / split)
    shutil.rmtree(tmp_path / "source")
    for split in ("train", "val"):
        path = follow(message_of(open_split, str(tmp_path), split).hint)
        assert path == str(tmp_path)
        assert len(open_split(path, split)) == 3


def test_imagenets_own_archives(tmp_path):
    for wnid in WNIDS:
        tree(tmp_path / "source", (wnid,))
        pack(tmp_path / "source" / f"{wnid}.tar", tmp_path / "source" / wnid)
        shutil.rmtree(tmp_path / "source" / wnid)
    pack(tmp_path / "ILSVRC2012_img_train.tar", tmp_path / "source")
    shutil.rmtree(tmp_path / "source")
    flat(tmp_path / "flat")
    pack(tmp_path / "ILSVRC2012_img_val.tar", tmp_path / "flat")
    shutil.rmtree(tmp_path / "flat")
    assert follow(message_of(open_split, str(tmp_path), "train").hint) == str(tmp_path)
    assert seen(tmp_path, "train") == {f"train/{w}/{w}_0.JPEG": w for w in WNIDS}
    (tmp_path / "ILSVRC2012_img_train.tar").unlink()
    assert follow(message_of(open_split, str(tmp_path), "val").hint) == str(tmp_path)
    (tmp_path / "ILSVRC2012_img_val.tar").unlink()
    error = message_of(open_split, str(tmp_path), "val")
    assert "val/ holds no folder, but images, and nothing says what they show" in error.message
    assert f"write {tmp_path}/val_label.txt with lines 'FILE ID'" in error.hint
    assert "LOC_val_solution.csv" in error.hint
    (tmp_path / "val_label.txt").write_text(f"{NUMBERS.format(1)} 0\n{NUMBERS.format(3)} 1\n")
    assert len(open_split(str(tmp_path), "val")) == 2


@pytest.mark.parametrize(
    ("train", "val"),
    [("Train", "Val"), ("training", "testing"), ("seg_train/seg_train", "seg_test/seg_test")],
)
def test_splits_that_are_called_otherwise_are_renamed_by_the_hint(tmp_path, train, val):
    tree(tmp_path / train)
    tree(tmp_path / val)
    for split, name in (("train", train), ("val", val)):
        error = message_of(open_split, str(tmp_path), split)
        assert error.hint == f"mv {tmp_path}/{name} {tmp_path}/{split}"
        follow(error.hint)
        assert seen(tmp_path, split) == {f"{split}/{w}/{w}_0.JPEG": w for w in WNIDS}


def test_a_data_root_below_folders_that_hold_one_folder_each(tmp_path):
    tree(tmp_path / "data/images/train")
    tree(tmp_path / "data/images/val")
    assert (
        message_of(open_split, str(tmp_path), "val").hint == f"--data-path {tmp_path}/data/images"
    )


def test_pictures_whose_names_end_in_their_wnids(tmp_path):
    """Hugging Face's archives of ImageNet."""
    tree(tmp_path / "train")
    names = [f"ILSVRC2012_val_0000000{i}_{wnid}.JPEG" for i, wnid in enumerate(WNIDS[::-1])]
    draw(*(tmp_path / "val" / name for name in names))
    follow(message_of(open_split, str(tmp_path), "val").hint)
    assert seen(tmp_path, "val") == dict(zip((f"val/{n}" for n in names), WNIDS[::-1], strict=True))


def test_tiny_imagenet_s_val_gets_class_folders(tmp_path):
    for wnid in WNIDS:
        draw(tmp_path / "train" / wnid / "images" / f"{wnid}_0.JPEG")
    draw(*(tmp_path / f"val/images/val_{i}.JPEG" for i in range(3)))
    rows = "".join(f"val_{i}.JPEG\t{wnid}\t0\t32\t44\t62\n" for i, wnid in enumerate(WNIDS))
    (tmp_path / "val/val_annotations.txt").write_text(rows)
    error = message_of(open_split, str(tmp_path), "val")
    assert "val_annotations.txt says what they show" in error.message
    follow(error.hint)
    assert seen(tmp_path, "val") == {f"val/{w}/val_{i}.JPEG": w for i, w in enumerate(WNIDS)}
    assert list(seen(tmp_path, "train").values()) == list(WNIDS)
