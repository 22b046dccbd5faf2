"""Texts of Aozora Bunko: ruby in 《》, notes in ［＃］, letters that Shift_JIS does not have as notes behind ※.

The notation: https://www.aozora.gr.jp/annotation/
"""

from __future__ import annotations

import re

from lmcore.collect.book import Book, Chapter

UNKNOWN = "〓"  # what Japanese printers set for a letter they do not have
_RULE = re.compile(r"^-{20,}[ \t]*$", re.MULTILINE)
_COLOPHON = re.compile(r"^底本：", re.MULTILINE)
_RUBY = re.compile(r"《([^《》\n]*)》")
_LETTER = re.compile(r"※［＃([^［］\n]*)］")
_UNICODE = re.compile(r"U\+([0-9A-Fa-f]{4,6})")
_PLACE = re.compile(r"(?<!\d)([12])-(\d{1,2})-(\d{1,2})(?!\d)")  # plane, row and cell of JIS X 0213
_HEADING = re.compile(r"［＃[^［］\n]*?([大中小])見出し")
_NOTE = re.compile(r"［＃[^［］\n]*］")
NESTED = 5  # notes in notes


def is_aozora(text: str) -> bool:
    """Whether a text has Aozora's notation."""
    return "［＃" in text or (_COLOPHON.search(text) is not None and "《" in text)


def aozora_book(text: str, name: str, about: dict[str, str], *, keep_ruby: bool) -> Book:
    """The book: title and author from its first lines, chapters by its headings, without its colophon."""
    colophon = _COLOPHON.search(text)
    text = text[: colophon.start()] if colophon else text
    head, _, body = text.strip("\n").partition("\n\n")
    lines = [_plain(line, keep_ruby=False) for line in head.split("\n") if line.strip()]
    if len(lines) > 6 or not body:  # no page of a title
        lines, body = [], text
    body = _without_notice(body)
    authors = [line for line in lines[1:] if not line.endswith("訳")]
    return Book(
        lines[0] if lines else name,
        _chapters(body, keep_ruby),
        author=authors[-1] if authors else "",
        lang="ja",
        meta={"extractor": "aozora", **about},
    )


def _without_notice(body: str) -> str:
    """Without the notice on the notation, between two rules at the top."""
    rules = list(_RULE.finditer(body))[:2]
    if len(rules) == 2 and not body[: rules[0].start()].strip() and "記号" in body[rules[0].end() : rules[1].start()]:
        return body[rules[1].end() :]
    return body


def _chapters(body: str, keep_ruby: bool) -> list[Chapter]:
    """Chapters by the large and middle headings, or else by the small ones; one when there are none."""
    lines = body.split("\n")
    levels = _levels(lines)
    chosen = {"大", "中"} if {"大", "中"} & set(levels) else {"小"}
    sections: list[tuple[str, list[str]]] = [("", [])]
    for level, line in zip(levels, lines, strict=True):
        said = _plain(line, keep_ruby=keep_ruby)
        if level in chosen and said:
            if sections[-1][0] and not "".join(sections[-1][1]).strip():  # a heading right under a larger one
                sections[-1] = (f"{sections[-1][0]} {said}", [])
            else:
                sections.append((said, []))
        else:
            sections[-1][1].append(said)
    if len(sections) == 1:
        return [Chapter("", "", _joined(sections[0][1]))]
    found = [Chapter(number, title, f"{title}\n\n{_joined(text)}") for number, (title, text) in enumerate(sections)]
    return found[1:] if not _joined(sections[0][1]) else [Chapter(0, "", _joined(sections[0][1])), *found[1:]]


def _levels(lines: list[str]) -> list[str]:
    """大, 中 or 小 for the lines that are headings, by a note on the line or on one before; "" for the others."""
    levels = []
    block = ""
    for line in lines:
        noted = _HEADING.search(line)
        if noted and "ここから" in noted[0]:
            block = noted[1]
        levels.append(noted[1] if noted else block)
        if noted and "ここで" in noted[0]:
            block = ""
    return levels


def _joined(lines: list[str]) -> str:
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _plain(line: str, *, keep_ruby: bool) -> str:
    """A line without its notation. Ruby first: what is 《 in the book itself is a note here."""
    line = _RUBY.sub(r"（\1）" if keep_ruby else "", line).replace("｜", "")
    line = _LETTER.sub(_letter, line)
    for _ in range(NESTED):
        line = _NOTE.sub("", line)
    return line.strip()


def _letter(note: re.Match[str]) -> str:
    """The letter that a note describes, by its Unicode or its place in JIS X 0213."""
    named = _UNICODE.search(note[1])
    if named and int(named[1], 16) < 0x110000 and not 0xD800 <= int(named[1], 16) < 0xE000:
        return chr(int(named[1], 16))
    place = _PLACE.search(note[1])
    if place:
        plane, row, cell = (int(number) for number in place.groups())
        if row <= 94 and cell <= 94:
            packed = (b"\x8f" if plane == 2 else b"") + bytes([0xA0 + row, 0xA0 + cell])
            return packed.decode("euc_jis_2004", "replace").replace("\ufffd", UNKNOWN)
    return UNKNOWN
