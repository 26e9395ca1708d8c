"""Every reader of files that strangers write: damaged in any way, they are read or one message."""

import gzip
import itertools
import json
import math
import random
import re
import shutil
import tracemalloc
import zipfile

import numpy as np
import pytest
import yaml
from conftest import ROOT, run_tool
from test_strange_files import STRANGE, changed, leaves

from ppcls_lite.accelerator import labels, npz_eval, profile, results
from ppcls_lite.accelerator.build_config import BuildConfig, to_yaml, transform_ops
from ppcls_lite.accelerator.lint_bundle import _check_vdsp, lint_bundle
from ppcls_lite.accelerator.simulator import SimulatedModel
from ppcls_lite.accelerator.vdsp import FORMS, read_vdsp, vdsp_params
from ppcls_lite.commands import accelerator_run, data_pack
from ppcls_lite.data.idx import read_idx
from ppcls_lite.data.listed import read_names
from ppcls_lite.data.lists import read_list
from ppcls_lite.data.packed import PackedFiles
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.data.settings import PackDatasetConfig
from ppcls_lite.deploy.first_load import check_form
from ppcls_lite.errors import UserError

SPEC = Preprocess(72, 64)
CLASSES = [f"kind {number}" for number in range(10)]


def check(reader, *args):
    """Returns whether it reads; anything but an answer or one short message fails."""
    try:
        reader(*args)
    except UserError as error:
        assert 0 < len(error.message) < 1500, error.message[:3000]
        return True
    return False


def damaged(data, seed, count):
    """Copies of bytes with a stretch changed, cut out, put in, or without their end."""
    draw = random.Random(seed)
    for _ in range(count):
        place, length = draw.randrange(len(data)), draw.choice([1, 1, 2, 8, 40])
        other = draw.choice(
            [draw.randbytes(length), b"\xff" * length, bytes(length), b"9" * length]
        )
        end = place + draw.choice([0, length, len(data)])
        yield data[:place] + draw.choice([other, b""]) + data[end:]


@pytest.fixture(scope="module")
def bundle(exported, tmp_path_factory):
    """A bundle's files that are read, by the functions that write them."""
    root = tmp_path_factory.mktemp("strange") / "bundle"
    for folder in ("build", "onnx", "labels", "model_info", "calib"):
        (root / folder).mkdir(parents=True)
    shutil.copy(exported / "inference.onnx", root / "onnx/x.onnx")
    about = {"preprocess": SPEC.to_dict(), "num_classes": 10, "val": "val"}
    (root / "bundle.json").write_text(json.dumps(about))
    for era in (1, 2):
        config = BuildConfig(
            era=era, name="x", checkpoint="onnx/x.onnx", inputs={"x": [1, 3, 64, 64]}, dtype="int8",
            softmax=True, mode="percentile", dataset="calib", suffix="JPEG", count=4,
            ops=transform_ops(SPEC),
        )  # fmt: skip
        (root / f"build/v{era}.yaml").write_text(to_yaml(config))
    for form in FORMS:
        file = root / f"vdsp_params/{form}/x.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(vdsp_params(SPEC, form)))
    (root / "labels/label.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    ids = {name: number for number, name in enumerate(CLASSES)}
    (root / "labels/wnid.json").write_text(json.dumps(ids))
    info = {"model_lib_path": "x.so", "model_name": "x"}
    (root / "model_info/model_info_x.json").write_text(json.dumps(info))
    (root / "calibration_list.txt").write_text("calib/0.JPEG 0\ncalib/1.JPEG 9\n")
    shutil.copy(ROOT / "test_images/chelsea.jpg", root / "calib/0.JPEG")
    built = root / "x-sim"
    built.mkdir()
    shutil.copy(exported / "inference.onnx", built / "x.onnx")
    about = {"input": {"x": [1, 3, 64, 64]}, "softmax": True}
    (built / "x.json").write_text(json.dumps(about))
    return root


def built_by(folder):
    """The stand-in's description of a network."""
    return SimulatedModel(
        folder / "x", read_vdsp(next(folder.parent.rglob("vdsp_params/*/*.json")))
    )


def parameters_of(form):
    """Reads one of the three parameter files; the linter makes a finding of its message."""

    def read(root):
        list(_check_vdsp(root, {"resize_size": 72, "crop_size": 64}))
        read_vdsp(root / f"vdsp_params/{form}/x.json")

    return read


# A file of the bundle, and what reads it, given the bundle's folder.
STRUCTURED = {
    "bundle.json": lint_bundle,
    "build/v1.yaml": lint_bundle,
    "build/v2.yaml": lint_bundle,
    **{f"vdsp_params/{form}/x.json": parameters_of(form) for form in FORMS},
    "labels/wnid.json": lambda root: labels.folder_ids(str(root / "labels/wnid.json"), CLASSES),
    "model_info/model_info_x.json": lambda root: accelerator_run._prefix(
        root / "model_info/model_info_x.json"
    ),
    "x-sim/x.json": lambda root: built_by(root / "x-sim"),
}
TEXTS = {
    "labels/label.txt": lambda root: labels.read_names(root / "labels/label.txt"),
    "calibration_list.txt": lint_bundle,
}


@pytest.mark.parametrize("name", STRUCTURED)
def test_bundle_files_with_any_value_changed_are_read_or_refused(bundle, tmp_path, name):
    root = shutil.copytree(bundle, tmp_path / "bundle")
    file, read = root / name, STRUCTURED[name]
    text = file.read_text()
    good = yaml.safe_load(text)
    assert not check(read, root), "the good file is refused"
    refused = 0
    places = list(leaves(good))
    for number, place in enumerate(places[:: max(1, len(places) // 60)]):
        for new in (..., STRANGE[number % len(STRANGE)], STRANGE[-number % 7]):
            value = changed(good, place, new)
            file.write_text(json.dumps(value) if name.endswith("json") else yaml.safe_dump(value))
            refused += check(read, root)
    for data in damaged(text.encode(), name, 60):
        file.write_bytes(data)
        refused += check(read, root)
    for data in (b"", b"[" * 100_000, b"\xff\xfe", b"[]", b"null", b"NaN", b'{"a": NaN}'):
        file.write_bytes(data)
        refused += check(read, root)
    assert refused > 20


@pytest.mark.parametrize("name", TEXTS)
def test_texts_of_a_bundle_are_read_or_refused(bundle, tmp_path, name):
    root = shutil.copytree(bundle, tmp_path / "bundle")
    good = (root / name).read_bytes()
    for data in (*damaged(good, name, 60), b"", b"\xff", b"\0", b"a " + b"9" * 5000):
        (root / name).write_bytes(data)
        check(TEXTS[name], root)
    (root / name).write_bytes(b"\xff\n")
    assert check(TEXTS[name], root)


RESULT = "".join(
    f"val/{CLASSES[0]}/{picture}.jpg: Relay top-{rank} id: {rank}, prob: 0.5, class name: x\n"
    for picture in range(3) for rank in range(5)
)  # fmt: skip
LISTS = {
    "result.txt": (RESULT, results.read_results),
    "compat.txt": (RESULT, results.score_by_name),
    "ids.txt": ("a.jpg 1\nb.jpg 2\n", labels.read_two_fields),
    "datalist.txt": ("datalist.txt\n", profile.read_datalist),
    "list.txt": ("a.jpg 0\n'b c.jpg' 1\n", lambda path: read_list(str(path), "")),
    "list.csv": ("file,label\na.jpg,cat\nb.jpg,dog\n", lambda path: read_list(str(path), "")),
    "labels.txt": ("0 cat\n1 dog\n", lambda path: read_names(str(path.parent))),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_are_read_or_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    good, read = LISTS[name]
    strange = [b"", b"\xff\n", b"\0\n", b"a.jpg " + b"9" * 5000, b'"' * 999, b"x" * 200_000, b",\n"]
    for data in (*damaged(good.encode(), name, 200), *strange):
        (tmp_path / name).write_bytes(data)
        check(read, tmp_path / name)


def npz(path, **arrays):
    np.savez(path, **arrays)
    return path.read_bytes()


def lying(path, shape, dtype="|u1"):
    """An .npz whose array says another shape than it has."""
    head = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    head = head.ljust(118 - 1) + "\n"
    data = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + bytes(12)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("output_0.npy", data)


def test_npz_files_are_read_or_refused_and_never_believed(tmp_path):
    file = tmp_path / "output_000000.npz"
    good = npz(file, output_0=np.zeros((1, 10), np.float16))
    assert not check(npz_eval._scores, file)
    for data in damaged(good, "npz", 300):
        file.write_bytes(data)
        check(npz_eval._scores, file)
    for array in (np.zeros(3), np.zeros((0, 0)), np.array([["a"]]), np.zeros((1, 3, 2))):
        npz(file, output_0=array)
        assert check(npz_eval._scores, file)
    for name in ("input_0", "x"):
        npz(file, **{name: np.zeros((1, 10))})
        assert check(npz_eval._scores, file)
    tracemalloc.start()
    for shape in ("(3, 100000, 100000)", "(-1, 10)", f"({10**30},)", "(1, 10000000)", "(1.5, 2)"):
        lying(file, shape)
        assert check(npz_eval._scores, file), shape
    lying(file, "(1, 4)", "|O")
    assert check(npz_eval._scores, file)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:  # small, and large unpacked
        archive.writestr("output_0.npy", b"\x93NUMPY\x01\x00" + bytes(30_000_000))
    tracemalloc.reset_peak()
    assert check(npz_eval._scores, file)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


@pytest.fixture(scope="module")
def packed(pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("packed") / "packed"
    config = PackDatasetConfig(data_path=str(pictures), out=str(out), shard_size=20, workers=0)
    assert data_pack.run(config) == 0
    return out


def test_packed_sets_are_read_or_refused(packed, tmp_path):
    out = shutil.copytree(packed, tmp_path / "packed")

    def read():
        files = PackedFiles(str(out), "train")
        for index in range(len(files)):
            files.source(index)
            files.path(index)

    assert not check(read)
    description = json.loads((out / "train.packed.json").read_text())
    for number, place in enumerate(leaves(description)):
        for new in (..., STRANGE[number % len(STRANGE)], STRANGE[-number % 7]):
            (out / "train.packed.json").write_text(json.dumps(changed(description, place, new)))
            check(read)
    for name in ("train.packed.json", "train.packed.npy", "train.packed.names.npy"):
        good = (packed / name).read_bytes()
        for data in (*damaged(good, name, 100), b"", b"[" * 100_000):
            (out / name).write_bytes(data)
            check(read)
        (out / name).write_bytes(good)


@pytest.mark.parametrize(
    "field, value, words",
    [("shard", 7, "none of the 3"), ("shard", -1, "none of the 3"), ("label", 3, "none of the 3"),
     ("label", -1, "label"), ("offset", 2**62, "beyond"), ("size", 2**62, "beyond"),
     ("size", -1, "beyond")],
)  # fmt: skip
def test_verify_refuses_places_and_labels_that_do_not_exist(
    packed, tmp_path, capsys, field, value, words
):
    out = shutil.copytree(packed, tmp_path / "packed")
    entries = np.load(out / "train.packed.npy")
    entries[field][5] = value
    np.save(out / "train.packed.npy", entries)
    assert data_pack.run(PackDatasetConfig(out=str(out), verify=True)) == 1
    printed = capsys.readouterr().out
    assert "image 5" in printed and words in printed


def test_pictures_outside_of_the_data_set_are_not_packed_unasked(pictures, tmp_path):
    data = shutil.copytree(pictures, tmp_path / "data")
    elsewhere = tmp_path / "private.png"
    shutil.copy(next(data.rglob("*.png")), elsewhere)
    (data / "train/red/link.png").symlink_to(elsewhere)
    (data / "train/red/inside.png").symlink_to(data / "train/red/0.png")
    flags = ("--data-path", data, "--out", tmp_path / "out", "--workers=0")
    refused = run_tool("tools/pack_dataset.py", *flags)
    assert refused.returncode == 2 and f"link.png is {elsewhere}" in refused.stderr
    assert "1 images lie outside" in refused.stderr and "--follow-links" in refused.stderr
    assert not list((tmp_path / "out").glob("*.tar"))
    assert run_tool("tools/pack_dataset.py", *flags, "--follow-links").returncode == 0


def test_network_files_are_looked_through_before_anything_unpacks_them(exported, tmp_path):
    for name in ("inference.onnx", "inference.pdmodel", "inference.json"):
        file = tmp_path / name
        shutil.copy(exported / name, file)
        assert not check(check_form, file)
        good = file.read_bytes()
        # Weights are most of it, and any bytes may be weights: the head is where damage shows.
        refused = 0
        for data in damaged(good[:4000], name, 100):
            file.write_bytes(data + good[4000:])
            refused += check(check_form, file)
        for data in (b"", b"\xff" * 100, good[: len(good) // 2], b"[" * 100_000):
            file.write_bytes(data)
            assert check(check_form, file)
        assert refused > 20, (name, refused)


def test_idx_files_are_read_or_refused_and_bounded(tmp_path, monkeypatch):
    file = tmp_path / "t10k-labels-idx1-ubyte"
    good = bytes([0, 0, 8, 1, 0, 0, 0, 5]) + bytes(5)
    for data in damaged(good, "idx", 200):
        file.write_bytes(data)
        check(read_idx, file, 1, "")
    file.unlink()
    packed = file.with_name(f"{file.name}.gz")
    for data in damaged(gzip.compress(good), "gz", 200):
        packed.write_bytes(data)
        check(read_idx, file, 1, "")
    monkeypatch.setattr("ppcls_lite.data.idx.LARGEST", 1000)
    packed.write_bytes(gzip.compress(bytes(10_000)))
    with pytest.raises(UserError, match="unpacks to more than 1,000 bytes"):
        read_idx(file, 1, "")


def test_numbers_that_are_none_are_refused_by_name(bundle, tmp_path):
    root = shutil.copytree(bundle, tmp_path / "bundle")
    file = root / "labels/wnid.json"
    for value in (10**12, -1, 1.5, True, math.nan):
        file.write_text(json.dumps({"a": value}))
        with pytest.raises(UserError, match="wnid"):
            labels.folder_ids(str(file), ["a"])
    for old, key in itertools.product(("sdk1.0",), ("crop_size", "short_edge_threshold")):
        params = root / f"vdsp_params/{old}/x.json"
        content = vdsp_params(SPEC, old)
        for value in (10**9, 0, -5, 2.5, "64"):
            params.write_text(json.dumps(content | {key: value}))
            with pytest.raises(UserError, match=r"crop|resize"):
                read_vdsp(params)


def test_advice_to_install_names_an_extra_that_exists(monkeypatch, tmp_path):
    from ppcls_lite import program

    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["tool"]["setuptools"]["dynamic"]["optional-dependencies"]
    code = "".join(file.read_text() for file in (ROOT / "ppcls_lite").rglob("*.py"))
    used = set(re.findall(r"""install_hint\(["'](\w+)["']\)""", code))
    assert used == {"serving", "ray", "heif", "mobile"} and used <= extras.keys()
    assert not re.search(r"pip install -r requirements-", code)
    for extra in used:
        (file,) = extras[extra]["file"]
        assert (ROOT / file).is_file()
        assert program.install_hint(extra).endswith(f"requirements-{extra}.txt")
    monkeypatch.setattr(program, "CHECKOUT", tmp_path)  # as in site-packages
    assert program.install_hint("serving") == "pip install 'ppcls-lite[serving]'"
