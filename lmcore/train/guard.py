"""The guards of a run: numbers that are no longer numbers, a loss that jumps or is too good, and a model that stands
still on the validation split.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from storage.errors import RunError

if TYPE_CHECKING:
    from lmcore.train.params import EarlyStop, TrainSettings

MOST_IN_A_ROW = 5
MOST_REWINDS = 10
SPIKE_WINDOW = 50  # losses of admitted steps whose median a spike is told by
SPIKE_LEAST = 20  # before there are so many, the loss falls too fast for a median to mean much
TRIVIAL_LOSS = 0.01  # nats a token: nothing that people wrote is as easy
TRIVIAL_STEPS = 50
LOST_NATS = 1.0  # a token above the loss of guessing blindly, ln V: a model that has lost what it was born with
LOST_STEPS = 100


class Guard:
    """Decides after each backward pass whether the step may change the weights."""

    def __init__(
        self,
        in_a_row: int = 0,
        skipped: int = 0,
        *,
        losses: Sequence[float] = (),
        rates: float = 1.0,
        rewinds: int = 0,
        trivial: int = 0,
        lost: int = 0,
        guessing: float = math.inf,
        rules: TrainSettings | None = None,
    ) -> None:
        """`rules` says what to do beside skipping the not finite, `guessing` is ln V; the rest is what `state` gave."""
        self.in_a_row = in_a_row  # steps skipped one after another, up to now
        self.skipped = skipped  # steps skipped in the whole run
        self.losses = list(losses)  # of the last admitted steps, where spikes are looked for
        self.rates = rates  # what all learning rates are multiplied with
        self.rewinds = rewinds
        self.trivial = trivial  # steps one after another with next to no loss
        self.lost = lost  # steps one after another with a loss far above `guessing`
        self._guessing = guessing
        self.spiked = False  # whether the step asked about last was a spike
        self._on_nan = rules.on_nan if rules else "skip"
        self._on_spike = rules.on_spike if rules else "off"
        self._factor = rules.spike_factor if rules else math.inf

    def admits(self, step: int, loss: float, grad_norm: float) -> bool:
        """True when `step` may change the weights; False when it must be skipped or, if `wants_rewind`, undone.

        Skipped are a loss or a gradient norm that is not finite and, where the rules ask for it, a loss above
        `spike_factor` times the median of the last 50. Raises RunError at the fifth skipped step in a row: the weights
        themselves are beyond repair by then; and at the 100th in a row with a loss of a nat a token above guessing.
        """
        finite = math.isfinite(loss) and math.isfinite(grad_norm)
        self.spiked = finite and self._is_spike(loss)
        if finite and not self.spiked:
            self.in_a_row = 0
            self.trivial = self.trivial + 1 if loss < TRIVIAL_LOSS else 0
            self.lost = self.lost + 1 if loss > self._guessing + LOST_NATS else 0
            if self.lost >= LOST_STEPS:
                raise RunError(
                    f"training diverged: loss {loss:.3f} at step {step}; for {self.lost} steps it has been far above "
                    f"the {self._guessing:.3f} nats of guessing blindly",
                    "lower train.lr and train.muon_lr (a half is a good first try), or keep train.grad_clip at 1",
                )
            if self._on_spike != "off":
                self.losses = [*self.losses[-SPIKE_WINDOW + 1 :], loss]
            return True
        if self.wants_rewind:
            return False
        self.in_a_row += 1
        self.skipped += 1
        if self._on_nan == "lower" and not finite:
            self.rates /= 2
        if self.in_a_row >= MOST_IN_A_ROW:
            why = "with a spike in the loss" if finite else "without finite numbers"
            raise RunError(
                f"training diverged: loss {loss}, gradient norm {grad_norm} at step {step}, "
                f"the {self.in_a_row}th step in a row {why}",
                "lower train.lr and train.muon_lr (a half is a good first try), keep train.grad_clip at 1, "
                "or set train.precision=fp32",
            )
        return False

    def begin_anew(self) -> None:
        """Forget the losses: a stage of other texts begins, whose loss may lie higher without being a spike."""
        self.losses, self.lost = [], 0

    def overflowed(self) -> bool:
        """Count a step that fp16's loss scale leaves out: no sign of harm. False, as `admits` of a skipped step."""
        self.spiked = False
        self.skipped += 1
        return False

    @property
    def wants_rewind(self) -> bool:
        """True when the step asked about last is one to go back from."""
        return self.spiked and self._on_spike == "rewind"

    @property
    def newly_trivial(self) -> bool:
        """True at the 50th step in a row with a loss below 0.01 nats a token."""
        return self.trivial == TRIVIAL_STEPS

    def rewound(self, live: Guard) -> None:
        """Keep what `live`, the guard of the way now left, knows of the whole run. RunError at the eleventh time."""
        self.rewinds, self.rates = live.rewinds + 1, live.rates
        if self.rewinds > MOST_REWINDS:
            raise RunError(
                f"training diverged: {self.rewinds} spikes of the loss, and going back did not help",
                "lower train.lr and train.muon_lr (a half is a good first try), or set a higher train.spike_factor",
            )

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: the arguments that make this guard again."""
        more = {"losses": self.losses, "rewinds": self.rewinds, "trivial": self.trivial, "lost": self.lost}
        state: dict[str, Any] = {"in_a_row": self.in_a_row, "skipped": self.skipped}
        state |= {name: value for name, value in more.items() if value}
        return state if self.rates == 1.0 else state | {"rates": self.rates}

    def _is_spike(self, loss: float) -> bool:
        return self._on_spike != "off" and len(self.losses) >= SPIKE_LEAST and loss > self._factor * median(self.losses)


def stands_still(bits: Sequence[float], rule: EarlyStop) -> bool:
    """True when the last `patience` of these looks (bits per byte) are not `min_delta` below the best before them."""
    best, since = math.inf, 0
    for value in bits:
        best, since = (value, 0) if value < best - rule.min_delta else (best, since + 1)
    return since >= rule.patience
