"""A temperature against the one that made the labels, and the error against a count by hand."""

import numpy as np
import pytest

from ppcls_lite.engine.calibration import calibration_error, fit_temperature


def test_the_temperature_that_drew_the_labels_is_found():
    draws = np.random.default_rng(0)
    logits = 2 * draws.standard_normal((20_000, 5))
    labels = (logits + draws.gumbel(size=logits.shape)).argmax(axis=1)  # a draw of softmax(logits)
    assert fit_temperature(logits, labels) == pytest.approx(1, abs=0.03)
    assert fit_temperature(3 * logits, labels) == pytest.approx(3, abs=0.09)
    assert calibration_error(logits, labels) < 0.02 < 0.1 < calibration_error(3 * logits, labels)


def test_the_error_counted_by_hand():
    logits = np.log(np.array([[0.9, 0.1], [0.9, 0.1], [0.7, 0.3], [0.3, 0.7]]))
    # in the bin of 0.9 one of two is right, in the bin of 0.7 both are
    assert calibration_error(logits, np.array([0, 1, 0, 1])) == pytest.approx(0.35)
