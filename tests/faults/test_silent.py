"""What used to be wrong without a word: it is refused, or said."""

import shutil

import numpy as np
import pytest
from conftest import TINY_FLAGS, run_tool, start, train, wait_for

from ppcls_lite.data.dataset import open_split
from ppcls_lite.data.image_dataset import ImageDataset
from ppcls_lite.engine.meter import LogMeter
from ppcls_lite.engine.samples import fingerprint, what_changed


@pytest.fixture
def data(pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "data")
    return tmp_path / "data"


def test_a_validation_without_a_readable_picture_is_an_error(straight, data, tmp_path):
    for file in (data / "val").rglob("*.png"):
        file.write_bytes(b"")
    weights = straight[0] / "best.pdparams"
    flags = [f for f in TINY_FLAGS if f.startswith(("--val", "--batch", "--device", "--workers"))]
    done = run_tool(
        "tools/validate.py", f"--data-path={data}", f"--pretrained={weights}", "--on-error=skip",
        *flags,
    )  # fmt: skip
    assert done.returncode == 2, done.stdout
    assert "none of the 21 validation images can be read" in done.stderr
    done = train(data, tmp_path / "out", "--epochs=1", "--on-error=skip")
    assert done.returncode == 2 and "none of the 21 validation images" in done.stderr
    assert "stopped by a fault in epoch 0, after batch 6 of 6; saved" in done.stdout


@pytest.mark.parametrize("change", ["moved", "swapped"])
def test_a_run_does_not_go_on_with_a_picture_in_another_class(data, tmp_path, change):
    process = start(data, tmp_path / "out", "--epochs=2")
    wait_for(process, "[Epoch 0, iter: 1]")
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143
    red, blue = data / "train/red", data / "train/blue"
    (red / "3.png").rename(blue / "from_red.png")
    if change == "swapped":  # the numbers of pictures stay what they were
        (blue / "5.png").rename(red / "3.png")
        (blue / "from_red.png").rename(blue / "5b.png")
    done = run_tool("train.py", f"--resume={tmp_path}/out/latest.pdparams")
    assert done.returncode == 2, done.stdout
    if change == "moved":
        assert "blue: 14 -> 15 images, red: 14 -> 13 images" in done.stderr
    else:
        assert "other training images: blue: other images" in done.stderr
    assert "resume from a model_<epoch>.pdparams" in done.stderr


def test_at_the_end_of_an_epoch_other_pictures_are_said(straight, data, tmp_path):
    for suffix in (".pdparams", ".pdopt", ".json"):
        shutil.copy(straight[0] / f"model_2{suffix}", tmp_path)
    flags = ("--resume=auto", f"--output-dir={tmp_path}", f"--data-path={data}")
    done = run_tool("train.py", *flags, "--dry-run")  # the same pictures at another place
    assert done.returncode == 0 and "other training images" not in done.stdout, done.stderr
    (data / "train/red/3.png").rename(data / "train/blue/3b.png")
    done = run_tool("train.py", *flags)
    assert done.returncode == 0, done.stderr
    assert "other training images than before: blue: 14 -> 15 images, red: 14" in done.stdout


def test_the_fingerprint_tells_pictures_labels_and_order():
    classes = ["a", "b"]
    paths, labels = ["x/a/1", "x/a/2", "x/b/1", "x/b/2"], [0, 0, 1, 1]
    before = fingerprint(ImageDataset(paths, labels, classes))

    def change(order=(0, 1, 2, 3), names=paths, ids=labels, root="x"):
        names = [names[i].replace("x", root) for i in order]
        now = fingerprint(ImageDataset(names, [ids[i] for i in order], classes))
        return what_changed(before, now, classes)

    assert change() == change(root="somewhere/else") == what_changed("", before, classes) == ""
    assert change(order=(0, 2, 1, 3)) == "the same images in another order"
    assert change(order=(1, 0, 2, 3)) == "a: other images"
    assert change(ids=[0, 1, 1, 1]) == "a: 2 -> 1 images, b: 2 -> 3 images"
    assert change(ids=[0, 1, 0, 1]) == "a: other images, b: other images"
    assert change(ids=[0, 0, 1, -1]) == (
        "images of no known class: 0 -> 1 images, b: 2 -> 1 images"
    )


def test_a_packed_set_has_the_fingerprint_of_its_pictures(pictures, tmp_path):
    done = run_tool("tools/pack_dataset.py", f"--data-path={pictures}", f"--out={tmp_path}/packed")
    assert done.returncode == 0, done.stderr
    split = [open_split(str(root), "train") for root in (pictures, tmp_path / "packed")]
    assert fingerprint(split[0]) == fingerprint(split[1])


def test_one_value_per_channel_is_refused(pictures, tmp_path):
    """Paddle's layers would hand it on, the kernels would give the bias."""
    for kernels in ("off", "auto"):
        done = train(
            pictures, tmp_path / kernels, "--epochs=1", "--batch-size=1", f"--cpu-kernels={kernels}"
        )
        assert done.returncode == 2, done.stdout
        assert "one value per channel" in done.stderr and "--batch-size 2" in done.stderr
    assert not list(tmp_path.rglob("*.pdparams"))
    done = train(
        pictures, tmp_path / "larger", "--dry-run", "--batch-size=1", "--train-crop-size=64"
    )
    assert done.returncode == 0, done.stderr


def test_a_log_line_keeps_a_bounded_number_of_answers(monkeypatch):
    """Of 21,841 classes 100 batches would take 2.2 GB; the means are the same."""
    from types import SimpleNamespace

    import paddle

    from ppcls_lite.engine import meter as meter_module

    lines, held = [], []
    run = SimpleNamespace(
        info=SimpleNamespace(num_classes=50, multi_label=False),
        progress=SimpleNamespace(epoch=0, batch=9, step=9, epochs=0),
        optimizer=SimpleNamespace(get_lr=lambda: 0.1), loader=[None] * 9,
        config=SimpleNamespace(epochs=1),
        log=SimpleNamespace(line=lambda text: None, record=lambda *a: lines.append(a[2])),
    )  # fmt: skip
    draws = np.random.RandomState(0)
    batches = [(draws.randn(8, 50).astype("float32"), draws.randint(0, 50, 8)) for _ in range(9)]
    for limit in (10**9, 4 * 8 * 50 * 3):
        monkeypatch.setattr(meter_module, "LIMIT", limit)
        meter = LogMeter(run)
        for logits, labels in batches:
            meter.add(paddle.to_tensor(1.0), paddle.to_tensor(logits), labels)
            held.append(len(meter._answers))
        meter.flush(lambda *a: None)
    assert max(held[:9]) == 9 and max(held[9:]) == 2
    best = [logits.argmax(1) == labels for logits, labels in batches]
    for values in lines:
        assert values["top1"] == np.mean(best) and values["top5"] == lines[0]["top5"]
