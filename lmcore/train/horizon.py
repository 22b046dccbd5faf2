"""How long to train, and how far along a run is: the share of its budget that is used.

Steps, tokens and epochs are all counted in optimizer steps. Minutes count seconds spent inside training steps, which
the checkpoint keeps: downtime, the probe, compilation, validation, sampling and saving are not training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lmcore.train.params import TrainParams, check_warmup
from storage.errors import UserError


@dataclass(frozen=True)
class Horizon:
    """A budget in optimizer steps or in seconds of training; exactly one is set."""

    steps: int | None = None
    seconds: float | None = None

    def progress(self, step: int, seconds: float) -> float:
        """Share of the budget used, 0 to 1, after `step` steps that took `seconds`."""
        used = step / self.steps if self.steps is not None else seconds / self._budget
        return min(1.0, used)

    def middle(self, step: int, seconds: float, timed: int | None = None) -> float:
        """Share of the budget at the middle of the next step: where its learning rate is read.

        The middle, because neither end is right: at its start the first step of a warm-up would have a rate of 0,
        at its end the last step of a decay would. In a time budget the next step is taken to last as long as the
        mean one so far: of `timed` steps, which are more than `step` where a rewind took some back.
        """
        if self.steps is not None:
            return min(1.0, (step + 0.5) / self.steps)
        timed = step if timed is None else timed
        mean = seconds / timed if timed else 0.0
        return min(1.0, (seconds + mean / 2) / self._budget)

    def left(self, step: int, seconds: float, timed: int | None = None) -> float:
        """Seconds of training still to come after `step` steps, at the mean speed; `timed` is as for `middle`."""
        if self.steps is not None:
            return (self.steps - step) * seconds / (timed or step)
        return max(0.0, self._budget - seconds)

    def length(self, step_seconds: float) -> float:
        """Seconds of the whole run when a step takes so long."""
        return self.steps * step_seconds if self.steps is not None else self._budget

    def describe(self) -> str:
        """The budget in words."""
        return f"{self.steps:,} steps" if self.steps is not None else f"{self._budget / 60:g} minutes"

    @property
    def _budget(self) -> float:
        assert self.seconds is not None
        return self.seconds


def make_horizon(params: TrainParams, tokens_per_step: int, steps_per_epoch: int) -> Horizon:
    """The budget of `params`; tokens and epochs are rounded up to whole steps."""
    if params.minutes is not None:
        return Horizon(seconds=params.minutes * 60)
    if params.steps is not None:
        return Horizon(steps=params.steps)
    if params.tokens is not None:
        return Horizon(steps=math.ceil(params.tokens / tokens_per_step))
    assert params.epochs is not None
    return Horizon(steps=max(1, math.ceil(params.epochs * steps_per_epoch)))


def known_horizon(params: TrainParams) -> Horizon | None:
    """The budget in steps, None where the text or the clock decides how many they are."""
    if params.epochs is not None or params.minutes is not None:
        return None
    return make_horizon(params, params.batch * params.model.context, 1)


def warmup_share(params: TrainParams, horizon: Horizon) -> float:
    """The warm-up as a share of the budget. UserError when `warmup_steps` are more than the run has room for."""
    if params.warmup_steps is None:
        return params.warmup
    assert horizon.steps is not None
    share = params.warmup_steps / horizon.steps
    try:
        check_warmup(params, share, f"train.warmup_steps {params.warmup_steps:,} of {horizon.steps:,} steps")
        if share > 1:
            raise ValueError(f"train.warmup_steps {params.warmup_steps:,} are more than the run's {horizon.steps:,}")
    except ValueError as error:
        raise UserError(str(error), "set fewer warm-up steps, or train longer") from error
    return share
