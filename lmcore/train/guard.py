"""The guard against numbers that are no longer numbers."""

from __future__ import annotations

import math

from storage.errors import RunError

MOST_IN_A_ROW = 5


class Guard:
    """Decides after each backward pass whether the step may change the weights."""

    def __init__(self, in_a_row: int = 0, skipped: int = 0) -> None:
        self.in_a_row = in_a_row  # steps skipped one after another, up to now
        self.skipped = skipped  # steps skipped in the whole run

    def admits(self, step: int, loss: float, grad_norm: float) -> bool:
        """True when loss and gradient norm are finite; False when `step` must be skipped.

        Raises RunError at the fifth skipped step in a row: the weights themselves are beyond repair by then.
        """
        if math.isfinite(loss) and math.isfinite(grad_norm):
            self.in_a_row = 0
            return True
        self.in_a_row += 1
        self.skipped += 1
        if self.in_a_row >= MOST_IN_A_ROW:
            raise RunError(
                f"training diverged: loss {loss}, gradient norm {grad_norm} at step {step}, "
                f"the {self.in_a_row}th step in a row without finite numbers",
                "lower train.lr and train.muon_lr (a half is a good first try), keep train.grad_clip at 1, "
                "or set train.precision=fp32",
            )
        return False

    def state(self) -> dict[str, int]:
        """What a checkpoint keeps: the arguments that make this guard again."""
        return {"in_a_row": self.in_a_row, "skipped": self.skipped}
