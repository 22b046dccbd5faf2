"""`collect-train card`: all about a corpus on one page."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.text import Text

from flows.corpora import corpus_of
from lmcore.report.corpus_card import make_card, write_card
from lmcore.report.corpus_tree import tree_lines
from lmcore.report.words import count, percent, size
from storage.errors import UserError
from storage.store import Store


def show_card(store: Store, name: str, out: Path, console: Console) -> None:
    """Write the card of a corpus to `out` and say the four counts, of all and by source.

    Raises UserError for what is no corpus.
    """
    if out.is_dir():
        raise UserError(f"{out} is a folder", "name the file to write, such as corpus.html")
    card = make_card(corpus_of(store, name))
    write_card(out, card)
    counts = card.answers["counts"].numbers
    for column, label in (
        ("raw", "collected"),
        ("different", "unique"),
        ("non_template", "unique, no template"),
        ("kept", "kept"),
    ):
        share = counts.get(f"{column}_share")
        console.print(
            Text(f"{count(counts[column]):>12}  {label}" + ("" if share is None else f" ({percent(share, 1)})"))
        )
    for line in tree_lines(card):
        console.print(Text(line), soft_wrap=True)
    console.print(Text(f"{size(counts['kept_bytes'])} of text; the card: {out}"))
