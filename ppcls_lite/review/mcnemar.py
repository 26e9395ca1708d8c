"""McNemar's test: do two networks differ, by the pictures that only one of them gets right."""

import math
from typing import NamedTuple

import numpy as np


class McNemar(NamedTuple):
    """Two networks on the same N pictures.

    Attributes:
        only_first, only_second: pictures that only one of them answers rightly.
        difference: top-1 of the second minus that of the first.
        interval: Wald's 95 % interval of the difference, of pairs.
        exact: p of the exact two-sided test: were both as good, how often the pictures would lie at
            least as far apart.
        statistic: chi-squared with the continuity correction (Edwards 1948), one degree of freedom.
        approximate: p of the statistic.
    """

    only_first: int
    only_second: int
    difference: float
    interval: tuple[float, float]
    exact: float
    statistic: float
    approximate: float


def mcnemar(first: np.ndarray, second: np.ndarray) -> McNemar:
    """Tests whether two networks are right equally often (McNemar 1947).

    Args:
        first, second: whether each picture is answered rightly, bool [N].
    """
    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    n, count = len(first), b + c
    difference = (c - b) / n
    half = 1.959963984540054 * math.sqrt(max(count - (c - b) ** 2 / n, 0.0)) / n
    # Both are sums of integers, so the share is exact before it is rounded once.
    tail = sum(math.comb(count, i) for i in range(min(b, c) + 1))
    exact = min(1.0, 2 * tail / 2**count)
    statistic = max(abs(b - c) - 1, 0) ** 2 / count if count else 0.0
    approximate = math.erfc(math.sqrt(statistic / 2))
    interval = (difference - half, difference + half)
    return McNemar(b, c, difference, interval, exact, statistic, approximate)
