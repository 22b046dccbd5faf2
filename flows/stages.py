"""Which stages a run builds. Knows no Prefect, so that a mistake is told before anything starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from storage.errors import UserError
from storage.store import STAGES

if TYPE_CHECKING:
    from tasks.step import Mode


class Finished(Exception):
    """The run has come to the last stage that was asked for."""


@dataclass
class Range:
    """Which stages a run builds: those before `first` must be there already, those after `last` are left out."""

    first: str = STAGES[0]
    last: str = STAGES[-1]

    def __post_init__(self) -> None:
        for stage in (self.first, self.last):
            if stage not in STAGES:
                raise UserError(f"there is no stage {stage!r}", f"the stages are {', '.join(STAGES)}")
        if STAGES.index(self.first) > STAGES.index(self.last):
            raise UserError(f"--from {self.first} comes after --until {self.last}", f"the order is {', '.join(STAGES)}")

    def reaches(self, stage: str) -> bool:
        """Whether the run comes as far as a stage."""
        return STAGES.index(stage) <= STAGES.index(self.last)

    def mode(self, stage: str) -> Mode:
        """How to run a stage. Raises Finished past the last one."""
        if not self.reaches(stage):
            raise Finished
        return "build" if STAGES.index(stage) >= STAGES.index(self.first) else "reuse"
