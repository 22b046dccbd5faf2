"""Markdown for Prefect's pages, in which no text but ours becomes markup, a link or a picture.

Prefect renders markdown with GitHub's extensions, so that even a bare address becomes a link. Running text that is not
ours (of pages, of models, of recipes) goes into `fenced`, short words into `escaped`.
"""

from __future__ import annotations

import base64
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from lmcore.report.words import clean

COLUMNS = 94  # of a block of code in a window of 1400 pixels, beside what Prefect puts to its left and right

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")  # all of ASCII's; a backslash before one of them makes it plain text
_WRAPPER = textwrap.TextWrapper(
    COLUMNS, drop_whitespace=False, replace_whitespace=False, break_on_hyphens=False, expand_tabs=False
)
_FIGURE = re.compile(r"[\d.,+–-]+( ?[A-Za-z%]+)?")  # needs no backslashes


def escaped(value: Any) -> str:
    """Any value as plain text in one line of a paragraph, a heading or a cell of a table."""
    text = " ".join(clean(str(value)).split())
    return text if _FIGURE.fullmatch(text) else _PUNCTUATION.sub(r"\\\1", text)


def fenced(text: str) -> str:
    """A text as a block of code, its lines as they are."""
    body = clean(text.replace("\r\n", "\n").replace("\r", "\n"))
    longest = max((len(run) for run in re.findall("`+", body)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{body}\n{fence}"


def wrapped(text: str) -> str:
    """A text with its long lines broken at spaces, to be read without scrolling; nothing is left out."""
    return "\n".join("\n".join(_WRAPPER.wrap(line)) for line in text.split("\n"))


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table of plain texts; a column whose heading begins with > is set to the right. Empty without rows."""
    lines = [_row(escaped(cell) for cell in row) for row in rows]
    if not lines:
        return ""
    names = _row(escaped(heading.removeprefix(">")) for heading in headings)
    rule = _row("---:" if heading.startswith(">") else "---" for heading in headings)
    return "\n".join([names, rule, *lines])


def picture(title: str, svg: str) -> str:
    """An SVG document as a picture that is part of the text."""
    return f"![{escaped(title)}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def page(*parts: str) -> str:
    """The parts that are not empty, as paragraphs."""
    return "\n\n".join(part for part in parts if part) + "\n"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
