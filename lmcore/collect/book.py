"""A book as its readers give it: what it says of itself, and its chapters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

FRONT = "cover, contents, title or copyright page"


@dataclass(frozen=True)
class Chapter:
    """A chapter, or the `problem` that there is in its place."""

    part: str | int
    title: str = ""
    text: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Book:
    """What a book says of itself."""

    title: str
    chapters: list[Chapter]
    author: str = ""
    lang: str = "und"
    meta: dict[str, Any] = field(default_factory=dict)
