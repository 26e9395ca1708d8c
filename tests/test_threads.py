"""One Predictor, many threads: whose answer is it?

    python -m pytest tests/test_threads.py --answers 2500

asks each of the four engines 2,500 times, 10,000 in all.
"""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image
from small_checkpoint import SPEC, trained_probabilities

from ppcls_lite.deploy.predictor import Predictor
from ppcls_lite.pool import Pool

THREADS = 16
# fp32 engines differ in the order of their sums; the export check allows as much.
CLOSE = 1e-5
FILES = {
    "dygraph": ["best.pdparams"],
    "paddle_inference": ["all/inference.pdmodel", "all/inference.json"],
    "onnxruntime": ["all/inference.onnx"],
    "openvino": ["all/inference.onnx", "all/inference.pdmodel"],
}


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    grids = np.random.RandomState(5).randint(0, 256, (8, 6, 8, 3)).astype(np.uint8)
    images = [Image.fromarray(g).resize((96, 80), Image.Resampling.BICUBIC) for g in grids]
    return [np.asarray(image) for image in images]


@pytest.mark.parametrize("engine", FILES)
def test_sixteen_threads_each_get_the_answers_to_their_own_pictures(
    exported, pictures, engine, tmp_path, request
):
    if engine == "openvino" and find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    images = SPEC([Image.fromarray(picture) for picture in pictures])
    expected = trained_probabilities(exported.parent, images)  # [N, K]
    apart = np.abs(expected[:, None] - expected[None]).max(axis=2) + np.eye(len(pictures))
    assert apart.min() > 100 * CLOSE  # a mixed-up answer shows

    answers = request.config.getoption("--answers") // len(FILES[engine])
    for file in FILES[engine]:
        shutil.copytree(exported.parent, tmp_path, dirs_exist_ok=True)
        predictor = Predictor(tmp_path / file, engine, "cpu")
        shutil.rmtree(tmp_path)  # what is loaded must not depend on files that may be replaced

        def wrong(number: int, predictor: Predictor = predictor) -> int:
            # One to three pictures: a shape of the input that another thread did not ask for.
            asked = [(number + i) % len(pictures) for i in range(1 + number % 3)]
            rankings = predictor([pictures[i] for i in asked], topk=10)
            given = np.zeros((len(asked), 10))
            for row, ranking in zip(given, rankings, strict=True):
                row[[p.class_id for p in ranking]] = [p.prob for p in ranking]
            return int((np.abs(given - expected[asked]).max(axis=1) > CLOSE).sum())

        with ThreadPoolExecutor(THREADS) as pool:
            assert sum(pool.map(wrong, range(answers))) == 0


def test_a_thread_alone_is_lent_the_same_item_every_time():
    pool = Pool("first", lambda: pytest.fail("nobody else asked"), 4)
    for _ in range(3):
        with pool.one() as item:
            assert item == "first"


def test_no_item_is_lent_twice_and_there_are_never_more_than_the_most():
    made = iter(range(1, 100))
    pool = Pool(0, lambda: next(made), 3)
    lent: list[int] = []
    meeting = threading.Barrier(3)  # three at a time must be possible, or it breaks

    def use(_: int) -> None:
        with pool.one() as item:
            assert item not in lent
            lent.append(item)
            meeting.wait(60)
            lent.remove(item)
            meeting.wait(60)

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(use, range(12)))
    assert next(made) == 3  # 0, 1 and 2 were enough


def test_an_item_comes_back_after_an_error_and_a_failed_make_takes_no_place():
    failures = [RuntimeError("no memory"), RuntimeError("no memory")]

    def make() -> str:
        if failures:
            raise failures.pop()
        return "second"

    pool = Pool("first", make, 2)
    with pytest.raises(ValueError), pool.one():
        raise ValueError
    for _ in range(2):
        with pool.one() as item, pytest.raises(RuntimeError), pool.one():
            pass
        assert item == "first"
    with pool.one() as one, pool.one() as other:
        assert {one, other} == {"first", "second"}
