"""--track: what the trackers' own readers find is what metrics.jsonl holds; a resume goes on."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT, TINY_FLAGS, train

from ppcls_lite.engine.log import RunLog
from ppcls_lite.engine.settings import TrainConfig
from ppcls_lite.engine.tracking import numbers, tracker
from ppcls_lite.errors import UserError


def written(folder):
    """Of metrics.jsonl: step and value of each number, by the curves' names."""
    found = {}
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        for name, value in numbers(record["event"], record).items():
            found.setdefault(name, []).append((record["step"], value))
    return found


def in_tensorboard(folder):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    return {
        tag: [(e.step, make_ndarray(e.tensor_proto).item()) for e in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
    }


def in_mlflow(folder):
    mlflow = pytest.importorskip("mlflow")
    client = mlflow.MlflowClient((folder.resolve() / "mlruns").as_uri())
    (experiment,) = [e for e in client.search_experiments() if e.name == "ppcls_lite"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED" and run.data.params["lr"] == "0.02"
    return {
        name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }


READERS = {"tensorboard": in_tensorboard, "mlflow": in_mlflow}


@pytest.mark.parametrize("name", READERS)
def test_a_run_and_its_resume_are_one_run_of_the_tracker(pictures, tmp_path, name, monkeypatch):
    pytest.importorskip(name)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # for the reader here
    for flags in (["--epochs=1"], ["--epochs=2", "--resume=auto"]):
        done = train(pictures, tmp_path / "run", f"--track={name}", *flags)
        assert done.returncode == 0, done.stderr
    found, expected = READERS[name](tmp_path / "run"), written(tmp_path / "run")
    assert set(found) == set(expected) and "train/loss" in found and "eval/top1" in found
    for curve, points in expected.items():
        assert [step for step, _ in found[curve]] == [step for step, _ in points]
        values = [value for _, value in points]
        assert [value for _, value in found[curve]] == pytest.approx(values, rel=1e-6)


def test_weights_and_biases_goes_on_offline_with_the_same_id(tmp_path):
    pytest.importorskip("wandb")
    ids = set()
    for step in (1, 2):
        log = RunLog(tmp_path, track=tracker("wandb", TrainConfig()))
        log.record("train", step, {"loss": 0.5})
        log.close()
        ids |= {path.suffix or path.name.rpartition("-")[2]
                for path in (tmp_path / "wandb").glob("offline-run-*")}  # fmt: skip
    assert ids == {(tmp_path / "wandb_run").read_text()}


def test_a_missing_package_is_told_before_anything_is_trained(monkeypatch, tmp_path):
    for name, module, package in (
        ("tensorboard", "tensorboard.summary", "tensorboard"),
        ("mlflow", "mlflow", "mlflow-skinny"),
        ("wandb", "wandb", "wandb"),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(UserError) as told:
            RunLog(tmp_path, track=tracker(name, TrainConfig()))
        assert told.value.hint == f"pip install {package}"
    RunLog(tmp_path, enabled=False, track=tracker("wandb", TrainConfig())).close()  # another rank


def test_a_tracker_that_fails_does_not_end_the_run(tmp_path, capsys):
    class Broken:
        def __call__(self, values, step):
            raise RuntimeError("its disk is full")

    log = RunLog(tmp_path, track=lambda folder: Broken())
    for step in (1, 2):
        log.record("train", step, {"loss": 0.5})
    log.close()
    assert capsys.readouterr().out.count("its disk is full; the run goes on") == 1
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_training_imports_nothing_of_what_no_flag_asks_for(pictures, tmp_path):
    """Not the trackers, not the page of --report, not what projections and galleries may use."""
    others = {"tensorboard", "mlflow", "wandb", "visualdl", "jinja2", "umap", "faiss", "pyarrow"}
    code = (
        "import runpy, sys\n"
        "try: runpy.run_path('train.py', run_name='__main__')\n"
        f"finally: print('imported:', sorted({others} & set(sys.modules)))\n"
    )
    flags = ["--epochs=1", "--workers=0", *TINY_FLAGS]
    argv = [sys.executable, "-c", code, f"--data-path={pictures}", f"--output-dir={tmp_path}"]
    done = subprocess.run([*argv, *flags], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "best.pdparams").is_file() and done.stdout.endswith("imported: []\n")
