"""The area under the ROC curve from ranks."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def auc(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Probability that a positive scores higher than a negative, ties counted half; .5 where one kind is missing.

    The Mann-Whitney statistic by mid-ranks (Hanley and McNeil 1982, "The meaning and use of the area under a receiver
    operating characteristic (ROC) curve"), N log N.
    """
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return 0.5
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    rank = (last - (counts - 1) / 2)[place]  # from 1; equal scores share the middle of their ranks
    return float((rank[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def auc_interval(area: float, n_positive: int, n_negative: int) -> tuple[float, float]:
    """95 % interval of an AUC, by the standard error of Hanley and McNeil (1982, eq. 1)."""
    q1 = area / (2 - area)
    q2 = 2 * area * area / (1 + area)
    variance = area * (1 - area) + (n_positive - 1) * (q1 - area * area) + (n_negative - 1) * (q2 - area * area)
    error = 1.96 * math.sqrt(max(0.0, variance) / (n_positive * n_negative))
    return max(0.0, area - error), min(1.0, area + error)
