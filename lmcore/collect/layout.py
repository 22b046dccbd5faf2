"""How text runs on a page: which elements begin a line of their own, and what becomes of white space."""

from __future__ import annotations

import re

BLOCKS = frozenset(
    re.findall(
        r"\w+",
        "address article aside blockquote br dd div dl dt fieldset figcaption figure footer h1 h2 h3 h4 h5 h6 header hr"
        " li main ol p pre section table td th tr ul",
    )
)
WHITE = re.compile(r"\s+")
_GAPS = re.compile(r"\n{3,}")


def tidy_text(text: str) -> str:
    """No white space at line ends, no more than one empty line in a row, none around the text."""
    lines = [line.rstrip() for line in text.replace("\xa0", " ").split("\n")]
    return _GAPS.sub("\n\n", "\n".join(lines)).strip()


def one_line(text: str) -> str:
    """Text with every run of white space as one space: a title, as a rule, at most 500 characters of it."""
    return " ".join(text.split())[:500]


def full_lines(parts: list[str]) -> str:
    """Pieces of text put together, every line without spare white space, empty lines left out."""
    lines = (" ".join(line.split()) for line in "".join(parts).split("\n"))
    return "\n".join(line for line in lines if line)
