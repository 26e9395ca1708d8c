"""Counting hits: by hand, by definition, and against Paddle's own metric."""

import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import paddle
import pytest
from PIL import Image

from ppcls_lite.metric import Accuracy, cross_entropy, label_rank, wilson
from ppcls_lite.model_info import ModelInfo
from ppcls_lite.report import metric_lines, write_confusion_matrix


def test_rank_of_the_label_counted_by_hand():
    logits = np.array([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [3.0, 1.0, 2.0]])
    assert label_rank(logits, np.array([0, 1, 2])).tolist() == [0, 2, 1]


def test_equal_scores_cannot_all_be_right():
    logits = np.zeros((4, 4))
    assert label_rank(logits, np.arange(4)).tolist() == [0, 1, 2, 3]


def test_a_score_that_is_no_number_is_never_a_hit():
    accuracy = Accuracy(3)
    accuracy.add(np.full((2, 3), np.nan), np.array([0, 1]))
    assert (accuracy.count, accuracy.top1_hits, accuracy.top5_hits) == (2, 0, 2)
    assert label_rank(np.full((1, 9), np.nan), np.array([0])).tolist() == [9]


def test_top_k_and_loss_agree_with_paddle():
    draws = np.random.RandomState(0)
    logits = draws.standard_normal((200, 12)).astype(np.float32)
    labels = draws.randint(0, 12, 200)
    accuracy = Accuracy(12)
    accuracy.add(logits[:120], labels[:120])
    accuracy.add(logits[120:], labels[120:])
    tensors = paddle.to_tensor(logits), paddle.to_tensor(labels[:, None])
    for k, ours in ((1, accuracy.top1), (5, accuracy.top5)):
        assert ours == pytest.approx(paddle.metric.accuracy(*tensors, k=k).item(), abs=1e-7)
    theirs = paddle.nn.functional.cross_entropy(tensors[0], tensors[1].squeeze(1)).item()
    assert accuracy.loss == pytest.approx(theirs, rel=1e-6)  # theirs is a float32 mean


def test_loss_survives_huge_logits():
    loss = cross_entropy(np.array([[1000.0, 0.0]], np.float32), np.array([1]))
    assert loss.tolist() == [1000.0]


def test_with_fewer_than_five_classes_every_picture_is_in_the_top_five():
    accuracy = Accuracy(3)
    accuracy.add(np.eye(3), np.array([1, 2, 0]))
    assert (accuracy.top1, accuracy.top5) == (0.0, 1.0)


def test_confusion_rows_are_the_true_classes():
    accuracy = Accuracy(3)
    accuracy.add(np.eye(3)[[0, 1, 1, 2]], np.array([0, 0, 1, 1]))  # predicted 0 1 1 2
    assert accuracy.confusion().tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 0]]
    assert accuracy.per_class()[:2].tolist() == [0.5, 0.5]
    assert np.isnan(accuracy.per_class()[2])


def test_counts_of_two_ranks_add_up_to_the_whole():
    draws = np.random.RandomState(1)
    logits, labels = draws.standard_normal((31, 7)), draws.randint(0, 7, 31)
    whole, ranks = Accuracy(7), [Accuracy(7), Accuracy(7)]
    whole.add(logits, labels)
    for rank in (0, 1):
        ranks[rank].add(logits[rank::2], labels[rank::2])
    both = over_all(ranks)
    for total in both:  # every rank knows the sum
        assert (total.count, total.top1_hits, total.top5_hits) == (31, *hits(logits, labels))
        assert total.loss == pytest.approx(whole.loss, rel=1e-12)  # order of a float64 sum
        assert total.pairs == whole.pairs
        np.testing.assert_allclose(total.bins, whole.bins, rtol=1e-12)
        assert total.confusion().tolist() == confusion_matrix(labels, logits.argmax(1)).tolist()


def hits(logits, labels):
    best = np.argsort(-logits, axis=1, kind="stable")
    return [int((best[:, :k] == labels[:, None]).any(axis=1).sum()) for k in (1, 5)]


def confusion_matrix(labels, predicted, k=7):
    return np.bincount(labels * k + predicted, minlength=k * k).reshape(k, k)


def over_all(ranks):
    """`over_ranks` of several processes, in threads that meet at every sum."""
    slots = [None] * len(ranks)
    barrier = threading.Barrier(len(ranks))

    def run(rank):
        def total(values):
            slots[rank] = values
            barrier.wait()
            summed = np.sum(slots, axis=0)
            barrier.wait()
            return summed

        return ranks[rank].over_ranks(total, rank, len(ranks))

    with ThreadPoolExecutor(len(ranks)) as pool:
        return list(pool.map(run, range(len(ranks))))


def test_twenty_thousand_classes_take_little_memory():
    k = 21841  # ImageNet-21k; a matrix of it would take 3.8 GB
    draws = np.random.RandomState(0)
    tracemalloc.start()
    try:
        accuracy = Accuracy(k)
        for _ in range(4):
            labels = draws.randint(0, k, 64)
            logits = draws.standard_normal((64, k)).astype(np.float32)
            accuracy.add(logits, labels)
        total = over_all([accuracy])[0]
        assert total.per_class().shape == (k,)
        assert sum(n for *_, n in total.most_confused()) == 256 - total.top1_hits
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100e6


def test_the_most_confused_pairs_come_first(tmp_path):
    k = 1001
    accuracy = Accuracy(k)
    predicted = np.array([3, 3, 3, 7, 5, 5])
    accuracy.add(np.eye(k)[predicted], np.array([4, 4, 3, 8, 9, 9]))
    assert accuracy.most_confused() == [(4, 3, 2), (9, 5, 2), (8, 7, 1)]
    files = write_confusion_matrix(tmp_path, accuracy, ModelInfo("mobilenet_v3_small", k))
    names = ["confused_pairs.csv", "per_class.csv", "confused_pairs.png", "reliability.png"]
    assert [f.name for f in files] == names
    assert files[0].read_text().splitlines()[:2] == ["true,predicted,pictures", "4,3,2"]
    assert files[1].read_text().splitlines()[4] == "3,1,1.0000,0.3333,1.0000,0.5000"
    for file in files[2:]:
        with Image.open(file) as image:
            image.verify()


def drawn(classes: int, pictures: int, seed: int = 0) -> tuple[Accuracy, np.ndarray, np.ndarray]:
    """Counts of random answers, of which the last class has none, neither true nor predicted."""
    draws = np.random.default_rng(seed)
    true, predicted = draws.integers(0, classes - 1, (2, pictures))
    predicted = np.where(draws.random(pictures) < 0.6, true, predicted)
    accuracy = Accuracy(classes)
    accuracy.count, accuracy.top1_hits = pictures, int((true == predicted).sum())
    accuracy.pairs.update(zip(true.tolist(), predicted.tolist(), strict=True))
    return accuracy, true, predicted


@pytest.mark.parametrize(("classes", "pictures"), [(2, 5), (7, 200), (60, 90)])
def test_class_metrics_are_scikit_learns(classes, pictures):
    metrics = pytest.importorskip("sklearn.metrics")
    accuracy, true, predicted = drawn(classes, pictures)
    theirs = metrics.precision_recall_fscore_support(
        true, predicted, labels=range(classes), zero_division=0
    )
    np.testing.assert_allclose(accuracy.class_scores(), theirs[:3], rtol=0, atol=1e-12)
    ours = accuracy.summary()
    for average in ("macro", "weighted"):
        of_all = metrics.precision_recall_fscore_support(
            true, predicted, average=average, zero_division=0
        )
        for name, value in zip(("precision", "recall", "f1"), of_all[:3], strict=True):
            assert ours[f"{average}_{name}"] == pytest.approx(value, abs=1e-12)
    balanced = metrics.balanced_accuracy_score(true, predicted)
    assert ours["balanced_accuracy"] == pytest.approx(balanced, abs=1e-12)


def test_class_metrics_counted_by_hand():
    accuracy = Accuracy(3)
    accuracy.add(np.eye(3)[[0, 1, 1, 2]], np.array([0, 0, 1, 1]))  # predicted 0 1 1 2
    assert accuracy.class_scores().tolist() == [[1, 0.5, 0], [0.5, 0.5, 0], [2 / 3, 0.5, 0]]
    found = accuracy.summary()
    assert found["balanced_accuracy"] == 0.5  # of the two classes with pictures
    assert found["macro_recall"] == pytest.approx(1 / 3)
    assert found["weighted_precision"] == 0.75


def test_an_evaluation_says_its_calibration_error():
    accuracy = Accuracy(2)
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.7, 0.3], [0.3, 0.7]])
    accuracy.add(np.log(probs[:1]), np.array([0]))
    accuracy.add(np.log(probs[1:]), np.array([1, 0, 1]))
    # in the bin of 0.9 one of two is right, in the bin of 0.7 both are
    assert "ECE 0.3500 (15 bins)" in metric_lines(accuracy, ModelInfo("x", 2))


def test_wilsons_interval_is_the_published_one():
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3
    for hits, count, low, high in (
        (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):  # fmt: skip
        assert wilson(hits, count) == pytest.approx((low, high), abs=5e-5)


def test_intervals_repeat_and_hold_the_value():
    accuracy, _, _ = drawn(7, 200)
    found = accuracy.intervals(draws=200)
    assert found == accuracy.intervals(draws=200) != accuracy.intervals(draws=200, seed=1)
    for name, value in accuracy.summary().items():
        low, high = found[name]
        assert low < value < high and high - low < 0.3


def test_the_whole_sets_numbers_are_said_and_need_no_matrix():
    accuracy, _, _ = drawn(20_000, 3000)
    tracemalloc.start()
    accuracy.summary()
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    small, _, _ = drawn(4, 40)
    lines = metric_lines(small, ModelInfo("x", 4, classes=("a", "b", "c", "d")))
    assert lines[1].startswith("balanced accuracy 0.")
    assert any(line.startswith("class b: precision ") for line in lines)
    assert any(" taken for " in line for line in lines)
    assert not any(line.startswith("class d") for line in lines)
