"""A recipe's claims (`expect:`) on the terminal: judged at the end of a run, and what its settings alone tell."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lmcore.expect.metrics import Unit
from lmcore.expect.rows import PLANNED, Expectation
from lmcore.expect.verdicts import Judged, said, said_range, summary
from lmcore.recipe import Recipe
from storage.text import printable

STYLES = {"reached": "green", "not reached": "yellow"}


def claims_table(judged: Sequence[Judged]) -> Table:
    """The claims of a run that has ended, and what comes of each."""
    table = Table(title=f"what its document claims: {summary(judged)}", title_justify="left")
    for name in ("metric", "when"):
        table.add_column(name)
    for name in ("claimed", "measured"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for one in judged:
        verdict = Text(printable(one.told), style=STYLES.get(one.verdict, ""))
        claim = f"{one.claim} (ours)" if one.row.ours else one.claim
        table.add_row(one.metric, str(one.row.at), claim, one.shown, verdict)
    return table


def show_claims(recipe: Recipe, console: Console) -> None:
    """Print the claims that follow from a recipe's settings beside what these give, with the differences itemised."""
    rows = [row for row in recipe.expect if row.metric in PLANNED]
    if not rows:
        return
    from lmcore.expect.planned import Planned

    planned = Planned(recipe)
    table = Table(title="what its document claims, and what these settings give", title_justify="left")
    for name in ("metric", "when"):
        table.add_column(name)
    for name in ("claimed", "here", "difference"):
        table.add_column(name, justify="right")
    table.add_column("where it is claimed")
    for row in rows:
        value = planned.value(row.metric, row.at)
        name, unit = row.metric.replace("_", " "), row.about.unit
        cells = (said_range(row), said(value, unit), _off(row, value))
        table.add_row(name, str(row.at), *cells, Text(printable(row.source)))
        after = value
        for step in planned.differences(row):
            after = step.value
            what = Text(printable("  with " + ", ".join(step.settings) + (f": {step.why}" if step.why else "")))
            table.add_row("", "", "", said(after, unit), "" if step.by is None else _signed(step.by, unit), what)
        if row.differences and after is not None:
            rest = row.gap(after)
            told = "  which is what it claims" if not rest else "  and still off by this"
            table.add_row("", "", "", "", _signed(rest, unit) if rest else "", told)
        if row.note:
            table.add_row("", "", "", "", "", Text(printable(f"  note: {row.note}")))
        if not row.compare:
            table.add_row("", "", "", "", "", Text(printable(f"  not comparable: {row.reason}")))
    console.print(table)


def in_range(recipe: Recipe) -> str:
    """How many of the claims about settings hold, such as "2 of 3 in range"; empty without any."""
    rows = [row for row in recipe.expect if row.metric in PLANNED and row.compare]
    if not rows:
        return ""
    from lmcore.expect.planned import Planned

    planned = Planned(recipe)
    values = [(row, planned.value(row.metric, row.at)) for row in rows]
    known = [row.gap(value) == 0 for row, value in values if value is not None]
    return f"{sum(known)} of {len(known)} in range" if known else "known when it is collected"


def _off(row: Expectation, value: float | None) -> str:
    """How far a value is from its range, in words."""
    if value is None:
        return "known when it is collected"
    return _signed(gap, row.about.unit) if (gap := row.gap(value)) else "in range"


def _signed(by: float, unit: Unit) -> str:
    return f"{'+' if by > 0 else '−'}{said(abs(by), unit)}" if by else "0"
