"""Weights files: exact values from the frameworks' own files; at worst a UserError."""

import io
import json
import os
import pickle
import re
import struct
import zipfile
import zlib
from collections import OrderedDict

import numpy as np
import paddle
import pytest
from conftest import ROOT, run_tool
from golden.formats_data import tensors
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from ppcls_lite.errors import UserError
from ppcls_lite.weights.formats import open_weights, read_weights
from ppcls_lite.weights.torch_files import LEGACY_MAGIC

GOLDEN = ROOT / "tests/golden/formats"
GOLDEN_FILES = sorted(GOLDEN.iterdir())
PLAIN = ("zip.pth", "legacy.pth", "tensors.safetensors", "plain.ckpt", "crc.ckpt")


def same(read, expected):
    assert read.keys() == expected.keys()
    for name, array in expected.items():
        assert (read[name].dtype, read[name].shape) == (array.dtype, array.shape), name
        assert np.array_equal(read[name], array), name
        assert read[name].flags.c_contiguous and read[name].flags.writeable, name


@pytest.mark.parametrize("name", PLAIN)
def test_files_of_the_frameworks_give_their_exact_values(name, tmp_path):
    expected = tensors()
    if name.endswith(".ckpt"):  # mindspore saves no empty tensor, and adds what it is told to
        expected = {k: v for k, v in expected.items() if v.size} | {"epoch_num": np.int64(3)}
    same(read_weights(GOLDEN / name), {k: np.asarray(v) for k, v in expected.items()})
    renamed = tmp_path / "weights.pdparams"
    renamed.write_bytes((GOLDEN / name).read_bytes())
    same(read_weights(renamed), read_weights(GOLDEN / name))  # told by content, not by name


def test_tensors_of_one_storage_come_back_apart():
    for name in ("zip.pth", "legacy.pth"):
        arrays = read_weights(GOLDEN / name)
        arrays["conv.weight"][:] = 9
        assert np.array_equal(arrays["conv.row"], tensors()["conv.row"])


@pytest.mark.parametrize(
    ("name", "container", "others", "weight"),
    [
        ("training_zip.pth", "model", (), [[1, 2]]),
        ("training_legacy.pth", "model", (), [[1, 2]]),
        ("averaged.pth", "model_ema", ("model",), [[3, 4]]),
    ],
)
def test_the_weights_are_found_in_the_checkpoint_of_a_training(name, container, others, weight):
    found = open_weights(GOLDEN / name)
    assert (found.container, found.others) == (container, others)
    assert set(found.arrays) == {  # without the `module.` of DataParallel and AveragedModel
        "0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var",
        "1.num_batches_tracked",
    }  # fmt: skip
    assert found.arrays["0.weight"].tolist() == weight


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_files_of_paddle(tmp_path, protocol):
    layer = paddle.nn.Sequential(paddle.nn.Linear(3, 2), paddle.nn.BatchNorm1D(2))
    expected = {name: tensor.numpy() for name, tensor in layer.state_dict().items()}
    for content, container in (
        (layer.state_dict(), ""),
        ({"epoch": 1, "model": layer.state_dict()}, "model"),
        ({"weights": layer.state_dict()}, "weights"),  # the only table, whatever its name
    ):
        paddle.save(content, str(tmp_path / "x.pdparams"), protocol=protocol)
        found = open_weights(tmp_path / "x.pdparams")
        assert (found.format, found.container) == ("paddle", container)
        same(found.arrays, expected)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_of_numpy_arrays(tmp_path, protocol):
    arrays = {name: np.array(values) for name, values in tensors().items()}
    arrays["fortran"] = np.asfortranarray(arrays["conv.weight"])
    path = tmp_path / "x.pdparams"
    path.write_bytes(pickle.dumps(arrays | {"epoch": 1, "note": "text"}, protocol=protocol))
    same(read_weights(path), {k: np.array(v, order="C") for k, v in arrays.items()})


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, save):
    arrays = {k: np.array(v) for k, v in tensors().items()} | {"fortran": np.eye(3, 2).T}
    save(tmp_path / "x.npz", **arrays)
    same(read_weights(tmp_path / "x.npz"), {k: np.array(v, order="C") for k, v in arrays.items()})


def mindspore_message():
    """MindSpore's message by google.protobuf, from its fields' numbers and types."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="ckpt", package="t", syntax="proto2")
    for message, fields in (
        ("TensorProto", [("dims", 1, field.TYPE_INT64), ("tensor_type", 2, field.TYPE_STRING),
                         ("tensor_content", 3, field.TYPE_BYTES)]),
        ("Value", [("tag", 1, field.TYPE_STRING), ("tensor", 2, ".t.TensorProto")]),
        ("Checkpoint", [("value", 1, ".t.Value")]),
    ):  # fmt: skip
        described = file.message_type.add(name=message)
        for name, number, kind in fields:
            repeated = name in ("dims", "value")
            label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            typed = {"type_name": kind} if isinstance(kind, str) else {"type": kind}
            described.field.add(name=name, number=number, label=label, **typed)
            if isinstance(kind, str):
                described.field[-1].type = field.TYPE_MESSAGE
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Checkpoint"))()


def test_a_large_tensor_that_mindspore_spread_over_several_values(tmp_path):
    whole = np.arange(10, dtype=np.float32).reshape(5, 2)
    message = mindspore_message()
    for part in (whole[:3], whole[3:]):  # mindspore does this above 512 MB
        value = message.value.add(tag="w")
        value.tensor.dims.extend([5, 2])
        value.tensor.tensor_type, value.tensor.tensor_content = "Float32", part.tobytes()
    remark = message.value.add(tag="remark").tensor
    remark.tensor_type, remark.tensor_content = "str", b"hello"
    (tmp_path / "x.ckpt").write_bytes(message.SerializeToString())
    same(read_weights(tmp_path / "x.ckpt"), {"w": whole})


def test_a_table_under_two_names_is_one_table(tmp_path):
    table = {"w": np.ones(2)}
    (tmp_path / "x.pdparams").write_bytes(pickle.dumps({"a": table, "b": table}))
    assert open_weights(tmp_path / "x.pdparams").container == "a"


def test_a_file_of_torch_compile_loses_its_prefix(tmp_path):
    path = tmp_path / "x.pdparams"
    path.write_bytes(pickle.dumps({"module._orig_mod.a": np.ones(2)}))
    assert list(read_weights(path)) == ["a"]


# --- what must not work ---------------------------------------------------------------------


class Evil:
    def __init__(self, call, *args):
        self.parts = call, args

    def __reduce__(self):
        return self.parts


def torch_zip(pickled, storages=None, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("x/data.pkl", pickled)
        for name, raw in (storages or {"0": bytes(16)}).items():
            archive.writestr(f"x/data/{name}", raw)
    return file.getvalue()


def torch_pickle(
    size, stride, offset=0, key="0", count=4, kind="FloatStorage", view=b"", metadata=b"", nest=0
):
    """A table of one tensor, written opcode by opcode."""

    def integers(values):
        return b"(" + b"".join(pickle.dumps(v, 2)[2:-1] for v in values) + b"t"

    def text(value):
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    persistent = b"(" + text("storage") + b"ctorch\n" + kind.encode() + b"\n" + text(key)
    tensor = persistent + text("cpu") + pickle.dumps(count, 2)[2:-1] + view + b"tQ"
    for _ in range(1 + nest):
        tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + tensor
        tensor += pickle.dumps(offset, 2)[2:-1] + integers(size) + integers(stride)
        tensor += b"\x89}" + metadata + b"tR"
    return b"\x80\x02}" + text("w") + tensor + b"s."


def torch_legacy(pickled):
    return LEGACY_MAGIC + b"\x80\x02M\xe9\x03." + pickle.dumps({"little_endian": True}) + pickled


def overlapping_zip():
    """A small member that lies inside a large one, so that both together are more than the file."""
    inner = torch_zip(torch_pickle([1], [1]), {"0": bytes(10**4)})
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("y", inner)
        for info in zipfile.ZipFile(io.BytesIO(inner)).infolist():
            info.header_offset += len("y") + 30  # the length of a local header
            archive.filelist.append(info)
            archive.NameToInfo[info.filename] = info
    return file.getvalue()


def compressed_zeros(count):
    file = io.BytesIO()
    np.savez_compressed(file, w=np.zeros(count, np.uint8))
    return file.getvalue()


def compressed_by(method):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("w.npy", bytes(100))
    return file.getvalue()


def safetensors(shape):
    header = f'{{"w":{{"dtype":"F32","shape":{shape},"data_offsets":[0,4]}}}}'.encode()
    return struct.pack("<Q", len(header)) + header + bytes(4)


def header_only(shape):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        npy = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            npy, {"descr": "<f4", "fortran_order": False, "shape": shape}
        )
        archive.writestr("w.npy", npy.getvalue())
    return file.getvalue()


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def deep_key(depth):
    return b"\x80\x02}(" + b")" + b"\x85" * depth + b"K\x01u."


def many_names_for_one_array():
    state = {"a": np.zeros(2**20, np.uint8)}
    return pickle.dumps(state | {str(i): state["a"] for i in range(3000)}, 4)


MANY_ENCODES = (
    b"\x80\x02](" + b"c_codecs\nencode\nX\x00\x00\x10\x00" + b"x" * 2**20
    + b"q\x01X\x06\x00\x00\x00latin1q\x02\x86R"
    + b"c_codecs\nencode\nh\x01h\x02\x86R" * 4000 + b"e."
)  # fmt: skip

HOSTILE = {
    "a shell command": (pickle.dumps({"w": Evil(os.system, "echo owned")}), "refused.*posix"),
    "the same for torch": (torch_zip(pickle.dumps(Evil(os.system, "a"), 2)), "refused.*posix"),
    "eval": (pickle.dumps({"w": Evil(eval, "1")}), "refused.*builtins.eval"),
    "a harmless function": (pickle.dumps({"w": Evil(len, "1")}), r"refused.*builtins\.len"),
    "an object array": (pickle.dumps({"w": np.array([{}])}), "values of type 'O8'"),
    "big-endian": (pickle.dumps({"w": np.ones(2, ">f4")}), "big-endian"),
    "a record": (pickle.dumps({"w": np.zeros(1, "f4,f4")}), "damaged"),
    "memory of a memo number": (b"\x80\x02Nr\xff\xff\xff\x7f.", "a NoneType, not a table"),
    "a deeply nested key": (deep_key(300_000), "a tuple is the name"),
    "a deeply nested list": (b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b".", "a list"),
    "itself": (b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.", "no named arrays"),
    "many names for one array": (many_names_for_one_array(), "share their values"),
    "many copies of a text": (MANY_ENCODES, "a list, not a table"),
    "out of the storage": (torch_zip(torch_pickle([5], [1])), "in a storage of 4 values"),
    "past its end": (torch_zip(torch_pickle([2], [1], offset=3)), "in a storage of 4"),
    "expanded": (torch_zip(torch_pickle([10**6, 10**6], [0, 0])), "in a storage of 4"),
    "negative stride": (torch_zip(torch_pickle([2], [-1], offset=3)), "offset of -1"),
    "negative offset": (torch_zip(torch_pickle([2], [1], offset=-2)), "offset of -2"),
    "negative size": (torch_zip(torch_pickle([-2, -2], [1, 1])), "offset of -2"),
    "overflowing size": (torch_zip(torch_pickle([2**62, 4], [0, 0])), "in a storage of 4"),
    "100 dimensions": (torch_zip(torch_pickle([1] * 100, [0] * 100)), "of 100 dimensions"),
    "no such storage": (torch_zip(torch_pickle([1], [1], key="../../etc/passwd")), "damaged.*etc"),
    "another length": (torch_zip(torch_pickle([1], [1], count=5)), "has 4 values, not 5"),
    "a complex storage": (torch_zip(torch_pickle([1], [1], kind="ComplexFloatStorage")), "refused"),
    "a storage name as a call": (torch_zip(b"\x80\x02ctorch\nFloatStorage\n)R."), "it calls"),
    "a pickle for a storage": (pickle.dumps({"w": 1}, 2)[:-1] + b"(tQ.", "outside the pickle"),
    "a state for a storage": (
        torch_zip(torch_pickle([1], [1])[:-2] + b"(K\x01K\x02tbs."), "state to a ndarray"
    ),
    "compressed torch": (
        torch_zip(torch_pickle([1], [1]), {"0": bytes(10**6)}, zipfile.ZIP_DEFLATED), "torch does"
    ),
    # Newer versions of zipfile find the overlap themselves.
    "members inside members": (overlapping_zip(), "members are larger than the file|verlap"),
    "a negated tensor": (
        torch_zip(torch_pickle([1], [1], metadata=b"}X\x03\0\0\0neg\x88s")), "negated"
    ),
    "a tensor in a tensor": (torch_zip(torch_pickle([2, 1], [2, 1], nest=1)), "inside a tensor"),
    "legacy of exabytes": (
        torch_legacy(torch_pickle([1], [1], count=2**60, view=b"N")), "larger than the file"
    ),
    "legacy of negative size": (
        torch_legacy(torch_pickle([1], [1], count=-1, view=b"N")), "larger than the file"
    ),
    "a storage in a storage": (
        torch_legacy(torch_pickle([1], [1], view=b"K\x01")), "before 0.4"
    ),
    "a wrong checksum": (
        (GOLDEN / "crc.ckpt").read_bytes().replace(b"\0\0\0\xbf", b"\0\0\0\x3f"), "checksum"
    ),
    "a zip bomb": (compressed_zeros(10**8), "would expand to 1000"),
    "a header of terabytes": (header_only((2**40,)), "cannot have the shape"),
    "negative npy shape": (header_only((-1, -1)), "damaged"),
    "objects in npz": (npz(w=np.array([{}])), "values of type object"),
    "texts in npz": (npz(w=np.array(["a"])), "values of type <U1"),
    "lzma in npz": (compressed_by(zipfile.ZIP_LZMA), "in a way that numpy does not use"),
    "safetensors of terabytes": (safetensors("[1099511627776]"), "damaged"),
    "mindspore with a huge length": (b"\x0a" + b"\xff" * 9 + b"\x01", "in the middle"),
    "mindspore without an end": (b"\x0a" + b"\xff" * 100, "more than ten bytes"),
    "a whole model": ((GOLDEN / "whole_model.pth").read_bytes(), "refused.*torch.nn.*Sequential"),
    "TorchScript": ((GOLDEN / "script.pt").read_bytes(), "refused: it is a TorchScript program"),
    "a web page": (b"<!DOCTYPE html><html>Not found</html>", "begins with b'<!DOCTYPE html"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid", "begins with b'version"),
    "nothing": (b"", r"\(0 bytes\)"),
    "no arrays": (pickle.dumps({"epoch": 3}), "no named arrays"),
    "tables without a choice": (
        pickle.dumps({k: {"w": np.ones(1)} for k in ("generator", "critic")}),
        "under 'generator', 'critic'",
    ),
}  # fmt: skip


READ_ALL = """
import json, resource, sys
from pathlib import Path
from ppcls_lite.weights.formats import read_weights
from ppcls_lite.errors import UserError
resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        read_weights(path)
    except UserError as error:
        print(json.dumps([path.name, str(error)]), flush=True)
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What is said about each hostile file.

    By a process with 1 GB of memory: what this guards against is a crash, or all the memory.
    """
    folder = tmp_path_factory.mktemp("hostile")
    for name, (data, _) in HOSTILE.items():
        (folder / name).write_bytes(data)
    done = run_tool("-c", READ_ALL, folder, timeout=60)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "owned" not in done.stdout.splitlines()
    return dict(json.loads(line) for line in done.stdout.splitlines())


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_and_unfit_files_are_refused_by_name(name, answers):
    assert f"/{name} " in answers[name]
    assert re.search(HOSTILE[name][1], answers[name]), answers[name]


def test_reading_needs_no_framework():
    code = (
        "import sys\nfrom ppcls_lite.weights.formats import read_weights\n"
        f"for name in {PLAIN}: read_weights(f'{GOLDEN}/{{name}}')\n"
        "sys.exit(sum(m in sys.modules for m in ('paddle', 'torch', 'mindspore')))"
    )
    assert run_tool("-c", code).returncode == 0


def test_folders_and_missing_files(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere.pth"):
        with pytest.raises(UserError, match="no weights file"):
            read_weights(path)


def test_a_folder_leads_to_the_weights_in_it(tmp_path):
    with pytest.raises(UserError) as caught:
        read_weights(tmp_path)
    assert caught.value.hint == f"ls {tmp_path}"
    for name in ("latest.pdparams", "best.pdparams", "best.json"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match="is a folder, no weights file") as caught:
        read_weights(tmp_path)
    assert caught.value.hint == f"--pretrained {tmp_path}/best.pdparams"


def samples():
    """Every golden file, and one each of the formats written here."""
    arrays = OrderedDict((k, np.array(v)) for k, v in tensors().items())
    yield from ((path.name, path.read_bytes()) for path in GOLDEN_FILES)
    yield from ((f"pickle{p}", pickle.dumps(arrays, p)) for p in (2, 4, 5))
    yield "npz", npz(**arrays)
    yield "compressed", compressed_zeros(100)


SAMPLES = dict(samples())


def read_or_refuse(path, data):
    """Reads bytes as a weights file: arrays or UserError, nothing else."""
    path.write_bytes(data)
    try:
        arrays = read_weights(path)
    except UserError as error:
        assert str(path) in error.message
        return False
    for name, array in arrays.items():
        assert isinstance(name, str) and array.dtype.kind in "biuf"
        array.sum()  # every value can be touched
    return True


@pytest.mark.parametrize("name", SAMPLES)
def test_truncated_anywhere(name, tmp_path):
    data = SAMPLES[name]
    step = max(1, len(data) // 200)
    for end in range(0, len(data) - 1, step):
        if read_or_refuse(tmp_path / "x", data[:end]):
            # Only protobuf, which has no end of its own, reads fewer tensors.
            assert name.endswith(".ckpt"), end


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_mutated_at_random(name, tmp_path):
    random = np.random.RandomState(zlib.crc32(name.encode()))
    for _ in range(300):
        data = bytearray(SAMPLES[name])
        for _ in range(random.randint(1, 4)):
            at = random.randint(len(data))
            kind = random.randint(4)
            if kind == 0:
                data[at] = random.randint(256)
            elif kind == 1:
                data[at] ^= 1 << random.randint(8)
            elif kind == 2:
                del data[at : at + random.randint(1, 9)]
            else:
                other = random.randint(len(data))
                data[at:at] = data[other : other + random.randint(1, 40)]
        read_or_refuse(tmp_path / "x", bytes(data))
