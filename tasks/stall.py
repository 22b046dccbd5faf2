"""When a training process counts as standing still.

Between two steps silence is judged by the process' own pace. Before the first step, and while it does something else
that it has told of (a look at the validation split, a checkpoint, the output), there is no pace to judge by, so there
is a fixed and longer patience.
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lmcore.train.journal import STALL_MEDIANS, STALL_SECONDS, is_step
from storage.errors import RunError

RECENT = 101  # intervals that the median is taken of
ENOUGH = 3  # intervals before their median says something
LOOK_SECONDS = 5.0  # most that one look can add to the silence: whoever looks may have been stopped or frozen as well


class Stalled(RunError):
    """A process that works for us has stopped making progress, and was ended."""


@dataclass(frozen=True)
class Patience:
    """How long a training process may say nothing, in seconds."""

    least: float = STALL_SECONDS
    medians: float = STALL_MEDIANS  # or so many times the median time between two progress lines, when that is longer
    other: float = 600.0  # when the newest line is not about a step


class Silence:
    """How long nothing has been heard. Call `heard` with every look, also when there was nothing."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._other = patience.other
        self._intervals: deque[float] = deque(maxlen=RECENT)
        self._silent = 0.0
        self._stepping = False  # the newest line is about a step
        self._step_at: float | None = None
        self._looked = time.monotonic()

    def heard(self, lines: Sequence[dict[str, Any]]) -> None:
        """Take in the lines that came since the last look."""
        now = time.monotonic()
        self._silent = 0.0 if lines else self._silent + min(now - self._looked, LOOK_SECONDS)
        self._looked = now
        if not lines:
            return
        self.expect(lines)
        if any(is_step(line) for line in lines):
            if self._step_at is not None:
                self._intervals.append(now - self._step_at)
            self._step_at = now
        self._stepping = is_step(lines[-1])

    def expect(self, lines: Sequence[dict[str, Any]]) -> None:
        """Take in how long a step takes by the plan, also of an earlier attempt: the first one may be a long one."""
        for line in lines:
            if line.get("event") == "plan":
                self._other = max(self._other, self._patience.medians * line["plan"]["step_seconds"])

    @property
    def limit(self) -> float:
        """Seconds of silence that are too many now."""
        if not self._stepping or len(self._intervals) < ENOUGH:
            return self._other
        return max(self._patience.least, self._patience.medians * statistics.median(self._intervals))

    def check(self) -> None:
        """Raise Stalled when it has been silent for too long."""
        if self._silent > self.limit:
            pace = f"; before, a line came every {statistics.median(self._intervals):.1f} s" if self._intervals else ""
            raise Stalled(
                f"training stands still: nothing was heard of its process for {self._silent:,.0f} s{pace}",
                "the stacks of its threads are at the end of its log; run again to continue from its newest checkpoint",
            )
