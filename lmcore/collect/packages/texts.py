"""What the conversions share: rows of a set, lines joined to pages, markup, personal data and copies taken out.

A row is a JSON object for a `.jsonl` set, or {"name": FILE, "text": TEXT} for one that is an archive of texts.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from lmcore.collect.charset import clean
from storage.digest import canonical_json

Row = dict[str, Any]
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_BLANKS = re.compile(r"\s+")
_SHORT_LINE = 20  # characters below which a line may stand in many texts
_AT_ONCE = 500  # rows whose personal data is looked for together


def one_line(text: str) -> str:
    """A text of an interface without its tags, on one line."""
    return _BLANKS.sub(" ", html.unescape(_TAG.sub(" ", text))).strip()


def pages(lines: Iterable[str], chars: int) -> Iterator[str]:
    """Lines, each once, joined to texts of at most so many characters (a longer line stands alone)."""
    page: list[str] = []
    size = 0
    for line in dict.fromkeys(lines):
        if page and size + len(line) > chars:
            yield "\n".join(page)
            page, size = [], 0
        page.append(line)
        size += len(line) + 1
    if page:
        yield "\n".join(page)


def without_repeated_lines(texts: Iterable[str]) -> Iterator[str]:
    """Each text without the longer lines that stood in one before; empty where nothing is left."""
    seen: set[str] = set()
    for text in texts:
        kept = []
        for line in text.split("\n"):
            bare = line.strip()
            if len(bare) < _SHORT_LINE or bare not in seen:
                kept.append(line)
                seen.add(bare)
        yield re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()


def tidied(rows: Iterable[Row], *, drop_personal: bool) -> Iterator[Row]:
    """Rows cleaned, each once, with personal data masked as curation masks it, or without the rows that hold any."""
    seen: set[str] = set()
    waiting = iter(rows)
    while batch := list(islice(waiting, _AT_ONCE)):
        cleaned = [_walk(row, clean) for row in batch]
        for before, after in zip(cleaned, _masked(cleaned), strict=True):
            if drop_personal and before != after:
                continue
            if (form := canonical_json(after)) not in seen:
                seen.add(form)
                yield after


def _masked(rows: list[Row]) -> list[Row]:
    """The rows with every string of theirs masked."""
    from lmcore.curate.privacy import PrivacyParams, mask

    strings: list[str] = []
    for row in rows:
        _walk(row, strings.append)
    masked = iter(mask(strings, PrivacyParams()).texts)
    return [_walk(row, lambda _: next(masked)) for row in rows]


def _walk(value: Any, done: Callable[[str], Any]) -> Any:
    """A value with each of its strings replaced by what `done` makes of it."""
    if isinstance(value, str):
        return done(value)
    if isinstance(value, dict):
        return {key: _walk(inner, done) for key, inner in value.items()}
    if isinstance(value, list):
        return [_walk(inner, done) for inner in value]
    return value
