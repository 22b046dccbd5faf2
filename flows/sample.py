"""`collect-train sample`: some texts that a corpus keeps, or that one rule dropped, with what it measured."""

# ruff: noqa: S608  what is written into a query is a key, a number, or a name that is known by then

from __future__ import annotations

import difflib

from rich.console import Console
from rich.text import Text

from flows.corpora import corpus_of
from lmcore.curate.privacy import blank
from lmcore.curate.shown import shown_texts
from storage.catalog import Catalog
from storage.errors import UserError
from storage.store import Store
from storage.text import number, printable

LETTERS = 1_000  # of a text

_DROPPED = """
SELECT record_id, url, rule, value, threshold, other FROM decisions
WHERE artifact = '{key}' AND verdict = 'dropped' AND rule = '{rule}'
ORDER BY md5(concat(record_id, ' {seed}')), record_id LIMIT {n}"""
_KEPT = """
SELECT record_id, url, split, quality, complexity FROM curated
WHERE artifact = '{key}' AND split = '{split}'
ORDER BY md5(concat(record_id, ' {seed}')), record_id LIMIT {n}"""


def show_sample(store: Store, name: str, console: Console, *, dropped: str, split: str, n: int, seed: int) -> None:
    """Print `n` texts, masked; equal seeds give equal texts of a corpus.

    Raises UserError, naming the nearest, for a rule that dropped nothing or is none, and for an unknown split.
    """
    corpus = corpus_of(store, name)
    catalog = Catalog(store)
    if dropped:
        _check_rule(catalog, corpus.key, dropped)
        sql = _DROPPED.format(key=corpus.key, rule=dropped.replace("'", "''"), seed=seed, n=n)
    else:
        if split not in ("train", "val", "test"):
            raise UserError(f"there is no split {split!r}", "the splits are train, val and test")
        sql = _KEPT.format(key=corpus.key, split=split, seed=seed, n=n)
    rows = catalog.query(sql).to_pylist()
    texts = shown_texts(corpus, [row["record_id"] for row in rows], LETTERS)
    for row in rows:
        console.print(Text(printable(blank(row["url"])), style="bold"), soft_wrap=True)
        facts = {name: value for name, value in row.items() if name not in ("record_id", "url") and value is not None}
        facts = {"limit" if name == "threshold" else name: value for name, value in facts.items()}
        told = (
            f"{name} {number(value)}" if isinstance(value, float) else f"{name} {value}"
            for name, value in facts.items()
        )
        console.print(Text(f"{row['record_id']}  " + ", ".join(told), style="dim"), soft_wrap=True)
        text = texts.get(row["record_id"], "(its text is not in the store any more)")
        console.print(Text(printable(text) + "\n"), soft_wrap=True)
    if not rows:
        console.print(Text(f"curate/{corpus.key[:12]} keeps no text in {split}"))


def _check_rule(catalog: Catalog, key: str, rule: str) -> None:
    """Raises UserError unless this rule dropped texts of the corpus."""
    sql = (
        f"SELECT rule, count(*) AS texts FROM decisions WHERE artifact = '{key}' AND verdict = 'dropped' GROUP BY rule"
    )
    found = {row["rule"]: row["texts"] for row in catalog.query(f"{sql} ORDER BY texts DESC, rule").to_pylist()}
    if rule in found:
        return
    known = catalog.query(f"SELECT DISTINCT rule FROM trips WHERE artifact = '{key}'")["rule"].to_pylist()
    listed = f"those that did: {', '.join(found) or 'none'}"
    if rule in known:
        raise UserError(f"the rule {rule} dropped no text of curate/{key[:12]}", listed)
    near = difflib.get_close_matches(rule, found, 1)
    raise UserError(
        f"no rule {rule[:80]!r} dropped a text of curate/{key[:12]}",
        f"did you mean {near[0]}? {listed}" if near else listed,
    )
