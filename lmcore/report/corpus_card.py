"""The corpus card: what a corpus holds, what was dropped and why, every number with the query that gives it.

One HTML page like the report of a run: no script, nothing fetched, every text escaped, personal data masked.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from lmcore.curate.privacy import blank
from lmcore.curate.shown import shown_texts
from lmcore.report import words
from lmcore.report.charts import Chart, bar, stacked
from lmcore.report.corpus_queries import Queries
from lmcore.report.corpus_shapes import SIGNALS, Column, Query
from lmcore.report.page import POLICY, environment, packaged
from storage.atomic import write_text
from storage.catalog import Catalog
from storage.errors import UserError
from storage.store import Artifact

LETTERS = 400  # of an example
_SHOWN = {"count": words.count, "size": words.size, "percent": lambda n: words.percent(n, 1), "plain": words.plain}


@dataclass(frozen=True)
class Answer:
    """A query with its rows."""

    query: Query
    rows: Sequence[dict[str, Any]]
    chart: Chart | None = None  # in place of a table

    @property
    def numbers(self) -> dict[str, Any]:
        """The first row."""
        return dict(self.rows[0])

    def cell(self, row: dict[str, Any], column: Column) -> Markup:
        """One value as the page shows it; `<data>` has it in full."""
        value = row[column.name]
        text = said(value, column)
        if column.show in ("text", "ours"):
            return escape(words.clean(text))
        exact = "" if value is None else repr(value)
        return Markup('<data value="{}">{}</data>').format(exact, text)

    def bar(self, row: dict[str, Any], column: Column) -> Markup:
        """The bar of a share."""
        return bar(float(row[column.name] or 0))


@dataclass(frozen=True)
class Card:
    """All that a card tells of a corpus."""

    name: str
    answers: dict[str, Answer]
    histograms: Sequence[Answer]
    texts: dict[str, str] = field(default_factory=dict)  # of the examples, by record id


def said(value: Any, column: Column) -> str:
    """A value as the card says it. What comes from outside is masked."""
    if column.show == "text":
        return words.clip(blank(str(value or "")), 200)
    if column.show == "ours":
        return words.MISSING if value is None else str(value)
    return _SHOWN[column.show](value)


def make_card(corpus: Artifact, name: str = "", catalog: Catalog | None = None) -> Card:
    """Ask the store all that the card of a corpus tells; `name` is what it is called, without one its sources.

    Raises UserError for an artifact that is no corpus of this version, RunError for a damaged file.
    """
    catalog = catalog or Catalog(corpus.store)
    queries = Queries(corpus.key)
    with_tokens = bool(_ask(catalog, queries.tokens()).rows)
    answers = {query.name: _ask(catalog, query) for query in queries.tables(with_tokens=with_tokens)}
    if not answers["about"].rows or answers["about"].numbers["batch"] is None:
        raise UserError(
            f"{corpus.stage}/{corpus.key[:12]} is no corpus that a card can be made of",
            "name a curate artifact of this version: `collect-train status` lists them",
        )
    histograms = []
    for signal in SIGNALS:
        answer = _ask(catalog, queries.histogram(signal))
        parts = {"kept": 1} if signal.view == "curated" else {"kept": 1, "dropped": 2}
        chart = _chart(answer, parts, signal.low, signal.high, signal.bins, signal.over)
        if chart:
            histograms.append(Answer(answer.query, answer.rows, chart))
    likeness = _ask(catalog, queries.likeness())
    chart = _chart(likeness, {"pairs": 3}, 0.5, 1.0, 10, "Jaccard similarity of their word 5-shingles")
    answers["likeness"] = Answer(likeness.query, likeness.rows, chart)
    records = [row["record_id"] for row in answers["examples"].rows]
    sources = words.listed([said(row["name"], Column("name", "", "text")) for row in answers["by-source"].rows[:4]])
    texts = shown_texts(corpus, records, LETTERS)
    tight = {record: re.sub(r"\n\s*\n", "\n", text.strip()) for record, text in texts.items()}
    return Card(name or sources or "nothing", answers, histograms, tight)


def write_card(path: Path, card: Card, report: str = "") -> None:
    """Write the page to `path`, atomically; `report` is the page of the run beside it, if there is one.

    Raises StorageError for a disk that refuses.
    """
    write_text(path, render_card(card, report))


def render_card(card: Card, report: str = "") -> str:
    """The page as text."""
    style = packaged("report.css") + packaged("corpus.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    page = (
        environment()
        .get_template("corpus.html.j2")
        .render(
            style=Markup(style),  # noqa: S704  this file is ours
            policy=POLICY.format(digest=digest),
            card=card,
            ask=card.answers,
            report=report,
        )
    )
    return page + "\n"


def _ask(catalog: Catalog, query: Query) -> Answer:
    return Answer(query, catalog.query(query.sql).to_pylist())


def _chart(answer: Answer, parts: dict[str, int], low: float, high: float, bins: int, over: str) -> Chart | None:
    """The bars of an answer with a column `bin`; `parts`: columns on each other, with the number of their colour."""
    stacks = []
    for name, colour in parts.items():
        counts = np.zeros(bins, np.int64)
        for row in answer.rows:
            counts[row["bin"]] = row[name]
        stacks.append((name, counts, colour))
    return stacked(answer.query.title, stacks, low, high, over)
