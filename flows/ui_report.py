"""The end of a run in Prefect: one page with what was built, what became of the model, and what to type next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lmcore.expect.verdicts import Judged, summary
from lmcore.report import RunView
from lmcore.report.words import clip, duration
from tasks.prefect_ui import Page
from tasks.progress import say
from tasks.ui_markdown import escaped, fenced, table
from tasks.words import summarise

LETTERS = 66  # of what a stage's metrics say: as many as a window of 1400 pixels shows


def show_run(view: RunView, report: Path) -> None:
    """Show a run that has ended, and where its report lies."""
    release = view.registry.release(view.release) if view.registry and view.release is not None else None
    stages = [
        (
            f"{row.stage} {row.name}".strip(),
            row.state,
            duration(row.seconds),
            clip(summarise(dict(row.metrics)), LETTERS),
        )
        for row in view.stages
    ]
    parts = []
    if release is not None and view.registry is not None:
        champion = "is the champion" if view.registry.champion == release.number else "is not the champion"
        parts = [f"**{escaped(view.recipe)}@{release.number}** {champion}: {escaped(release.reason)}"]
    Page("report", "What the run has built, and what to do next", say).show(
        f"{view.recipe}, edition {view.edition}: done in {duration(view.seconds)}",
        *parts,
        table(("stage", "state", ">time", "what it says"), stages),
        *claims_parts(view.claims),
        "The whole report, with its charts, on the worker's machine:",
        fenced(str(report)),
        "Next, there:",
        fenced("\n".join(view.next_commands)),
    )


def claims_parts(claims: Sequence[Judged]) -> list[str]:
    """What a document claims of the system, judged: a heading and a table; nothing without claims."""
    if not claims:
        return []
    headings = ("metric", "when", ">claimed", ">measured", "verdict", "where it is claimed")
    rows = [
        (one.metric, one.row.at, one.claim, one.shown, clip(one.told, LETTERS), clip(one.row.source, LETTERS))
        for one in claims
    ]
    return [f"### What its document claims: {summary(claims)}", table(headings, rows)]
