"""How much text is wanted of sources whose budgets can grow, and when collecting more is no longer worth it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from pydantic import Field, model_validator

from lmcore.config import Settings


class Target(Settings):
    """A number of unique texts, reached in rounds: each reads with the budgets of the sources once more as large."""

    texts: int = Field(ge=1, description="Unique texts wanted: copies within a source count once.")
    rounds: int = Field(default=5, ge=1, le=100, description="Rounds of collecting, at most.")
    min_yield: float = Field(
        default=0.05, ge=0, le=1, description="Share of a round's new texts that must be unique for another round."
    )
    tiers: dict[str, int] = Field(
        default={}, description="Names for numbers of texts, such as minimum: 1000; the highest one reached is told."
    )

    @model_validator(mode="after")
    def _tiers_are_numbers(self) -> Self:
        if any(number < 1 for number in self.tiers.values()):
            raise ValueError("a tier is a number of texts, 1 or more")
        return self

    def tier(self, unique: int) -> str:
        """The name of the highest tier that so many texts reach, "" for none."""
        reached = {number: name for name, number in self.tiers.items() if number <= unique}
        return reached[max(reached)] if reached else ""


@dataclass(frozen=True)
class Yield:
    """What a source has after a round."""

    records: int
    unique: int


@dataclass(frozen=True)
class Standing:
    """A target after a round: whether sources should `go_on`, and why it stands as it does in one line."""

    go_on: bool
    line: str


def standing(target: Target, whose: str, round_: int, now: Yield, before: Yield) -> Standing:
    """How a target stands after a round that went from `before` (nothing, in the first) to `now`."""
    tier = target.tier(now.unique)
    reached = f", tier {tier} ({target.tiers[tier]:,})" if tier else ""
    rounds = f"{round_} round{'s' if round_ > 1 else ''}"
    told = f"target of {whose}: {now.unique:,} of {target.texts:,} unique texts after {rounds}{reached}"
    if now.unique >= target.texts:
        return Standing(False, f"{told}: reached")
    new, gained = now.records - before.records, now.unique - before.unique
    if new <= 0:
        return Standing(False, f"{told}: nothing more came")
    if gained < target.min_yield * new:
        return Standing(False, f"{told}: only {gained:,} of the last {new:,} texts were new")
    if round_ >= target.rounds:
        return Standing(False, f"{told}: no more rounds")
    return Standing(True, told)
