"""The stages of a curriculum: what a person can set about them, and what follows from that alone.

Reading a recipe stays quick: this loads no more than pydantic.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Annotated, Self

from pydantic import Field, model_validator

from lmcore.config import Params, added_later

Weight = Annotated[float, Field(gt=0)]
Mixture = dict[str, Weight]
Level = Annotated[float, Field(ge=0, le=100)]
Quantile = Annotated[str, Field(pattern=r"^q(\d{1,2}(\.\d+)?|100)$")]
Bounds = tuple[Level | Quantile, Level | Quantile]  # of complexity
Reads = dict[tuple[str | None, Bounds | None], float]  # weight of each name of a mixture, complexity


class Stage(Params):
    """One stage of a curriculum. What it leaves out is as `train` and `model` have it."""

    share: float = Field(gt=0, le=1, description="Share of the budget; those of all stages add up to 1.")
    name: str | None = added_later(
        None,
        max_length=40,
        pattern="^[a-z][a-z0-9-]*$",
        description="With names, which all stages have or none, each stage is judged at its end and leaves its model "
        "in checkpoints/NAME and a line in stages.json.",
    )
    mixture: Mixture | None = added_later(None, description="Weights in this stage, in place of train.mixture.")
    complexity: Bounds | None = added_later(
        None,
        description="Only texts from this complexity up to below that one; 100 takes in the most complex. A bound like "
        "q20 is a quantile: the place behind the simplest 20 % of the texts, however their complexities lie.",
    )
    replay: float = added_later(
        0.0, ge=0, lt=1, description="Share of the rows that are of what the earlier stages read, equally much of each."
    )
    context: int | None = added_later(
        None, ge=1, description="Tokens of a row, a divisor of model.context; a step has as many more rows."
    )
    lr_factor: float = added_later(1.0, gt=0, description="What every learning rate is multiplied by.")

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.complexity is not None:
            low, high = (quantile(bound) if isinstance(bound, str) else bound for bound in self.complexity)
            if len({type(bound) for bound in self.complexity}) == 1 and low >= high:
                raise ValueError(f"complexity {list(self.complexity)} holds no text: the lower bound comes first")
        return self


class Promote(Params):
    """When a stage that has a name ends before its share of the budget is used, and how stages are judged."""

    patience: int = Field(
        0, ge=0, description="Looks over which a stage must gain to go on; 0: every stage uses its share of the budget."
    )
    min_gain: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="Share by which the best of these looks must need fewer bits per byte than the best before them.",
    )
    every: Annotated[float, Field(gt=0, le=1)] = Field(0.1, description="Share of a stage between two looks.")
    tokens: int = Field(65_536, ge=1, description="Tokens of the validation split in a look.")


def quantile(bound: str) -> float:
    """Percent of the texts that are below a bound like "q20"."""
    return float(bound.removeprefix("q"))


def check_curriculum(stages: Sequence[Stage], patience: int) -> None:
    """Raise ValueError where names, replay or promotion have no meaning."""
    names = [stage.name for stage in stages if stage.name is not None]
    if names and len(names) < len(stages):
        raise ValueError(f"{len(names)} of {len(stages)} stages have a name: name all of them, or none")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two stages are called {twice[0]}: what they leave would be one folder")
    if stages and stages[0].replay:
        raise ValueError("replay in the first stage: no stage comes before it")
    if patience and not names:
        raise ValueError("promote needs stages that have names: what it decides is told by them")


def reads(stages: Sequence[Stage], number: int, mixture: Mixture | None) -> Reads:
    """What stage `number` (from 0) reads, with weights; `mixture` is of stages without one.

    With replay the stage's own texts come first, and then those of the earlier stages in their order.
    """
    stage, own = stages[number], own_reads(stages[number], mixture)
    if not stage.replay:
        return own
    weights: Reads = {}
    whole = [(own, 1 - stage.replay)]
    whole += [(own_reads(earlier, mixture), stage.replay / number) for earlier in stages[:number]]
    for some, share in whole:
        for key, weight in some.items():
            weights[key] = weights.get(key, 0.0) + share * weight / sum(some.values())
    return weights


def own_reads(stage: Stage, mixture: Mixture | None) -> Reads:
    """What a stage reads apart from replay."""
    weights = stage.mixture or mixture
    if not weights:
        return {(None, stage.complexity): 1.0}
    return {(name, stage.complexity): weights[name] for name in sorted(weights)}


def moved_on(begins: Sequence[float], shares: Sequence[float], number: int, at: float) -> list[float]:
    """The shares of the budget that the stages begin with, when the one after the first `number` begins at `at`.

    The rest of the budget is divided among those that are left as their `shares` are.
    """
    left = shares[number:]
    before = [0.0, *accumulate(left[:-1])]
    return [*begins[:number], *(at + (1 - at) * done / sum(left) for done in before)]
