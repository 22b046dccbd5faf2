"""Each claim with what was measured and what comes of it: reached, not reached, not comparable, not measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import TypeAdapter

from lmcore.expect.metrics import NotMeasured, Unit
from lmcore.expect.rows import Expectation
from lmcore.report.words import count, duration, percent, real, size

if TYPE_CHECKING:
    from lmcore.report.view import RunView

Verdict = Literal["reached", "not reached", "not comparable", "not measured"]
_ROWS: TypeAdapter[tuple[Expectation, ...]] = TypeAdapter(tuple[Expectation, ...])


@dataclass(frozen=True)
class Judged:
    """One claim, judged."""

    row: Expectation
    measured: float | None
    verdict: Verdict
    why: str = ""  # it is not comparable or not measured

    @property
    def metric(self) -> str:
        """Its name as people write it."""
        return self.row.metric.replace("_", " ")

    @property
    def claim(self) -> str:
        """The document's claim in words."""
        return said_range(self.row)

    @property
    def shown(self) -> str:
        """What was measured, in words."""
        return "–" if self.measured is None else said(self.measured, self.row.about.unit)

    @property
    def told(self) -> str:
        """The verdict with its reason."""
        return f"{self.verdict}: {self.why}" if self.why else self.verdict


def judge(view: RunView) -> list[Judged]:
    """Every claim of a run's recipe, in its order. Raises RunError for a damaged file."""
    from lmcore.expect.finished import Finished

    run = Finished(view)
    return [_judged(row, run) for row in _ROWS.validate_python(view.resolved.get("expect") or ())]


def _judged(row: Expectation, run: object) -> Judged:
    try:
        measured = row.about.find(run, row.at)  # type: ignore[arg-type]  # imported by `judge` alone, with pyarrow
    except NotMeasured as missing:
        return Judged(row, None, "not measured", str(missing))
    except KeyError as error:  # an artifact of an earlier version, without the figure
        return Judged(row, None, "not measured", f"the artifact does not have it: {error}")
    if not row.compare:
        return Judged(row, measured, "not comparable", row.reason)
    return Judged(row, measured, "not reached" if row.gap(measured) else "reached")


def summary(judged: Sequence[Judged]) -> str:
    """How many of the claims came to what, in one line, and after them the bounds that are the recipe's own."""
    claims, own = ([one for one in judged if one.row.ours == ours] for ours in (False, True))
    return "; ".join(part for part in (_counted(claims), f"ours: {_counted(own)}" if own else "") if part)


def _counted(judged: Sequence[Judged]) -> str:
    counts = {name: sum(one.verdict == name for one in judged) for name in Verdict.__args__}  # type: ignore[attr-defined]
    return ", ".join(f"{number} {name}" for name, number in counts.items() if number)


def said_range(row: Expectation) -> str:
    """A claim's range in words."""
    (low, high), unit = row.range, row.about.unit
    if low is None or high is None:
        return f"at most {said(high, unit)}" if low is None else f"at least {said(low, unit)}"
    return said(low, unit) if low == high else f"{said(low, unit)} to {said(high, unit)}"


def said(value: float | None, unit: Unit) -> str:
    """A figure as its unit is written."""
    if value is None:
        return "–"
    if unit == "number":
        return count(value)
    if unit == "bytes":
        return size(value)
    if unit == "share":
        return percent(value, 2)
    if unit == "rate":
        return f"{value:.4g}"
    if unit == "seconds":
        return duration(value)
    return real(value, 4 if unit in ("nats", "bits") else 3)
