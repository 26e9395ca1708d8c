"""CIFAR and Fashion-MNIST in every form they come in, downloads of them, and MindCV's page."""

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from conftest import run_tool

from ppcls_lite.data import named
from ppcls_lite.data.loader import Loader
from ppcls_lite.data.named import DataFile, open_train, open_val
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.errors import UserError

COUNT = 12  # pictures in a file
NAMES = {
    "cifar10": ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship",
                "truck"],
    "cifar100": [f"fine_{i}" for i in range(100)],
}  # fmt: skip


def planes(seed):
    """A file's pictures as both forms store them, uint8 [N, 3072], and its labels."""
    draws = np.random.RandomState(seed)
    return draws.randint(0, 256, (COUNT, 3072), np.uint8), draws.randint(0, 10, COUNT)


def text(value):
    """A short string as Python 2 pickled it."""
    return b"U" + bytes([len(value)]) + value


def python2_pickle(entries):
    """A dictionary of lists and byte arrays as Python 2 and its numpy pickled it."""
    out = b"\x80\x02}("
    for key, value in entries.items():
        out += text(key.encode())
        if isinstance(value, np.ndarray):
            raw = value.tobytes()
            out += b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b")
            out += b"\x87R(K\x01" + b"".join(b"M" + struct.pack("<H", n) for n in value.shape)
            out += b"\x86cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R(K\x03" + text(b"|")
            out += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
            out += b"\x89T" + struct.pack("<i", len(raw)) + raw + b"tb"
        else:
            items = [b"K" + bytes([v]) if isinstance(v, int) else text(v.encode()) for v in value]
            out += b"](" + b"".join(items) + b"e"
    return out + b"u."


def cifar_files(name, form):
    """The files of one form, {file name: bytes}, and the folder they are in."""
    is_ten = name == "cifar10"
    parts = [f"data_batch_{i}" for i in range(1, 6)] if is_ten else ["train"]
    parts.append("test_batch" if is_ten else "test")
    files = {}
    for seed, part in enumerate(parts):
        pixels, labels = planes(seed)
        labels = [int(label) for label in labels]
        if form == "python":
            key = "labels" if is_ten else "fine_labels"
            table = {"batch_label": ["part"], "data": pixels, key: labels}
            files[part] = python2_pickle(
                table if is_ten else table | {"coarse_labels": [1] * COUNT}
            )
        else:
            coarse = b"" if is_ten else b"\x01"
            records = zip(labels, pixels, strict=True)
            files[f"{part}.bin"] = b"".join(
                coarse + bytes([label]) + row.tobytes() for label, row in records
            )
    if form == "python":
        key = "label_names" if is_ten else "fine_label_names"
        files["batches.meta" if is_ten else "meta"] = python2_pickle({key: NAMES[name]})
    else:
        meta = "batches.meta.txt" if is_ten else "fine_label_names.txt"
        files[meta] = "\n".join([*NAMES[name], ""]).encode()
    if is_ten:
        return files, "cifar-10-batches-py" if form == "python" else "cifar-10-batches-bin"
    return files, f"cifar-100-{form}"


def write_cifar(root, name, form, packed):
    files, folder = cifar_files(name, form)
    if not packed:
        (root / folder).mkdir()
        for file, content in files.items():
            (root / folder / file).write_bytes(content)
        return
    number = name.removeprefix("cifar")
    with tarfile.open(root / f"cifar-{number}-{form}.tar.gz", "w:gz") as tar:
        for file, content in files.items():
            info = tarfile.TarInfo(f"{folder}/{file}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def test_the_pickles_here_are_what_python_reads():
    pixels, labels = planes(0)
    files, _ = cifar_files("cifar10", "python")
    table = pickle.loads(files["data_batch_1"], encoding="latin1")
    assert np.array_equal(table["data"], pixels) and table["labels"] == labels.tolist()


@pytest.mark.parametrize("packed", [True, False], ids=["archive", "folder"])
@pytest.mark.parametrize("form", ["python", "binary"])
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_read_in_every_form(name, form, packed, tmp_path):
    write_cifar(tmp_path, name, form, packed)
    config = TrainConfig(data_path=str(tmp_path), dataset=name)
    for split, seeds in (("train", range(5) if name == "cifar10" else [0]), ("val", [5, 1])):
        data = {"train": open_train, "val": open_val}[split](config)
        seeds = seeds if split == "train" else seeds[:1] if name == "cifar10" else seeds[1:]
        parts = [planes(seed) for seed in seeds]
        assert data.classes == NAMES[name]
        assert data.labels.tolist() == np.concatenate([labels for _, labels in parts]).tolist()
        batch = next(Loader(data, Preprocess(32, 32), 1000, training=False).epoch(0))
        red, green, blue = (
            np.concatenate([p for p, _ in parts]).reshape(-1, 3, 32, 32).swapaxes(0, 1)
        )
        assert np.array_equal(batch.images, np.stack([red, green, blue], axis=-1))
        assert data.path(3).endswith("image 3") and "cifar-10" in data.path(3)


def fashion_files():
    files = {}
    for seed, prefix in enumerate(("train", "t10k")):
        draws = np.random.RandomState(seed)
        pixels = draws.randint(0, 256, (COUNT, 28, 28), np.uint8)
        labels = draws.randint(0, 10, COUNT).astype(np.uint8)
        for kind, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            head = struct.pack(">4B", 0, 0, 8, array.ndim) + struct.pack(
                f">{array.ndim}I", *array.shape
            )
            files[f"{prefix}-{kind}-ubyte"] = head + array.tobytes()
    return files


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("below", named.FASHION_FOLDERS)
def test_fashion_mnist_is_read_packed_or_not(packed, below, tmp_path):
    (tmp_path / below).mkdir(parents=True, exist_ok=True)
    for name, content in fashion_files().items():
        file = tmp_path / below / (f"{name}.gz" if packed else name)
        file.write_bytes(gzip.compress(content) if packed else content)
    config = TrainConfig(data_path=str(tmp_path), dataset="fashion_mnist")
    for seed, split in enumerate(("train", "val")):
        data = {"train": open_train, "val": open_val}[split](config)
        pixels = np.random.RandomState(seed).randint(0, 256, (COUNT, 28, 28), np.uint8)
        batch = next(Loader(data, Preprocess(28, 28), 99, training=False, workers=1).epoch(0))
        assert np.array_equal(batch.images, np.repeat(pixels[..., None], 3, axis=-1))
        assert len(data.classes) == 10 and data.labels.max() < 10


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_a_download_is_checked_and_happens_once(tmp_path, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    served, here = tmp_path / "served", tmp_path / "here"
    served.mkdir()
    write_cifar(served, "cifar10", "binary", packed=True)
    archive = served / "cifar-10-binary.tar.gz"
    digest = hashlib.md5(archive.read_bytes()).hexdigest()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=served))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/{archive.name}"
    try:
        flags = {"data_path": str(here), "dataset": "cifar10"}
        with pytest.raises(UserError, match="--dataset-download  # fetches it"):
            open_train(TrainConfig(**flags))
        with pytest.raises(UserError, match="a dry run downloads nothing"):
            open_train(TrainConfig(**flags, dataset_download=True), dry_run=True)
        config = TrainConfig(**flags, dataset_download=True)
        monkeypatch.setitem(named.DOWNLOADS, "cifar10", (DataFile(url, "md5:" + "0" * 32),))
        with pytest.raises(UserError, match=f"its md5 is {digest}, published is 000"):
            open_train(config)
        assert not list(here.glob("*.tar.gz"))
        monkeypatch.setitem(named.DOWNLOADS, "cifar10", (DataFile(url, f"md5:{digest}"),))
        assert len(open_train(config)) == 5 * COUNT
    finally:
        server.shutdown()
        server.server_close()
    assert len(open_val(config)) == COUNT  # the server is gone
    assert [p.name for p in here.iterdir() if p.suffix != ".lock"] == [archive.name]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("data_batch_2", None, "lacks 'data_batch_2'"),
        ("data_batch_2", pickle.dumps({"labels": [1]}), "lacks 'data'"),
        ("data_batch_2", b"\x80\x02cposix\nsystem\nU\x04true\x85R.", "asks to run posix.system"),
        ("data_batch_2", b"\x80\x02}(", "damaged"),
        ("batches.meta", python2_pickle({"label_names": ["one"]}), "a label is"),
    ],
)
def test_damaged_cifar_is_named_and_runs_nothing(file, content, message, tmp_path):
    write_cifar(tmp_path, "cifar10", "python", packed=False)
    path = tmp_path / "cifar-10-batches-py" / file
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        open_train(TrainConfig(data_path=str(tmp_path), dataset="cifar10"))


# MindCV's command lines as they are printed, less what is a slip of the pen there: `pirun`, a
# configuration file spelled `mobienet`, and `dataset=cifar10` without its dashes.
FINE_TUNE = (
    "train.py --model=mobilenet_v3_large_100 --pretrained --opt=momentum --lr=0.001"
    " --dataset=cifar10 --num_classes=10 --dataset_download"
)
VALIDATE = "--model=mobilenet_v3_small --dataset=imagenet --val_split=val --ckpt_path={weights}"
SMALL = ["--device=cpu", "--batch-size=4", "--train-crop-size=32", "--workers=0"]


def test_mindcvs_command_fine_tunes_on_cifar(tmp_path):
    write_cifar(tmp_path, "cifar10", "python", packed=True)
    argv = [*FINE_TUNE.split(), f"--data_dir={tmp_path}", "--dry-run", *SMALL]
    done = run_tool(*argv)
    assert done.returncode == 0, done.stderr
    assert "mobilenet_v3_large_100, 10 classes" in done.stdout
    assert "60 train, 12 val images" in done.stdout


def test_mindcvs_command_validates(pictures, straight):
    flags = VALIDATE.format(weights=straight[0] / "best.pdparams").split()
    done = run_tool("tools/validate.py", *flags, f"--data_dir={pictures}", "--device=cpu")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(" * Acc@1")


def test_the_slip_in_mindcvs_document_is_pointed_at():
    done = run_tool("train.py", "dataset=cifar10")
    assert done.returncode == 2 and "dataset=cifar10; did you mean --dataset?" in done.stderr


def test_the_validation_split_may_have_another_name(pictures, tmp_path):
    (tmp_path / "train").symlink_to(pictures / "train")
    (tmp_path / "test").symlink_to(pictures / "val")
    for settings in ({"val_split": "test"}, {}):  # asked for, or the only one there is
        data = open_val(TrainConfig(data_path=str(tmp_path), **settings))
        assert len(data) == 21
    assert data.notes == ("val is read from test",)
    with pytest.raises(UserError, match="has no vali/"):
        open_val(TrainConfig(data_path=str(tmp_path), val_split="vali"))
