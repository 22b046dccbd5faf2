"""The small pieces that the formulas of scores are put together from. All arrays are (T,)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Columns = Mapping[str, Floats]


def ramp(values: Floats, low: float, high: float) -> Floats:
    """0 up to `low`, 1 from `high` on, straight between."""
    return np.clip((values - low) / (high - low), 0.0, 1.0)


def herdan(signals: Columns) -> Floats:
    """Herdan's C, ln(different words) / ln(words), nearly free of length; 0 where there are fewer than two words."""
    words = np.maximum(signals["n_words"], 1)
    unique = np.maximum(words * signals["unique_word_ratio"], 1)
    return np.where(words > 1, np.log(unique) / np.log(np.maximum(words, 2)), 0.0)


def log_words(signals: Columns) -> Floats:
    """ln(words), 0 for a text without words."""
    logs: Floats = np.log(np.maximum(signals["n_words"], 1))
    return logs
