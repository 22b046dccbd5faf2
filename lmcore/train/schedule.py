"""The learning rate as a pure function of progress, the share of the budget that is used.

Because it looks at the share and not at a step number, the same schedule serves steps, tokens, epochs and minutes,
and the decay always finishes.
"""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["trapezoid", "cosine", "linear", "one_cycle", "constant"]
ONE_CYCLE_START = 1 / 25  # share of the peak that one_cycle begins with: torch's OneCycleLR, div_factor


def lr_share(
    progress: float,
    schedule: Schedule,
    *,
    warmup: float = 0.0,
    decay_share: float = 0.0,
    final: float = 0.0,
) -> float:
    """The share of the peak learning rate, 0 to 1, at `progress` (0 to 1; beyond is clamped).

    All but `one_cycle` rise linearly from 0 during the first `warmup`. Then `trapezoid`, also called WSD, stays at 1
    and falls linearly to `final` over the last `decay_share` (Hägele et al. 2024, arXiv:2405.18392); `linear` and
    `cosine` (Loshchilov and Hutter 2017, arXiv:1608.03983) fall from the end of the warm-up to the end; `constant`
    stays. `one_cycle` rises along half a cosine from 1/25 and falls along another to `final` (Smith and Topin 2018,
    arXiv:1708.07120, in the form of torch's OneCycleLR, whose defaults are a `warmup` of 0.3 and a `final` of 4e-6).
    """
    at = min(max(progress, 0.0), 1.0)
    if at < warmup:
        if schedule == "one_cycle":
            return ONE_CYCLE_START + (1.0 - ONE_CYCLE_START) * 0.5 * (1.0 - math.cos(math.pi * at / warmup))
        return at / warmup
    if schedule == "constant":
        return 1.0
    start = 1.0 - decay_share if schedule == "trapezoid" else warmup
    if at <= start:
        return 1.0
    fallen = (at - start) / (1.0 - start)  # start < at <= 1, so the divisor is positive
    if schedule in ("cosine", "one_cycle"):
        return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * fallen))
    return final + (1.0 - final) * (1.0 - fallen)
