"""Counting hits: by hand, by definition, and against Paddle's own metric."""

import numpy as np
import paddle
import pytest

from ppcls_lite.metric import Accuracy, cross_entropy, label_rank


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
    assert accuracy.confusion.tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 0]]
    assert accuracy.per_class()[:2].tolist() == [0.5, 0.5]
    assert np.isnan(accuracy.per_class()[2])


def test_totals_of_two_ranks_add_up_to_the_whole():
    draws = np.random.RandomState(1)
    logits, labels = draws.standard_normal((31, 7)), draws.randint(0, 7, 31)
    whole, ranks = Accuracy(7), [Accuracy(7), Accuracy(7)]
    whole.add(logits, labels)
    for rank in (0, 1):
        ranks[rank].add(logits[rank::2], labels[rank::2])
    both = Accuracy.from_totals(ranks[0].totals() + ranks[1].totals(), 7)
    assert both.totals()[:3].tolist() == whole.totals()[:3].tolist()
    assert both.loss == pytest.approx(whole.loss, rel=1e-12)  # order of a float64 sum
    assert (both.confusion == whole.confusion).all()
