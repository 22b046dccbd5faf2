"""A curve drawn with the block characters of a terminal."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

BLOCKS = " ▁▂▃▄▅▆▇█"


def draw_curve(values: Sequence[float], width: int, height: int, ends: tuple[str, str] = ("", "")) -> list[str]:
    """Lines that show `values` from left to right, at most `width` by `height + 1` characters.

    Each column is the mean of its share of the values; the numbers at the left are the highest and the lowest mean,
    and `ends` stand under the first and the last column. Values that are not finite are left out; no line when
    nothing is left.
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return []
    labels = max(len(_number(bound)) for bound in (max(finite), min(finite)))
    means = _means(finite, max(1, width - labels - 2))
    low, high = min(means), max(means)
    steps = height * (len(BLOCKS) - 1)
    # The lowest mean is one step high, so that it can be told from nothing.
    tall = [1 + round((mean - low) / (high - low) * (steps - 1)) if high > low else 1 for mean in means]
    lines = []
    for row in reversed(range(height)):
        filled = (max(0, min(len(BLOCKS) - 1, h - row * (len(BLOCKS) - 1))) for h in tall)
        bound = _number(high) if row == height - 1 else _number(low) if row == 0 else ""
        lines.append(f"{bound:>{labels}} ┤" + "".join(BLOCKS[eighths] for eighths in filled))
    gap = len(means) - len(ends[0]) - len(ends[1])
    foot = f"{ends[0]}{' ' * gap}{ends[1]}" if gap > 0 else ends[1]
    return [*lines, f"{'':{labels + 2}}{foot}"[:width]] if any(ends) else lines


def _means(values: Sequence[float], columns: int) -> list[float]:
    columns = min(columns, len(values))
    edges = [len(values) * column // columns for column in range(columns + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]


def _number(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 1000 else f"{value:.3g}"
