"""The learning rate as a pure function of progress, the share of the budget that is used.

Because it looks at the share and not at a step number, the same schedule serves steps, tokens, epochs and minutes,
and the decay always finishes.
"""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["trapezoid", "cosine", "linear", "constant"]


def lr_share(
    progress: float,
    schedule: Schedule,
    *,
    warmup: float = 0.0,
    decay_share: float = 0.0,
    final: float = 0.0,
) -> float:
    """The share of the peak learning rate, 0 to 1, at `progress` (0 to 1; beyond is clamped).

    All rise linearly from 0 during the first `warmup`. Then `trapezoid` stays at 1 and falls linearly to `final`
    over the last `decay_share` (Hägele et al. 2024, arXiv:2405.18392); `linear` and `cosine` (Loshchilov and Hutter
    2017, arXiv:1608.03983) fall from the end of the warm-up to the end; `constant` stays.
    """
    at = min(max(progress, 0.0), 1.0)
    if at < warmup:
        return at / warmup
    if schedule == "constant":
        return 1.0
    start = 1.0 - decay_share if schedule == "trapezoid" else warmup
    if at <= start:
        return 1.0
    fallen = (at - start) / (1.0 - start)  # start < at <= 1, so the divisor is positive
    if schedule == "cosine":
        return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * fallen))
    return final + (1.0 - final) * (1.0 - fallen)
