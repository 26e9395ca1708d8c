"""Packed data sets: the same pictures, whole after any kill, readable by others."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, picture, run_tool
from PIL import Image

from ppcls_lite.commands import data_check, data_pack
from ppcls_lite.data.dataset import open_split
from ppcls_lite.data.loader import Loader
from ppcls_lite.data.packed import PackedFiles
from ppcls_lite.data.settings import PackDatasetConfig
from ppcls_lite.data.transforms import TrainTransform
from ppcls_lite.errors import UserError

CLASSES = ("blue", "green", "red")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """DATA/{train,val}/CLASS/*: JPEGs of several sizes, two PNGs."""
    root = tmp_path_factory.mktemp("data")
    for split, count, first in (("train", 9, 0), ("val", 3, 500)):
        for class_id, name in enumerate(CLASSES):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                image = picture(class_id, first + number).resize((60 + 10 * number, 80))
                kind = "png" if (class_id, number) == (1, 2) else "JPEG"
                image.save(root / split / name / f"{number}.{kind}", quality=90)
    return root


def pack(data, out, **settings):
    settings = {"workers": 0, "shard_size": 8, **settings}
    config = PackDatasetConfig(data_path=str(data), out=str(out), **settings)
    return data_pack.run(config)


@pytest.fixture(scope="module")
def packed(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("packed")
    assert pack(folder, out) == 0
    return out


def verify(out):
    return data_pack.run(PackDatasetConfig(out=str(out), verify=True))


def batches(data, workers=0):
    loader = Loader(
        open_split(str(data), "train"), TrainTransform(32), 5, training=True, workers=workers
    )
    try:
        return list(loader.epoch(1))
    finally:
        loader.close()


# The same data


def test_training_sees_the_same_pixels_as_from_the_files(folder, packed):
    expected = batches(folder)
    for found in (batches(packed), batches(packed, workers=1)):
        for a, b in zip(expected, found, strict=True):
            assert np.array_equal(a.images, b.images)
            assert np.array_equal(a.labels, b.labels)
            assert np.array_equal(a.indices, b.indices)


def test_any_tar_reader_finds_the_files_bytes_and_labels(folder, packed):
    """As webdataset reads them: members with the same stem, one after another, are a sample."""
    originals = open_split(str(folder), "train")
    seen = []
    for number, shard in enumerate(sorted(packed.glob("train-*.tar"))):
        with tarfile.open(shard) as tar:
            members = tar.getmembers()
            for image, label in zip(members[::2], members[1::2], strict=True):
                key, _, suffix = image.name.partition(".")
                assert label.name == f"{key}.cls" and image.isreg()
                path = Path(originals.path(int(key)))
                assert suffix == path.suffix[1:].lower()
                assert tar.extractfile(image).read() == path.read_bytes()
                assert int(tar.extractfile(label).read()) == originals.label(int(key))
                seen.append(int(key))
        assert len(members) == 2 * min(8, 27 - 8 * number)
    assert sorted(seen) == list(range(27)) != seen  # mixed, for readers that go in sequence


def test_the_tar_program_unpacks_them(packed, tmp_path):
    subprocess.run(["tar", "-xf", packed / "val-000000.tar", "-C", tmp_path], check=True)
    assert len(list(tmp_path.iterdir())) == 16


def test_shrunk_pictures_are_the_ones_that_are_larger(folder, tmp_path):
    assert pack(folder, tmp_path, short_side=70, quality=92) == 0
    before, after = open_split(str(folder), "train"), open_split(str(tmp_path), "train")
    assert after.classes == list(CLASSES)
    assert np.array_equal(after.labels, before.labels)
    for index in range(len(before)):
        original = Path(before.path(index)).read_bytes()
        member = after.source(index)
        with open(member.shard, "rb") as shard:
            shard.seek(member.offset)
            data = shard.read(member.size)
        with Image.open(io.BytesIO(original)) as a, Image.open(io.BytesIO(data)) as b:
            if min(a.size) <= 70:
                assert data == original
                continue
            assert min(b.size) == 70 and b.format == "JPEG"
            assert abs(b.width / b.height - a.width / a.height) < 0.02
            expected = io.BytesIO()
            small = a.convert("RGB").resize(b.size, Image.Resampling.BICUBIC)
            small.save(expected, "jpeg", quality=92)
            assert data == expected.getvalue()
    assert verify(tmp_path) == 0


# Nothing is lost, nothing is mistaken


def test_a_killed_run_leaves_whole_shards_and_the_next_one_goes_on(folder, packed, tmp_path):
    out = tmp_path / "packed"
    script = tmp_path / "pack.py"
    script.write_text(
        textwrap.dedent("""
        import sys, time
        from ppcls_lite.commands import data_pack
        from ppcls_lite.data.settings import PackDatasetConfig
        add, count = data_pack._add, 0
        def slow(tar, name, data):
            add(tar, name, data)
            time.sleep(0.05)
        data_pack._add = slow
        data_pack.run(PackDatasetConfig(data_path=sys.argv[1], out=sys.argv[2],
                                           workers=0, shard_size=8))
    """)
    )
    process = subprocess.Popen(
        [sys.executable, script, folder, out],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )
    process.stdout.readline()  # the first shard is there
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    shards = sorted(out.glob("train-*.tar"))
    assert 1 <= len(shards) < 4
    assert (out / f".train-{len(shards):06d}.tar.part").is_file()  # it was in the middle of one
    kept = {shard: shard.stat().st_ino for shard in shards}
    for shard in shards:
        assert shard.read_bytes() == (packed / shard.name).read_bytes()
    with pytest.raises(UserError):
        open_split(str(out), "train")  # it is not yet a data set

    assert pack(folder, out) == 0
    assert {shard: shard.stat().st_ino for shard in shards} == kept
    assert sorted(os.listdir(out)) == sorted(os.listdir(packed))
    for file in packed.iterdir():
        assert (out / file.name).read_bytes() == file.read_bytes()


def test_packing_again_changes_nothing_and_other_settings_are_refused(folder, tmp_path, capsys):
    pack(folder, tmp_path)
    stamps = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert pack(folder, tmp_path) == 0
    assert "packed already" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == stamps
    with pytest.raises(UserError, match="short_side, quality"):
        pack(folder, tmp_path, short_side=40)
    with pytest.raises(UserError, match="is packed already"):
        pack(tmp_path, tmp_path / "again")


def test_another_data_set_is_refused(folder, packed, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    (other / "train" / "red" / "0.JPEG").write_bytes(b"changed")
    with pytest.raises(UserError, match="another sources"):
        pack(other, packed)


def test_a_broken_picture_is_named_and_no_shard_holds_it(folder, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(folder, data)
    (data / "val" / "red" / "0.JPEG").write_bytes(b"not found")
    with pytest.raises(UserError, match=r"val/red/0\.JPEG: is not an image"):
        pack(data, tmp_path / "out", short_side=32)
    assert not list((tmp_path / "out").glob("val-*.tar"))


@pytest.mark.parametrize("what", ["picture", "label", "name", "cut off", "gone"])
def test_verification_finds(packed, tmp_path, capsys, what):
    out = tmp_path / "out"
    shutil.copytree(packed, out)
    shard = out / "train-000001.tar"
    data = bytearray(shard.read_bytes())
    with tarfile.open(shard) as tar:
        image, label = tar.getmembers()[4:6]
    if what == "picture":
        data[image.offset_data + image.size // 2] ^= 1
    elif what == "label":
        data[label.offset_data] ^= 1
    elif what == "name":
        data[image.offset] ^= 1
    elif what == "cut off":
        data = data[:-1024]
    if what == "gone":
        shard.unlink()
    else:
        shard.write_bytes(data)
    assert verify(packed) == 0
    capsys.readouterr()
    assert verify(out) == 1
    shown = capsys.readouterr().out
    assert "train-000001.tar" in shown
    if what == "picture":
        assert image.name in shown and "its bytes are not those" in shown
    if what in ("cut off", "gone"):  # noticed when it is opened, too
        with pytest.raises(UserError, match="train-000001"):
            open_split(str(out), "train")


def test_a_broken_picture_in_a_shard_is_named_with_its_original(packed, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(packed, out)
    member = open_split(str(out), "train").source(5)
    with open(member.shard, "r+b") as shard:
        shard.seek(member.offset)
        shard.write(bytes(member.size))
    report = data_check.check(str(out), workers=0)
    (problem,) = report["problems"]
    assert f"{member.shard}:00000005.jpeg (was train/blue/5.JPEG): is not an image" in problem
    loader = Loader(open_split(str(out), "train"), TrainTransform(16), 4, training=True)
    with pytest.raises(UserError, match=r"00000005\.jpeg \(was train/blue/5\.JPEG\)"):
        list(loader.epoch(0))


def test_the_command(folder, tmp_path):
    out = tmp_path / "packed"
    argv = ("tools/pack_dataset.py", "--data-path", folder, "--out", out, "--workers=1")
    done = run_tool(*argv, "--shard-size=20", "--short-side=64")
    assert done.returncode == 0, done.stderr
    assert "--verify" in done.stdout.splitlines()[-1]
    assert run_tool("tools/pack_dataset.py", "--out", out, "--verify").returncode == 0
    assert json.loads((out / "train.packed.json").read_text())["short_side"] == 64
    done = run_tool(*argv, "--quality=50")
    assert done.returncode == 2 and "--short-side" in done.stderr


# Memory

MEMORY = """
import multiprocessing, sys
import numpy as np
from ppcls_lite.data.dataset import PackedDataset, open_split
from ppcls_lite.data.image_dataset import ImageDataset
from ppcls_lite.data.loader import Loader
from ppcls_lite.data.packed import PackedFiles
from ppcls_lite.data.preprocess import Preprocess

def resident(pid):  # MB that are this process's share
    for line in open(f"/proc/{pid}/smaps_rollup"):
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024

if __name__ == "__main__":
    kind, path, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if kind == "files":
        few = open_split(path, "train")
        paths = [few.path(i % len(few)) for i in range(count)]
        dataset = ImageDataset(paths, np.arange(count) % 3, few.classes)
        del paths
    else:
        files = PackedFiles(path, "train")
        files.entries = np.lib.format.open_memmap(sys.argv[4])
        dataset = PackedDataset(files)
    loader = Loader(dataset, Preprocess(16, 16), 32, training=True, workers=1)
    for step, batch in enumerate(loader.epoch(0)):
        if step == 20:
            (worker,) = multiprocessing.active_children()
            before = resident(worker.pid)
        if step == 110:
            print(before, resident(worker.pid))
            break
    loader.close()
"""


def test_a_worker_does_not_grow_with_the_list(folder, packed, tmp_path):
    """A worker holds its batch, not the list, whose size changes nothing.

    Of 300,000 pictures a copy of the list would be 25 MB at least; one that is touched and so
    copied page by page, as in a forked worker, grows by that within an epoch.
    """
    count = 300_000
    script = tmp_path / "memory.py"
    script.write_text(MEMORY)
    index = tmp_path / "index.npy"
    np.save(index, np.resize(PackedFiles(str(packed), "train").entries, count))
    growth, sizes = {}, {}
    for kind, path, many in (("files", folder, 27), ("files", folder, count),
                             ("packed", packed, count)):  # fmt: skip
        many = max(many, 115 * 32)
        done = subprocess.run(
            [sys.executable, script, kind, path, str(many), index],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        before, after = map(float, done.stdout.split())
        growth[kind, many], sizes[kind, many] = after - before, after
    # Allocator noise is 1 to 2 MB.
    assert max(growth.values()) < 8, growth
    assert max(sizes.values()) - min(sizes.values()) < 15, sizes
