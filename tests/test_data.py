"""Data sets and the loader: what is found, in which order, and what happens when things break."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden.data_images import make_image

from ppcls_lite.data import loader as loader_module
from ppcls_lite.data.classes import ClassMatch, ClassSet, match_classes
from ppcls_lite.data.dataset import open_split
from ppcls_lite.data.image_dataset import ImageDataset
from ppcls_lite.data.loader import Batch, Loader
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.data.transforms import TrainTransform
from ppcls_lite.data.watch import Watch
from ppcls_lite.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
SPEC = Preprocess(resize_size=20, crop_size=16)


def write_picture(file: Path, seed: int = 0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    make_image(24, 20, seed).save(file, "PNG")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """13 pictures in 3 of 4 classes."""
    root = tmp_path_factory.mktemp("data")
    for i in range(13):
        write_picture(root / "train" / ("ant", "bee", "dog")[i % 3] / f"{i:02}.png", seed=i)
    (root / "train" / "cat").mkdir()
    return root


@pytest.fixture(scope="module")
def dataset(folder: Path) -> ImageDataset:
    return open_split(str(folder), "train")


def message_of(call: Any, *args: Any) -> str:
    with pytest.raises(UserError) as caught:
        call(*args)
    return str(caught.value)


def indices_of(batches: Sequence[Batch]) -> list[list[int]]:
    return [batch.indices.tolist() for batch in batches]


# Data sets


def test_class_folders_count_even_when_empty(dataset: ImageDataset, folder: Path) -> None:
    assert dataset.classes == ["ant", "bee", "cat", "dog"]
    assert np.bincount(dataset.labels, minlength=4).tolist() == [5, 4, 0, 4]
    assert dataset.path(12) == str(folder / "train" / "dog" / "11.png")
    assert dataset.label(12) == 3
    assert len(dataset) == 13


def test_pictures_in_sub_folders_and_hidden_files(tmp_path: Path) -> None:
    write_picture(tmp_path / "train" / "ant" / "day 1" / "ä.JPG")
    (tmp_path / "train" / "ant" / "._ä.JPG").touch()
    (tmp_path / "train" / ".ipynb_checkpoints").mkdir()
    found = open_split(str(tmp_path), "train")
    assert found.classes == ["ant"]
    assert [found.path(i) for i in range(len(found))] == [str(tmp_path / "train/ant/day 1/ä.JPG")]


def test_list_file_with_spaces_tabs_comments_and_names(tmp_path: Path) -> None:
    write_picture(tmp_path / "pictures" / "a b.png")
    (tmp_path / "val_list.txt").write_text(
        "# made by hand\n\npictures/a b.png 2\npictures/a b.png\t0\r\n"
    )
    found = open_split(str(tmp_path), "val")
    assert [found.path(i) for i in range(2)] == [str(tmp_path / "pictures" / "a b.png")] * 2
    assert found.labels.tolist() == [2, 0]
    assert found.classes == ["0", "1", "2"]
    (tmp_path / "labels.txt").write_text("ant\nbee\ncat fish\nunseen\n")
    assert open_split(str(tmp_path), "val").classes == ["ant", "bee", "cat fish", "unseen"]
    (tmp_path / "labels.txt").write_text("0 ant\n1 bee\n2 cat fish\n")
    assert open_split(str(tmp_path), "val").classes == ["ant", "bee", "cat fish"]
    (tmp_path / "labels.txt").write_text("ant\nbee\n")
    assert "names 2 classes, but the list has label 2" in message_of(
        open_split, str(tmp_path), "val"
    )


def test_list_paths_may_be_relative_to_the_list(tmp_path: Path) -> None:
    write_picture(tmp_path / "elsewhere" / "x.png")
    list_file = tmp_path / "elsewhere" / "mine.txt"
    list_file.write_text("x.png 0\n")
    (tmp_path / "data").mkdir()
    found = open_split(str(tmp_path / "data"), "train", str(list_file))
    assert found.path(0) == str(tmp_path / "elsewhere" / "x.png")
    list_file.write_text("train/y.png 0\n")
    message = message_of(open_split, str(tmp_path / "data"), "train", str(list_file))
    assert "train/y.png" in message and str(tmp_path / "data") in message


def test_bad_list_lines_are_named_with_file_and_line(tmp_path: Path) -> None:
    list_file = tmp_path / "train_list.txt"
    list_file.write_text("a.png 0\nb.png -1\nc.png\nd.png 1.5\ne.png 1700000000\n")
    message = message_of(open_split, str(tmp_path), "train")
    for number in (2, 3, 4, 5):
        assert f"{list_file}:{number}: " in message
    assert f"{list_file}:1: " not in message
    list_file.write_text("# nothing\n")
    assert "the list is empty" in message_of(open_split, str(tmp_path), "train")
    assert "No such file" in message_of(open_split, str(tmp_path), "train", "gone.txt")


@pytest.mark.parametrize(
    ("made", "part"),
    [
        ([], "the folder is empty"),
        (["training/ant/"], "mv DATA/training DATA/train"),
        (["Train/ant/"], "mv DATA/Train DATA/train"),
        (["images/train/ant/"], "--data-path DATA/images"),
        (["train.tar"], "tar -C DATA -xf DATA/train.tar"),
        (["train/1.jpg"], "train/ holds no folder"),
        (["train/ant/"], "no image in them"),
        (["train/ant/readme.txt"], "no image in them"),
        (["ant/", "bee/readme.txt"], "no image is in ant, bee"),
    ],
)
def test_a_wrong_layout_is_explained(tmp_path: Path, made: list[str], part: str) -> None:
    for name in made:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.mkdir() if name.endswith("/") else file.touch()
    message = message_of(open_split, str(tmp_path), "train")
    assert part.replace("DATA", str(tmp_path)) in message


def test_a_missing_data_root_is_named(tmp_path: Path) -> None:
    (tmp_path / "flowers").mkdir()
    message = message_of(open_split, str(tmp_path / "flower"), "train")
    assert f"{tmp_path}/flower: no such folder; did you mean flowers?" in message


def test_a_data_root_that_is_a_file_is_named_with_what_unpacks_it(tmp_path: Path) -> None:
    for name in ("afile", "my data.tar"):
        (tmp_path / name).touch()
    assert f"{tmp_path}/afile is a file, not a folder\n  next: lay it out" in message_of(
        open_split, f"{tmp_path}/afile", "train"
    )
    unpack = f"  next: tar -C {tmp_path} -xf '{tmp_path}/my data.tar'"
    assert unpack in message_of(open_split, f"{tmp_path}/my data.tar", "train")


def test_class_names_in_another_encoding_are_named_with_their_line(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png")
    (tmp_path / "train_list.txt").write_text("a.png 0\n")
    (tmp_path / "labels.txt").write_bytes("ant\nkäfer\n".encode("latin-1"))
    message = message_of(open_split, str(tmp_path), "train")
    assert f"{tmp_path}/labels.txt:2: the file is not UTF-8" in message


def test_links_to_folders_are_followed_but_never_twice(tmp_path: Path) -> None:
    ant = tmp_path / "train" / "ant"
    write_picture(ant / "1.png")
    write_picture(tmp_path / "elsewhere" / "2.png")
    (ant / "linked").symlink_to(tmp_path / "elsewhere")
    (ant / "loop").symlink_to(ant)
    found = open_split(str(tmp_path), "train")
    assert [found.path(i) for i in range(len(found))] == [f"{ant}/1.png", f"{ant}/linked/2.png"]


def test_classes_of_val_are_found_among_those_of_train() -> None:
    def match(known: list[str], data: list[str]) -> ClassMatch:
        sets = [ClassSet(who, tuple(x), len(x)) for who, x in (("train", known), ("val", data))]
        return match_classes(*sets).complete("")

    train = ["ant", "bee", "cat"]
    for val, ids in (
        (train, (0, 1, 2)),
        (train[:2], (0, 1)),
        (["0", "1", "2"], (0, 1, 2)),
        (["0"], (0,)),
        (["bee", "ant", "cat"], (1, 0, 2)),
    ):
        assert tuple(match(train, val).ids) == ids
    assert tuple(match(["0", "1", "2"], ["0", "1"]).ids) == (0, 1)
    message = message_of(match, train, ["ant", "dog"])
    assert "only in val: dog" in message and "only in train: bee, cat" in message
    assert "3" in message_of(match, train, ["0", "1", "2", "3"])


# Order


def test_an_epoch_is_a_permutation_that_changes_with_epoch_and_seed(dataset: ImageDataset) -> None:
    def order(seed: int, epoch: int) -> list[int]:
        loader = Loader(dataset, SPEC, 4, training=True, seed=seed)
        batches = indices_of(list(loader.epoch(epoch)))
        assert len(batches) == len(loader)
        return np.concatenate(batches).astype(int).tolist()

    # 13 = 3 batches of 4 and a last one of a single sample, which is dropped.
    assert len(order(0, 0)) == len(set(order(0, 0))) == 12
    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1) != order(1, 1)


def test_two_ranks_see_what_one_process_with_the_double_batch_sees(dataset: ImageDataset) -> None:
    single = Loader(dataset, TrainTransform(16), 4, training=True, seed=3)
    ranks = [
        Loader(dataset, TrainTransform(16), 2, training=True, seed=3, rank=rank, world_size=2)
        for rank in range(2)
    ]
    for one, *parts in zip(*(loader.epoch(5) for loader in (single, *ranks)), strict=False):
        assert sorted(one.indices) == sorted(np.concatenate([part.indices for part in parts]))
        for part in parts:
            rows = [one.indices.tolist().index(i) for i in part.indices]
            assert np.array_equal(one.images[rows], part.images)
            assert np.array_equal(one.labels[rows], part.labels)


@pytest.mark.parametrize("world_size", [1, 2, 3, 5, 16])
def test_ranks_share_an_epoch(dataset: ImageDataset, world_size: int) -> None:
    for training in (True, False):
        loaders = [
            Loader(dataset, SPEC, 2, training=training, rank=rank, world_size=world_size)
            for rank in range(world_size)
        ]
        epochs = [indices_of(list(loader.epoch(0))) for loader in loaders]
        assert [len(epoch) for epoch in epochs] == [len(loader) for loader in loaders]
        seen = sorted(i for epoch in epochs for batch in epoch for i in batch)
        if training:  # as many steps of the same size on every rank
            assert len({tuple(map(len, epoch)) for epoch in epochs}) == 1
            assert all(len(batch) > 0 for batch in epochs[0])
        else:  # every picture exactly once
            assert seen == list(range(13))


def test_a_data_set_smaller_than_a_batch_is_one_batch(dataset: ImageDataset) -> None:
    (batch,) = Loader(dataset, SPEC, 64, training=True).epoch(0)
    assert batch.images.shape == (13, 16, 16, 3) and batch.images.dtype == np.uint8
    assert batch.labels.dtype == batch.indices.dtype == np.int64


def test_batches_of_one_are_kept_when_asked_for(dataset: ImageDataset) -> None:
    assert len(list(Loader(dataset, SPEC, 1, training=True).epoch(0))) == 13


def test_workers_and_resuming_change_nothing(dataset: ImageDataset) -> None:
    def batches(workers: int, start_batch: int = 0) -> list[Batch]:
        loader = Loader(dataset, TrainTransform(16), 3, training=True, workers=workers, seed=1)
        list(loader.epoch(0))  # an epoch before must not matter
        found = list(loader.epoch(1, start_batch))
        loader.close()
        return found

    expected = batches(workers=0)
    assert len({batch.images.tobytes() for batch in expected}) == 4
    for other in (batches(1), batches(2), expected[:2] + batches(2, start_batch=2)):
        for a, b in zip(expected, other, strict=True):
            assert np.array_equal(a.images, b.images)
            assert np.array_equal(a.labels, b.labels)
            assert np.array_equal(a.indices, b.indices)


def test_an_epoch_left_early_changes_nothing_in_the_next(dataset: ImageDataset) -> None:
    alone = Loader(dataset, TrainTransform(16), 1, training=True)
    loader = Loader(dataset, TrainTransform(16), 1, training=True, workers=2)
    for epoch in range(3):
        next(iter(loader.epoch(epoch)))  # the workers are at the batches after it
        for a, b in zip(alone.epoch(epoch + 1), loader.epoch(epoch + 1), strict=True):
            assert np.array_equal(a.images, b.images)
    loader.close()


def test_pixels_are_handed_over_where_memory_has_no_memfd(
    dataset: ImageDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)  # macOS has none
    loader = Loader(dataset, TrainTransform(16), 5, training=True, workers=1)
    expected = Loader(dataset, TrainTransform(16), 5, training=True)
    for a, b in zip(expected.epoch(0), loader.epoch(0), strict=True):
        assert np.array_equal(a.images, b.images)
    loader.close()


def test_two_epochs_of_a_loader_are_not_mixed(dataset: ImageDataset) -> None:
    loader = Loader(dataset, TrainTransform(16), 1, training=True, workers=1)
    first = iter(loader.epoch(0))
    next(first)
    with pytest.raises(RuntimeError, match="one epoch at a time"):
        list(loader.epoch(1))
    assert len(list(first)) == 12
    loader.close()


def test_batches_before_the_start_are_not_decoded(tmp_path: Path) -> None:
    for name in "abcd":
        write_picture(tmp_path / "val" / "x" / f"{name}.png")
    (tmp_path / "val" / "x" / "a.png").write_bytes(b"")
    loader = Loader(open_split(str(tmp_path), "val"), SPEC, 2, training=False)
    assert indices_of(list(loader.epoch(0, start_batch=1))) == [[2, 3]]


# Broken pictures


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader_module, "PAUSES", (0.0, 0.0))


@pytest.fixture
def broken(tmp_path: Path) -> ImageDataset:
    """Six pictures, of which 1, 4 and 5 cannot be read."""
    for i in range(6):
        write_picture(tmp_path / "train" / "ab"[i // 3] / f"{i}.png", seed=i)
    (tmp_path / "train" / "a" / "1.png").write_bytes(b"")
    (tmp_path / "train" / "b" / "4.png").write_text("not found")
    (tmp_path / "train" / "b" / "5.png").unlink()
    (tmp_path / "train" / "b" / "5.png").mkdir()
    dataset = open_split(str(tmp_path), "train")
    # A picture that vanished after the scan.
    paths = [dataset.path(i) for i in range(5)] + [str(tmp_path / "train" / "b" / "5.png")]
    return ImageDataset(paths, [0, 0, 0, 1, 1, 1], dataset.classes)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_picture_stops_the_run_with_its_name(broken: ImageDataset, workers: int) -> None:
    loader = Loader(broken, SPEC, 3, training=False, workers=workers)
    message = message_of(list, loader.epoch(0))
    assert message.startswith(f"broken image {broken.path(1)}: is empty (0 bytes)")
    assert "--on-error skip" in message
    loader.close()


def test_evaluation_leaves_broken_pictures_out(broken: ImageDataset) -> None:
    loader = Loader(broken, SPEC, 2, training=False, on_error="skip")
    batches = list(loader.epoch(0))
    assert indices_of(batches) == [[0], [2, 3]]  # the third batch has no readable picture
    assert [batch.labels.tolist() for batch in batches] == [[0], [0, 1]]
    assert loader.broken == {
        broken.path(1): "is empty (0 bytes)",
        broken.path(4): "is not an image of a known format (9 bytes)",
        broken.path(5): "Is a directory",
    }


def test_training_replaces_broken_pictures_by_the_next_readable(broken: ImageDataset) -> None:
    def batches(seed: int, world_size: int, rank: int, on_error: str = "skip") -> list[Batch]:
        loader = Loader(
            broken,
            TrainTransform(16),
            6 // world_size,
            training=True,
            seed=seed,
            rank=rank,
            world_size=world_size,
            on_error=on_error,
        )
        return list(loader.epoch(0))

    (batch,) = batches(seed=0, world_size=1, rank=0)
    drawn = np.random.default_rng((0, 0)).permutation(6)
    replaced = {1: 2, 4: 0, 5: 0}
    assert batch.indices.tolist() == [replaced.get(i, i) for i in drawn.tolist()]
    assert batch.labels.tolist() == [broken.label(i) for i in batch.indices]
    # Rows with the same index hold the same pixels, and those of other indices differ.
    pixels = {int(i): batch.images[row] for row, i in enumerate(batch.indices)}
    for row, i in enumerate(batch.indices):
        assert np.array_equal(batch.images[row], pixels[int(i)])
    assert len({array.tobytes() for array in pixels.values()}) == 3
    for rank in range(2):
        assert [len(b.labels) for b in batches(seed=1, world_size=2, rank=rank)] == [3]


def test_no_readable_picture_at_all_is_an_error(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{i}.png") for i in range(3)]
    dataset = ImageDataset(paths, [0, 0, 0], ["x"])
    loader = Loader(dataset, SPEC, 2, training=True, on_error="skip")
    assert "none of the 3 images can be read" in message_of(list, loader.epoch(0))
    assert sorted(loader.broken) == paths


# Real processes

SCRIPT = """
    import multiprocessing, os, signal, sys, time
    from ppcls_lite.data.dataset import open_split
    from ppcls_lite.data.loader import Loader
    from ppcls_lite.data.preprocess import Preprocess
    from ppcls_lite.errors import UserError

    if __name__ == "__main__":
        stop = []
        if sys.argv[2] == "handler":
            signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
        dataset = open_split(sys.argv[1], "train")
        loader = Loader(dataset, Preprocess(20, 16), 1, training=True, workers=2)
        try:
            for epoch in range(100000):
                for step, batch in enumerate(loader.epoch(epoch)):
                    if epoch == step == 0:
                        pids = [child.pid for child in multiprocessing.active_children()]
                        print(*pids, flush=True)
                if stop:
                    print("finished the epoch", flush=True)
                    break
        except UserError as error:
            print(error, flush=True)
            sys.exit(2)
"""


@pytest.fixture
def training(folder: Path, tmp_path: Path) -> Any:
    """Starts a program that loads without end; gives it and the pids of its workers."""
    script = tmp_path / "load.py"
    script.write_text(textwrap.dedent(SCRIPT))
    started: list[tuple[subprocess.Popen[str], list[int]]] = []

    def start(mode: str = "plain") -> tuple[subprocess.Popen[str], list[int]]:
        process = subprocess.Popen(
            [sys.executable, str(script), str(folder), mode],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        workers: list[int] = []
        started.append((process, workers))
        assert process.stdout is not None
        workers += [int(pid) for pid in process.stdout.readline().split()]
        assert len(workers) == 2 and all(is_running(pid) for pid in workers)
        return process, workers

    yield start
    for process, workers in started:
        for pid in (process.pid, *workers):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.communicate()


def is_running(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"  # a zombie only waits to be collected


def assert_all_end(pids: list[int]) -> None:
    deadline = time.monotonic() + 20  # generous: it takes milliseconds on an idle machine
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline, "workers outlive the main process"
        time.sleep(0.05)


def test_killed_workers_are_replaced_a_few_times(dataset: ImageDataset) -> None:
    said: list[str] = []
    loader = Loader(
        dataset, TrainTransform(16), 1, training=True, workers=1, watch=Watch(say=said.append)
    )
    expected = list(Loader(dataset, TrainTransform(16), 1, training=True).epoch(0))
    got, message = [], ""
    try:
        for batch in loader.epoch(0):
            got.append(batch)
            for child in multiprocessing.active_children():
                child.kill()
                child.join()
    except UserError as error:
        message = str(error)
    assert "was killed by SIGKILL; 3 were replaced before" in message and "--workers 0" in message
    assert len(said) == 3 and "another one took its place (3 of 3 an epoch)" in said[2]
    assert 4 <= len(got) < 13
    for a, b in zip(expected, got, strict=False):
        assert np.array_equal(a.images, b.images) and np.array_equal(a.indices, b.indices)
    assert len(list(loader.epoch(0))) == 13  # afterwards it starts afresh
    loader.close()
    assert not multiprocessing.active_children()


def test_ctrl_c_leaves_no_workers(training: Any) -> None:
    process, workers = training()
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode not in (0, None)
    assert_all_end(workers)


def test_sigkill_of_the_main_process_leaves_no_workers(training: Any) -> None:
    process, workers = training()
    process.kill()
    process.wait(timeout=30)
    assert_all_end(workers)


def test_sigterm_to_the_group_lets_the_main_process_finish(training: Any) -> None:
    # `timeout` and batch systems signal the whole group; the main process decides when to stop.
    process, workers = training("handler")
    os.killpg(process.pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert (process.returncode, output.strip()) == (0, "finished the epoch")
    assert_all_end(workers)


@pytest.mark.parametrize("training", [True, False])
def test_the_number_of_batches_is_what_an_epoch_yields(training):
    for count in (1, 2, 7, 8, 9, 16, 17, 25):
        for world, batch in ((1, 1), (1, 8), (2, 4), (3, 2)):
            for rank in range(min(world, count)):
                loader = Loader(
                    range(count),
                    Preprocess(),
                    batch,
                    training=training,
                    rank=rank,
                    world_size=world,
                )
                assert len(loader) == len(loader._tasks(epoch=3))
