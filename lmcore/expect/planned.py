"""What the settings alone tell of a metric, before anything runs: for `params`, beside the document's figure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from lmcore.expect.rows import PLANNED, Expectation
from lmcore.expect.times import Time
from lmcore.models.lora import adapter_parameters
from lmcore.recipe import Recipe, counted_as
from lmcore.train.horizon import Horizon, known_horizon, warmup_share
from lmcore.train.schedule import lr_share

if TYPE_CHECKING:
    from lmcore.models.ledger import Ledger


@dataclass(frozen=True)
class Step:
    """One step from the recipe's figure towards the document's."""

    settings: tuple[str, ...]
    why: str
    value: float | None  # with these settings and those of the steps before
    by: float | None  # how much that is more than before


class Planned:
    """A recipe, asked for what it would build."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.training = recipe, recipe.training

    def value(self, metric: str, at: Time) -> float | None:
        """What a metric of PLANNED will be; None where only the text that is collected decides."""
        return _FIND[metric](self, at)

    def differences(self, row: Expectation) -> list[Step]:
        """The steps of a claim, each counted. Raises UserError for settings that cannot be."""
        before = self.value(row.metric, row.at)
        steps, settings = list[Step](), list[str]()
        for difference in row.differences:
            settings += difference.set
            value = Planned(counted_as(self.recipe, settings)).value(row.metric, row.at)
            by = None if value is None or before is None else value - before
            steps.append(Step(difference.set, difference.why, value, by))
            before = value
        return steps

    @cached_property
    def ledger(self) -> Ledger:
        """Of the model, with as many tokens as the recipe asks for."""
        from lmcore.models.ledger import estimate

        return estimate(self.recipe.model, self.recipe.tokenizer.vocab_size)

    @property
    def adapters(self) -> int:
        """Parameters of the adapters; 0 where all of the model is trained."""
        return adapter_parameters(self.training.model, self.training.lora) if self.training.lora else 0

    @property
    def horizon(self) -> Horizon | None:
        """The budget in steps; None where the text or the clock decides."""
        return known_horizon(self.training)

    @property
    def per_step(self) -> int:
        """Tokens of an optimizer step."""
        return self.training.batch * self.training.model.context

    def lr(self, at: Time) -> float | None:
        """The learning rate in the last step of a time; of a budget in epochs its limit for a long text."""
        training, horizon = self.training, self.horizon
        if horizon is not None and horizon.steps is not None:
            step = {"start": 1, "end": horizon.steps, "step N": at.number}.get(at.kind)
            progress = None if step is None or step > horizon.steps else horizon.middle(step - 1, 0.0)
            warmup = warmup_share(training, horizon)
        else:
            progress = {"start": 0.0, "end": 1.0}.get(at.kind)
            if at.kind == "epoch N" and training.epochs is not None and at.number <= training.epochs:
                progress = at.number / training.epochs
            if training.warmup_steps is not None:  # how far they reach hangs on the text
                progress = progress if at.kind == "end" else None
            warmup = training.warmup
        if at.kind == "after stage N":
            progress = math.fsum(stage.share for stage in training.stages[: at.number])
        if progress is None:
            return None
        share = lr_share(
            progress, training.schedule, warmup=warmup, decay_share=training.decay_share, final=training.final_lr_share
        )
        stages = training.whole_run()
        number = sum(begin < progress for begin in training.begins()) - 1
        return training.lr * share * stages[max(0, number)].lr_factor

    def checkpoint_bytes(self) -> float:
        """Weights that are trained and the state of their optimizer, in fp32."""
        adapters = self.adapters or None
        memory = self.ledger.training_memory(1, optimizer=self.training.optimizer, adapters=adapters)
        return float(4 * (adapters or self.ledger.total) + memory["optimizer"])


def _tokens_seen(planned: Planned) -> float | None:
    horizon = planned.horizon
    return None if horizon is None or horizon.steps is None else float(horizon.steps * planned.per_step)


def _steps(planned: Planned) -> float | None:
    return None if planned.horizon is None or planned.horizon.steps is None else float(planned.horizon.steps)


_FIND: dict[str, Callable[[Planned, Time], float | None]] = {
    "parameters": lambda planned, _: float(planned.ledger.total),
    "trained_parameters": lambda planned, _: float(planned.adapters or planned.ledger.total),
    "trained_share": lambda planned, _: (
        (planned.adapters or planned.ledger.total) / (planned.ledger.total + planned.adapters)
    ),
    "file_bytes": lambda planned, _: float(planned.ledger.bytes()),
    "checkpoint_bytes": lambda planned, _: planned.checkpoint_bytes(),
    "vocab_size": lambda planned, _: float(planned.recipe.tokenizer.vocab_size),
    "context": lambda planned, _: float(planned.training.model.context),
    "steps": lambda planned, _: _steps(planned),
    "epochs": lambda planned, _: planned.training.epochs,
    "tokens_seen": lambda planned, _: _tokens_seen(planned),
    "lr": Planned.lr,
    "peak_lr": lambda planned, _: planned.training.lr * max(stage.lr_factor for stage in planned.training.whole_run()),
}
assert tuple(_FIND) == PLANNED
