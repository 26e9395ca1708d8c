"""A temperature against the one that made the labels, and the error against a count by hand."""

import json
import shutil

import numpy as np
import pytest
from conftest import run_tool, same_weights, train

from ppcls_lite.data.dataset import open_split
from ppcls_lite.deploy.predictor import Predictor
from ppcls_lite.engine.calibration import fit_temperature
from ppcls_lite.engine.checkpoint import load_checkpoint
from ppcls_lite.engine.finish import finish_checkpoint
from ppcls_lite.metric import calibration_error, confidence_bins
from ppcls_lite.weights.formats import read_weights


def test_the_temperature_that_drew_the_labels_is_found():
    draws = np.random.default_rng(0)
    logits = 2 * draws.standard_normal((20_000, 5))
    labels = (logits + draws.gumbel(size=logits.shape)).argmax(axis=1)  # a draw of softmax(logits)
    assert fit_temperature(logits, labels) == pytest.approx(1, abs=0.03)
    assert fit_temperature(3 * logits, labels) == pytest.approx(3, abs=0.09)
    right, sure = (confidence_bins(k * logits, labels) for k in (1, 3))
    assert calibration_error(right) < 0.02 < 0.1 < calibration_error(sure)


def test_the_error_counted_by_hand():
    logits = np.log(np.array([[0.9, 0.1], [0.9, 0.1], [0.7, 0.3], [0.3, 0.7]]))
    # in the bin of 0.9 one of two is right, in the bin of 0.7 both are
    assert calibration_error(confidence_bins(logits, np.array([0, 1, 0, 1]))) == pytest.approx(0.35)


def test_few_pictures_without_a_mistake_do_not_make_certain():
    logits, labels = np.array([[2.0, 0.0], [0.0, 2.0]]), np.array([0, 1])
    assert 0.4 < fit_temperature(logits, labels) < 1
    assert fit_temperature(np.repeat(logits, 500, axis=0), np.repeat(labels, 500)) < 0.3


@pytest.fixture(scope="module")
def runs(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrated")
    flags = ("--epochs=2", "--model-ema", "--model-ema-rule=plain", "--model-ema-decay=0.5")
    both = (("a", ("--calibrate", "--unknown")), ("b", ()))
    done = [train(pictures, folder / name, *flags, *own) for name, own in both]
    assert not any(x.returncode for x in done), done[0].stderr
    return folder / "a", folder / "b", done[0].stdout


def test_best_is_calibrated_in_a_file_of_its_own(runs, pictures):
    out, plain, said = runs
    assert same_weights(out / "latest.pdparams", plain / "latest.pdparams")
    state = json.loads((out / "best.json").read_text())
    report = state["calibration"]
    assert report["after"]["nll"] < report["before"]["nll"]
    assert f"before calibration: NLL {report['before']['nll']:.4f}" in said
    before, after = (read_weights(x / "best.pdparams") for x in (plain, out))
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"classifier.3.weight", "classifier.3.bias"}
    for name in changed:
        np.testing.assert_allclose(after[name] * report["temperature"], before[name], rtol=1e-6)
    assert "calibration" not in json.loads((plain / "best.json").read_text())
    # An evaluation of the file has the loss that was said.
    tested = run_tool("tools/validate.py", f"--data-path={pictures}", "--device=cpu",
                      f"--pretrained={out / 'best.pdparams'}", "--workers=0")  # fmt: skip
    assert f"({report['after']['nll']:.4f})" in tested.stdout, tested.stderr


def test_what_resumes_from_a_calibrated_file_goes_on_as_trained(runs, pictures):
    out, plain, _ = runs
    ours, theirs = (load_checkpoint(x / "best.pdparams") for x in (out, plain))
    for a, b in (
        (ours.params, theirs.params),  # the moving average
        (ours.trained, theirs.trained),
        (ours.accumulators, theirs.accumulators),
    ):
        assert a.keys() == b.keys()
        assert all(np.array_equal(a[name], b[name]) for name in a)
    sets = [open_split(str(pictures), split) for split in ("train", "val")]
    assert not list(finish_checkpoint(out / "best.pdparams", *sets, True, True))  # once is enough


def test_best_has_limits_that_keep_the_validation_pictures_known(runs, pictures):
    out, plain, said = runs
    report = json.loads((out / "best.json").read_text())["unknown"]
    files = sorted((pictures / "val").glob("*/*"))
    answers = Predictor(out / "best.pdparams")(files)
    known = np.mean([not answer.unknown for answer in answers])
    assert len(files) == report["pictures"] >= 20
    # 0.95 of them: one of 20 to 39 is left out.
    assert known == report["kept"] == 1 - 1 / len(files)
    assert f"unknown: {known:.4f} of {len(files)} images stay known" in said
    assert Predictor(plain / "best.pdparams")(files[:1])[0].unknown is None
    # The run goes on from it as if it had none.
    done = train(pictures, out.parent / "c", f"--resume={out / 'best.pdparams'}", "--epochs=2")
    assert done.returncode == 0, done.stderr


def test_too_few_validation_pictures_give_no_limits(runs, pictures, tmp_path):
    shutil.copytree(runs[1], tmp_path / "b")
    train_set, val = (open_split(str(pictures), split) for split in ("train", "val"))
    path = tmp_path / "b/best.pdparams"
    (line,) = finish_checkpoint(path, train_set, val.subset(np.arange(19)), False, True)
    assert "19 validation images" in line
    assert Predictor(path)(sorted((pictures / "val").glob("*/*"))[:1])[0].unknown is None
