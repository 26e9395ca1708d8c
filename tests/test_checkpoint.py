"""Checkpoints: atomic against SIGKILL, refused when malicious or damaged, read without pickle."""

import contextlib
import errno
import io
import itertools
import json
import os
import pickle
import signal

import numpy as np
import paddle
import pytest

from ppcls_lite import create_model
from ppcls_lite.engine import checkpoint
from ppcls_lite.engine.checkpoint import Progress
from ppcls_lite.errors import UserError
from ppcls_lite.files import FileContent
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.weights.description import read_description, save_weights
from ppcls_lite.weights.find import find_weights
from ppcls_lite.weights.formats import read_weights
from ppcls_lite.weights.load import load_weights

INFO = ModelInfo("mobilenet_v3_small", 3, {"width": 0.5}, ("a", "b", "c"))
EXTRA = {"config": {}, "metrics": {}}


def save(folder, epoch, value):
    """Saves an epoch as the trainer does: model_<epoch>, then its other names."""
    path = folder / f"model_{epoch}.pdparams"
    params = {"w": paddle.full([300], float(value)), "b": paddle.full([2], float(value))}
    optimizer = {"w.velocity_0": np.full(300, value, np.float32)}
    progress = Progress(epoch=epoch + 1, best_score=0.5, seed=7)
    checkpoint.save_checkpoint(path, params, optimizer, INFO, progress, EXTRA)
    checkpoint.link_checkpoint(path, folder / "best.pdparams")
    checkpoint.link_checkpoint(path, folder / "latest.pdparams")


def test_everything_comes_back(tmp_path):
    save(tmp_path, 4, 1.5)
    for name in ("model_4", "best", "latest"):
        read = checkpoint.load_checkpoint(tmp_path / f"{name}.pdparams")
        assert read.info == INFO
        assert read.progress == Progress(epoch=5, best_score=0.5, seed=7)
        assert (read.params["w"] == 1.5).all() and (read.optimizer["w.velocity_0"] == 1.5).all()


def test_the_earlier_name_of_the_batching_is_still_read(tmp_path):
    save(tmp_path, 0, 1.0)
    description = tmp_path / "latest.json"
    state = json.loads(description.read_bytes())
    del state["progress"]["batching"]
    state["progress"]["layout"] = "12 pictures, batches of 4 x 1, 1 accumulated"
    description.unlink()  # it is a link to that of model_0
    description.write_text(json.dumps(state))
    read = checkpoint.load_checkpoint(tmp_path / "latest.pdparams")
    assert read.progress.batching == "12 pictures, batches of 4 x 1, 1 accumulated"


def test_paddles_own_loader_reads_the_files(tmp_path):
    save(tmp_path, 0, 2.0)
    assert (paddle.load(str(tmp_path / "latest.pdparams"))["w"].numpy() == 2).all()
    assert (np.asarray(paddle.load(str(tmp_path / "latest.pdopt"))["w.velocity_0"]) == 2).all()


def test_files_of_paddle_save_with_their_name_table_load(tmp_path):
    layer = paddle.nn.Linear(3, 2)
    paddle.save(layer.state_dict(), str(tmp_path / "plain.pdparams"))
    assert set(read_weights(tmp_path / "plain.pdparams")) == {"weight", "bias"}


def test_other_names_take_no_second_copy(tmp_path):
    save(tmp_path, 0, 1.0)
    inodes = {os.stat(tmp_path / f"{n}.pdparams").st_ino for n in ("model_0", "best", "latest")}
    assert len(inodes) == 1


def stop(folder, epoch, value):
    """Saves inside an epoch, as a stop does."""
    params = {"w": paddle.full([300], float(value)), "b": paddle.full([2], float(value))}
    optimizer = {"w.velocity_0": np.full(300, value, np.float32)}
    progress = Progress(epoch=epoch, batch=value, seed=7)
    checkpoint.save_checkpoint(folder / "latest.pdparams", params, optimizer, INFO, progress, EXTRA)


def convert(folder, value):
    """Writes weights to use, as convert_weights does."""
    save_weights(folder / "w.pdparams", {"w": np.full(300, value, "f4")}, INFO)


def fail_at(number, how):
    """Makes the n-th system call that changes a name fail; how: SIGKILL before it, or ENOSPC.

    Returns a list that grows by each such call.
    """
    calls = []

    def counted(function, changes=lambda *a, **k: True):
        def call(*arguments, **options):
            if changes(*arguments, **options):
                calls.append(function.__name__)
                if len(calls) == number and how == "SIGKILL":
                    os.kill(os.getpid(), signal.SIGKILL)
                if len(calls) >= number and how == "ENOSPC" and function is not unlink:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return function(*arguments, **options)

        return call

    unlink = os.unlink
    for name in ("replace", "link", "unlink"):
        setattr(os, name, counted(getattr(os, name)))
    io.open = counted(io.open, lambda file, mode="r", *a, **k: "w" in mode)
    return calls


def after_fault(number, how, work):
    """Runs `work` in a child in which the n-th change of a name fails; False when none is left."""
    child = os.fork()
    if child == 0:
        calls = fail_at(number, how)
        try:
            work()
        except OSError as error:
            os._exit(1 if error.errno == errno.ENOSPC else 2)
        os._exit(3 if len(calls) < number else 1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (-signal.SIGKILL, 1, 3)
    return code != 3


# What is there before, the save that is hit, and the values of the checkpoint afterwards.
SAVES = {
    "the first stop": (lambda f: None, lambda f: stop(f, 0, 2), {None, 2}),
    "a second stop": (lambda f: stop(f, 0, 1), lambda f: stop(f, 0, 2), {1, 2}),
    "a third after a first epoch": (
        lambda f: (save(f, 0, 1), stop(f, 1, 2)), lambda f: stop(f, 1, 3), {2, 3}),
    "an epoch and its names": (lambda f: save(f, 0, 1), lambda f: save(f, 1, 2), {1, 2}),
}  # fmt: skip


@pytest.mark.parametrize("how", ["SIGKILL", "ENOSPC"])
@pytest.mark.parametrize("saves", SAVES.values(), ids=SAVES)
def test_a_fault_at_any_change_of_a_name_leaves_the_old_checkpoint_or_the_new(tmp_path, saves, how):
    before, hit, allowed = saves
    seen = set()
    for number in itertools.count(1):
        folder = tmp_path / str(number)
        folder.mkdir()
        before(folder)
        more = after_fault(number, how, lambda: hit(folder))  # noqa: B023
        found, _ = checkpoint.newest_checkpoint(folder)
        value = found and float(found.params["w"][0])
        seen.add(value)
        if found:
            assert (found.params["w"] == value).all()
            assert (found.optimizer["w.velocity_0"] == value).all()
        for weights in folder.glob("*.pdparams"):  # every visible file is whole
            assert len(set(read_weights(weights)["w"].tolist())) == 1
        if how == "ENOSPC" or not more:  # nothing is left behind; a kill's leftovers go next time
            checkpoint.finish_saves(folder)
            stop(folder, 7, 9)
            assert not list(folder.glob(".*")) and not list(folder.glob("*.saving.*"))
        if not more:
            break
    assert number > 6 and seen == allowed


@pytest.mark.parametrize("how", ["SIGKILL", "ENOSPC"])
def test_a_fault_while_weights_are_replaced_leaves_the_old_or_the_new(tmp_path, how):
    for number in itertools.count(1):
        folder = tmp_path / str(number)
        folder.mkdir()
        convert(folder, 1)
        more = after_fault(number, how, lambda: convert(folder, 2))  # noqa: B023
        whole = []
        for path in folder.glob("*.pdparams"):
            with contextlib.suppress(UserError):
                if read_description(FileContent(path)):  # and it belongs to the weights
                    whole.append(float(read_weights(path)["w"][0]))
        assert whole and set(whole) <= {1.0, 2.0}
        if not more:
            break
    assert number > 6 and whole == [2.0]


def test_resuming_by_name_takes_the_save_that_was_interrupted(tmp_path):
    stop(tmp_path, 0, 1)
    for number in itertools.count(1):
        if not after_fault(number, "SIGKILL", lambda: stop(tmp_path, 0, 2)):
            break
        checkpoint.finish_saves(tmp_path)
        found = checkpoint.load_checkpoint(tmp_path / "latest.pdparams")
        assert not list(tmp_path.glob("*.saving.*"))
        assert found.path.name == "latest.pdparams" and found.params["w"][0] in (1, 2)
        stop(tmp_path, 0, 1)


def test_truncated_newest_is_named_and_the_one_before_is_used(tmp_path):
    save(tmp_path, 0, 1.0)
    save(tmp_path, 1, 2.0)
    for name in ("model_1", "latest", "best"):
        path = tmp_path / f"{name}.pdparams"
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data[:100])
    found, passed_over = checkpoint.newest_checkpoint(tmp_path)
    assert found.path.name == "model_0.pdparams" and (found.params["w"] == 1).all()
    assert any("model_1.pdparams" in m and "damaged" in m for m in passed_over)


def test_files_of_two_checkpoints_are_not_mixed(tmp_path):
    save(tmp_path, 0, 1.0)
    save(tmp_path, 1, 2.0)
    os.replace(tmp_path / "model_0.pdparams", tmp_path / "model_1.pdparams")
    with pytest.raises(UserError, match="do not belong together"):
        checkpoint.load_checkpoint(tmp_path / "model_1.pdparams")


def test_an_empty_folder_has_no_checkpoint(tmp_path):
    assert checkpoint.newest_checkpoint(tmp_path) == (None, [])


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("suffix", [".pdparams", ".pdopt"])
def test_a_malicious_pickle_is_refused_and_does_nothing(tmp_path, suffix):
    save(tmp_path, 0, 1.0)
    path = tmp_path / f"model_0{suffix}"
    path.unlink()
    path.write_bytes(pickle.dumps({"w": Malicious(tmp_path / "owned")}))
    twin = tmp_path / "model_0.json"
    state = json.loads(twin.read_text())
    state["sha256"][suffix[1:]] = checkpoint.file_sha256(path)
    twin.unlink()
    twin.write_text(json.dumps(state))
    with pytest.raises(UserError, match=r"refused: it asks to run posix\.system"):
        checkpoint.load_checkpoint(tmp_path / "model_0.pdparams")
    assert not (tmp_path / "owned").exists()
    # The attack is real: Paddle's own loader runs it.
    paddle.load(str(path))
    assert (tmp_path / "owned").exists()


class ObjectDtype:
    """A dtype whose state drops the mark that its values are Python objects."""

    def __reduce__(self):
        return np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 0)


class PointerArray:
    def __reduce__(self):
        reconstruct = np._core.multiarray._reconstruct
        return reconstruct, (np.ndarray, (0,), b"b"), (1, (1,), ObjectDtype(), False, b"AAAAAAAA")


def test_bytes_cannot_become_object_pointers(tmp_path):
    """With numpy's own dtype this file loads, and touching its element reads memory at will."""
    path = tmp_path / "evil.pdparams"
    path.write_bytes(pickle.dumps({"w": PointerArray()}, 4))
    with pytest.raises(UserError, match=r"it holds values of type .O8"):
        read_weights(path)


def test_flipped_bytes_never_do_more_than_be_refused(tmp_path):
    save(tmp_path, 0, 1.0)
    good = bytearray((tmp_path / "model_0.pdopt").read_bytes())
    draws, path = np.random.RandomState(0), tmp_path / "flipped.pdopt"
    for _ in range(300):
        data = bytearray(good)
        for place in draws.randint(0, len(good), 3):
            data[place] = draws.randint(256)
        path.write_bytes(data)
        try:
            assert isinstance(read_weights(path), dict)
        except UserError as error:
            assert "flipped.pdopt" in str(error)


@pytest.mark.parametrize("data", [b"", b"hello", pickle.dumps([1, 2]), pickle.dumps({"w": 1})[:9]])
def test_what_is_no_weights_file_is_named(tmp_path, data):
    path = tmp_path / "x.pdparams"
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"x\.pdparams"):
        read_weights(path)


def test_bare_weights_tell_their_class_count(tmp_path):
    state = create_model("mnasnet0_5", 11).state_dict()
    paddle.save(dict(sorted(state.items())), str(tmp_path / "bare.pdparams"))  # no head at its end
    info = find_weights(tmp_path / "bare.pdparams", "mnasnet0_5").info
    assert (info.name, info.num_classes, info.classes) == ("mnasnet0_5", 11, ())
    with pytest.raises(UserError, match=r"bare\.pdparams and the model differ") as caught:
        _ = find_weights(tmp_path / "bare.pdparams", "mnasnet1_0").info
    assert caught.value.hint == "--model mnasnet0_5"
    with pytest.raises(UserError, match=r"no bare\.json"):
        checkpoint.load_checkpoint(tmp_path / "bare.pdparams")


def network(classes):
    return paddle.nn.Sequential(paddle.nn.Linear(4, 5), paddle.nn.Linear(5, classes))


def test_only_a_head_of_another_class_count_may_start_fresh():
    arrays = {k: v.numpy() for k, v in network(3).state_dict().items()}
    model = network(7)
    with pytest.raises(
        UserError, match=r"shape +1\.weight \(5, 3\), the model has \(5, 7\)"
    ) as caught:
        load_weights(model, arrays)
    assert caught.value.hint == "--num-classes 3"
    report = load_weights(model, arrays, replace_head=True)
    assert report.reinitialised == ("1.weight", "1.bias")
    assert (model[0].weight.numpy() == arrays["0.weight"]).all()
    # The logits of the fresh head are near 0: no class is preferred, the first loss is ln(K).
    assert 0 < np.abs(model[1].weight.numpy()).max() < 0.06  # six of its standard deviations
    assert (model[1].bias.numpy() == 0).all()


def test_mismatches_are_a_table_with_the_nearest_names():
    arrays = {k: v.numpy() for k, v in network(3).state_dict().items()}
    arrays["0.wieght"] = arrays.pop("0.weight")
    for replace_head in (False, True):
        with pytest.raises(UserError) as caught:
            load_weights(network(3), arrays, replace_head=replace_head)
        assert "missing     0.weight (4, 5); did you mean 0.wieght?" in caught.value.message
        assert "unexpected  0.wieght (4, 5); did you mean 0.weight?" in caught.value.message
