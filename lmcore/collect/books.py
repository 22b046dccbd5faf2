"""Books: EPUB, and texts of Project Gutenberg, Aozora Bunko and others. A record is a chapter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import Field

from lmcore.collect.book import Book
from lmcore.collect.charset import clean
from lmcore.collect.items import Item, Read
from lmcore.collect.params import PathsSource, TextKind
from lmcore.collect.unpack import Member


class BooksSource(PathsSource):
    """Books as EPUB or text."""

    kind: Literal["books"] = Field(default="books", description="Books, a record a chapter.")
    text_kind: TextKind = Field(default="prose", description="What kind of text this is.")
    min_chars: int = Field(default=100, ge=1, description="Characters below which a chapter is no record.")
    ruby: Literal["base", "both"] = Field(
        default="base", description="Of words with their reading beside them (furigana): the word, or 漢字（かんじ）."
    )


def items(book: Book) -> Iterator[Item]:
    """The records of a book; all of them stay in one split."""
    tags = {"work": clean(book.title)} | ({"author": clean(book.author)} if book.author else {})
    for chapter in book.chapters:
        if chapter.problem:
            yield Item(chapter.part, problem=chapter.problem)
            continue
        title = clean(chapter.title) or tags["work"]
        yield Item(chapter.part, clean(chapter.text), title, lang=book.lang, origin="", tags=tags, meta=book.meta)


def _read_epub(member: Member, params: BooksSource) -> Iterator[Item]:
    from lmcore.collect.book_epub import read_epub  # with the libraries of books, which a recipe does without

    yield from items(read_epub(member, params.max_bytes, keep_ruby=params.ruby == "both"))


def _read_text(member: Member, params: BooksSource) -> Iterator[Item]:
    from lmcore.collect.book_text import read_text

    yield from items(read_text(member, params.lang, keep_ruby=params.ruby == "both"))


FORMATS: Mapping[str, Read] = {".epub": _read_epub, ".txt": _read_text}
