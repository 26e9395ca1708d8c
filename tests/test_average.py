"""tools/average_checkpoints.py: the mean, from files to a checkpoint that predicts."""

import json
import shutil

import numpy as np
from conftest import run_tool

from ppcls_lite.weights.formats import read_weights


def average(*flags):
    return run_tool("tools/average_checkpoints.py", *flags)


def test_the_mean_of_checkpoints_can_be_evaluated_at_once(straight, pictures, tmp_path):
    run, _ = straight
    out = tmp_path / "mean.pdparams"
    names = [run / f"model_{i}.pdparams" for i in (1, 2, 3)]
    done = average(f"{run}/model_[12].pdparams,{run}/model_3.pdparams", f"--out={out}")
    assert done.returncode == 0, done.stderr
    states = [read_weights(name) for name in names]
    for name, values in read_weights(out).items():
        mean = np.mean([s[name].astype(np.float64) for s in states], axis=0)
        assert values.dtype == np.float32 and np.array_equal(values, mean.astype(np.float32)), name
    twin, before = (json.loads(p.with_suffix(".json").read_text()) for p in (out, names[0]))
    assert twin["averaged"] == [str(name) for name in names]
    assert [twin[k] for k in ("model", "classes", "preprocess") if k in twin] == [
        before[k] for k in ("model", "classes", "preprocess") if k in before
    ]
    assert not out.with_suffix(".pdopt").exists()
    tested = run_tool("train.py", "--test-only", f"--pretrained={out}", f"--data-path={pictures}")
    assert tested.returncode == 0 and "Acc@1" in tested.stdout, tested.stderr


def test_second_names_other_networks_and_missing_files_are_refused(straight, tmp_path):
    run, _ = straight
    twice = average(f"{run}/model_3.pdparams,{run}/latest.pdparams", f"--out={tmp_path}/a.pdparams")
    assert twice.returncode == 2 and "is the same checkpoint as" in twice.stderr
    for suffix in (".pdparams", ".json"):
        shutil.copy(run / f"model_0{suffix}", tmp_path / f"other{suffix}")
    twin = tmp_path / "other.json"
    twin.write_text(twin.read_text().replace('"red"', '"pink"'))
    mixed = average(
        f"{run}/model_3.pdparams,{tmp_path}/other.pdparams", f"--out={tmp_path}/a.pdparams"
    )
    assert mixed.returncode == 2 and "other classes" in mixed.stderr
    gone = average(f"{run}/model_9.pdparams", f"--out={tmp_path}/a.pdparams")
    assert gone.returncode == 2 and "no such file" in gone.stderr
    assert not list(tmp_path.glob("a.*"))
