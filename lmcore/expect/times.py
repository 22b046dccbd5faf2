"""When in a run a claim holds: `start`, `end`, `epoch 3`, `step 100`, `after stage 2`, `after stage curate`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["start", "end", "epoch N", "step N", "after stage N", "after stage collect", "after stage curate"]
TIME = re.compile(r"(start|end|after stage (?:collect|curate))|(epoch|step|after stage) ([1-9][0-9]{0,17})")


@dataclass(frozen=True)
class Time:
    """A moment of a run; `number` is that of the epoch, the step or the stage of `train.stages`, from 1."""

    kind: Kind
    number: int = 0

    @classmethod
    def parse(cls, text: str) -> Time | None:
        """The moment that a text names, None when it is none."""
        found = TIME.fullmatch(text)
        if found is None:
            return None
        if found[1]:
            return cls(found[1])  # type: ignore[arg-type]  # one of the three by the pattern
        return cls(f"{found[2]} N", int(found[3]))  # type: ignore[arg-type]

    def __str__(self) -> str:
        return self.kind.replace("N", str(self.number)) if self.number else self.kind
