"""Repeated augmentation against timm's sampler (golden/make_order_golden.py), and in a run."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import same_weights, start, train, wait_for

from ppcls_lite.data.dataset import open_split
from ppcls_lite.data.loader import Loader
from ppcls_lite.data.order import samples_per_rank, training_order
from ppcls_lite.data.transforms import TrainTransform

GOLDEN = json.loads((Path(__file__).parent / "golden" / "order_golden.json").read_text())


def test_each_rank_takes_the_samples_of_timms_sampler():
    assert len(GOLDEN) == 90
    for case in GOLDEN:
        place = {key: case[key] for key in ("count", "world_size", "reps")}
        order, repetitions = training_order(
            case["count"], 5, 3, case["rank"], case["world_size"], case["reps"]
        )
        assert len(order) == len(repetitions) == case["length"] == samples_per_rank(**place)
        digest = hashlib.sha256(np.ascontiguousarray(order).tobytes()).hexdigest()[:12]
        assert digest == case["sha256"], case


def test_over_all_ranks_a_sample_has_every_repetition_once():
    parts = [training_order(512, 1, 0, rank, 2, 3) for rank in range(2)]
    shown = {(i, r) for order, reps in parts for i, r in zip(order, reps, strict=True)}
    assert len(shown) == 512 and {r for _, r in shown} == {0, 1, 2}
    assert len({i for i, _ in shown}) == pytest.approx(512 / 3, abs=1)


@pytest.mark.parametrize("workers", [0, 2])
def test_repetitions_look_different_and_the_same_whatever_the_workers(pictures, workers):
    data = open_split(str(pictures), "train")
    batches = []
    for count in (0, workers):
        loader = Loader(data, TrainTransform(24), 6, training=True, workers=count, seed=3, reps=3)
        batches.append(list(loader.epoch(1)))
        assert len(batches[-1]) == len(loader) == 7
        loader.close()
    for one, other in zip(*batches, strict=True):
        assert np.array_equal(one.images, other.images)
        assert len(set(one.indices)) == 2 and len({i.tobytes() for i in one.images}) == 6


def test_a_stopped_run_with_repetitions_resumes_to_the_same_bits(pictures, tmp_path):
    flags = ["--ra-reps=3", "--epochs=1", "--auto-augment=ra_timm", "--random-erase=0.5",
             "--random-erase-mode=pixel", "--color-jitter=0.4,0.4,0.4,0.1"]  # fmt: skip
    done = train(pictures, tmp_path / "straight", *flags)
    assert done.returncode == 0, done.stderr
    process = start(pictures, tmp_path / "stopped", *flags, "--print-freq=1")
    wait_for(process, "[Epoch 0, iter: 2]")
    process.terminate()
    process.communicate(timeout=60)
    again = train(pictures, tmp_path / "stopped", "--resume=auto")
    assert again.returncode == 0, again.stderr
    assert same_weights(*(tmp_path / f"{run}/model_0.pdparams" for run in ("straight", "stopped")))
