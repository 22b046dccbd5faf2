"""The rows of a recipe's `expect:` section: what a document says that a run will show, and where it says so.

They are no part of any stage's key: a claim changes nothing that is built.
"""

from __future__ import annotations

import difflib
from typing import Self

from pydantic import Field, field_validator, model_validator

from lmcore.config import Settings
from lmcore.expect.metrics import METRICS, Metric
from lmcore.expect.times import Time

# Metrics that follow from the settings, so that `params` can tell them before anything runs; planned.py has them.
PLANNED = (
    *("parameters", "trained_parameters", "trained_share", "file_bytes", "checkpoint_bytes", "vocab_size", "context"),
    *("steps", "epochs", "tokens_seen", "lr", "peak_lr"),
)
OURS = "ours:"  # how the source of a bound begins that no document gives


class Difference(Settings):
    """One step from the recipe's figure towards the document's: settings that the document's figure is of."""

    set: tuple[str, ...] = Field(min_length=1, description="Settings, each a.b=value, on top of those of rows before.")
    why: str = Field("", description="What the document's figure is of, in words.")

    @field_validator("set")
    @classmethod
    def _assignments(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            if value.startswith(("=", "expect", "extends")) or "=" not in value:
                raise ValueError(f"{value!r} is not of the form a.b=value, a setting of the recipe")
        return values


class Expectation(Settings):
    """One claim."""

    metric: str = Field(description="What is claimed about: one of the metrics of docs/expectations.md.")
    when: str | None = Field(
        None,
        description="start, end, epoch N, step N, after stage N (of train.stages), after stage collect or curate; left "
        "out, what the metric is mostly asked for.",
    )
    range: tuple[float | None, float | None] = Field(
        description="Lowest and highest value that fulfil the claim; null leaves a side open."
    )
    source: str = Field(
        min_length=1,
        description="Where the document says it: line or section; `ours: ...` for a bound that it does not give.",
    )
    compare: bool = Field(True, description="Off: what is measured is shown beside the claim and not held against it.")
    reason: str = Field("", description="Why the two cannot be compared; where compare is off.")
    note: str = Field("", description="What there is to say of the document's own figure, such as why it cannot be.")
    differences: tuple[Difference, ...] = Field(
        (), description="For figures that follow from the settings: the steps from the recipe's to the document's."
    )

    @field_validator("metric")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in METRICS:
            near = difflib.get_close_matches(name, METRICS, 1, 0.5)
            told = f"did you mean {near[0]}?" if near else f"one of {', '.join(METRICS)}"
            raise ValueError(f"there is no metric {name!r}: {told}")
        return name

    @model_validator(mode="after")
    def _whole(self) -> Self:
        times, low, high = self.about.times, *self.range
        asked = Time.parse(self.when) if self.when is not None else Time(times[0])
        if asked is None or asked.kind not in times:
            raise ValueError(f"{self.metric} has no {self.when!r}: write when as {', '.join(times)}")
        if low is None and high is None:
            raise ValueError(f"the range of {self.metric} has no bound: give the lowest value, the highest, or both")
        if low is not None and high is not None and low > high:
            raise ValueError(f"the range of {self.metric} ends at {high:g}, below its beginning at {low:g}")
        if self.compare == bool(self.reason):
            told = "with compare: true has a reason why not" if self.compare else "with compare: false needs a reason"
            raise ValueError(f"{self.metric} {told}: give both or neither")
        if self.differences and self.metric not in PLANNED:
            raise ValueError(f"{self.metric} does not follow from settings, so it has no differences to itemise")
        return self

    @property
    def about(self) -> Metric:
        """The metric."""
        return METRICS[self.metric]

    @property
    def ours(self) -> bool:
        """Whether the bound is the recipe's own, and not its document's."""
        return self.source.startswith(OURS)

    @property
    def at(self) -> Time:
        """The time that is meant."""
        asked = None if self.when is None else Time.parse(self.when)
        return asked or Time(self.about.times[0])

    def gap(self, value: float) -> float:
        """How far a value lies above (positive) or below the range; 0 inside."""
        low, high = self.range
        if low is not None and value < low:
            return value - low
        return value - high if high is not None and value > high else 0.0
