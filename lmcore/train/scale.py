"""The loss scale of fp16: gradients too small for the format are made larger, and made small again afterwards."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

START, LEAST, MOST = 2.0**16, 1.0, 2.0**24
GROWTH_STEPS = 2000  # steps without an overflow after which the scale is doubled


class LossScale:
    """A power of two that the loss is multiplied with before the backward pass.

    The rule of torch's GradScaler: half after a step whose gradients overflowed, which is left out; twice as much
    after 2000 steps without one. (torch's own class divides the gradients of torch's own optimizers.)
    """

    def __init__(self, value: float = START, steps: int = 0) -> None:
        self.value = value
        self.steps = steps  # since the last change

    @torch.no_grad()
    def divide(self, parameters: Iterable[nn.Parameter]) -> None:
        """Take the scale out of the gradients."""
        torch._foreach_mul_([p.grad for p in parameters if p.grad is not None], 1.0 / self.value)

    def fits(self, loss: float, grad_norm: float) -> bool:
        """False when this step's gradients overflowed for the scale's sake and it is to be left out; learns from it.

        A loss that is itself no number, or an overflow at a scale of 1, is none of the scale's doing.
        """
        if math.isfinite(grad_norm):
            self.steps += 1
            if self.steps >= GROWTH_STEPS:
                self.value, self.steps = min(MOST, self.value * 2), 0
            return True
        if not math.isfinite(loss) or self.value <= LEAST:
            return True
        self.value, self.steps = self.value / 2, 0
        return False

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: the arguments that make this scale again."""
        return {"value": self.value, "steps": self.steps}
