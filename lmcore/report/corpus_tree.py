"""Where the texts of a corpus come from and what is left of them: raw, unique, without templates, kept, as a tree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmcore.report.corpus_card import Card, said
from lmcore.report.corpus_shapes import Column
from lmcore.report.words import count

STEPS = (("collected", "collected"), ("different", "unique"), ("non_template", "without templates"), ("kept", "kept"))


def tree_lines(card: Card) -> list[str]:
    """The whole corpus, and a branch for each source in the order of its table.

    A text that two sources have counts once in the line of all, and once in each branch.
    """
    whole = card.answers["counts"].numbers | {"collected": card.answers["counts"].numbers["raw"]}
    rows = card.answers["by-source"].rows
    names = [said(row["name"], Column("name", "", "text")) for row in rows]
    width = max(map(len, ["all sources", *(f"├─ {name}" for name in names)]))
    lines = [f"{'all sources':<{width}}  {_counts(whole)}"]
    for number, (name, row) in enumerate(zip(names, rows, strict=True), 1):
        mark = "└─" if number == len(rows) else "├─"
        lines.append(f"{f'{mark} {name}':<{width}}  {_counts(row)}")
    return lines


def _counts(numbers: Mapping[str, Any]) -> str:
    return " → ".join(f"{count(numbers[name])} {told}" for name, told in STEPS)
