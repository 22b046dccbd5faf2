"""What a reader takes out of one plain file: the texts in it, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmcore.collect.unpack import Member, Unreadable


@dataclass(frozen=True)
class Item:
    """One text of a file, or the `problem` that there is in its place.

    `part` names it within the file ("" for a file that is one text) and ends its URL; a number counts rows from 1.
    Texts of one `origin` (of a file) are never divided between training and validation: None is the text alone, ""
    all of the file. `turns` are (role, text) in order, each found in `text` in that order.
    """

    part: str | int = ""
    text: str = ""
    title: str = ""
    problem: str = ""
    lang: str = "und"
    kind: str = ""  # "" is the source's text_kind
    license: str = ""  # "" is the source's
    origin: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    turns: tuple[tuple[str, str], ...] | None = None
    meta: dict[str, Any] = field(default_factory=dict)


# A reader of one format: the plain file and the source's settings in, its texts out. Raises Unreadable before the
# first item when the file as a whole is damaged; a bad row of a good file is an Item with a `problem`.
Read = Callable[[Member, Any], Iterator[Item]]


def read_bytes(path: Path) -> bytes:
    """The whole file. Raises Unreadable."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Unreadable.of(error) from error
