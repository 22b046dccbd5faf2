"""Books that are plain text: Project Gutenberg's, Aozora Bunko's, and others."""

from __future__ import annotations

import re
from functools import cache

from lmcore.collect.book import FRONT, Book, Chapter
from lmcore.collect.book_aozora import aozora_book, is_aozora
from lmcore.collect.charset import clean, decode
from lmcore.collect.items import read_bytes
from lmcore.collect.unpack import Member, Unreadable, plain_name

FRONT_CHARS = 1_000  # text before the first chapter that is longer, in lines as long as prose has them, is read
FRONT_LINE = 45
SHORT = 200  # characters below which a section is an entry of the contents, or the name of a part
_START = re.compile(r"\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG[^*]{0,300}\*\*\*")
_END = re.compile(
    r"\*\*\* ?END OF (?:THE|THIS) PROJECT GUTENBERG|^End of (?:the |this )?Project Gutenberg",
    re.MULTILINE | re.IGNORECASE,
)
_SMALL_PRINT = re.compile(r"^\*END ?\*? ?THE SMALL PRINT![^\n]*$", re.MULTILINE)  # before 2003
_CREDITS = re.compile(
    r"(?:Produced by|E-?text prepared by|This e-?(?:book|text) was|Transcribed from|\[Illustration)", re.I
)
_HEADER = re.compile(r"^(Title|Author|Language):[ \t]*(\S[^\n]*)", re.MULTILINE)
_PART = "book|part|volume|act|könyv|rész|buch|teil"
_WORDS = f"chapter|chapitre|kapitel|capítulo|capitolo|fejezet|letter|stave|canto|scene|{_PART}"
_PARTS = re.compile(rf"\b(?:{_PART})\b", re.IGNORECASE)
_NUMBER = (
    r"[IVXLCDM]+|\d+|(?:the )?(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|"
    r"fifteen|sixteen|seventeen|eighteen|nineteen|twenty|first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|"
    r"tenth|last)"
)
_BEHIND = "fejezet|kapitel|könyv|rész|buch|teil"  # stand behind their number, which may be any one word
_HEADING = re.compile(
    rf"(?:(?:{_WORDS})\s+(?:{_NUMBER})\b.{{0,80}}|(?:[IVXLCDM]+|\d+)\.\s(?:{_BEHIND})\b.{{0,60}}|"
    rf"\w+\s(?:{_BEHIND})[.:]?|"
    r"(?:preface|foreword|introduction|prologue|epilogue|conclusion|afterword|appendix|előszó|utószó)\.?)",
    re.IGNORECASE,
)
_NUMERAL = re.compile(r"(?:[IVXLC]+|\d{1,3})\.?")


def read_text(member: Member, lang: str, *, keep_ruby: bool) -> Book:
    """The book that a text file is. Raises Unreadable."""
    decoded = decode(read_bytes(member.path), lang=lang)
    text = clean(decoded.text)
    about = {"charset": decoded.charset, "charset_source": decoded.source}
    name = plain_name(member.name).rpartition(".")[0]
    if is_aozora(text):
        return aozora_book(text, name, about, keep_ruby=keep_ruby)
    start = _START.search(text) or _SMALL_PRINT.search(text)
    if start is None:
        return Book(name, chapters(text), meta={"extractor": "text", **about})
    said = {found[1]: " ".join(found[2].split()) for found in reversed(list(_HEADER.finditer(text, 0, start.start())))}
    return Book(
        said.get("Title") or name,
        chapters(_between(text, start)),
        author=said.get("Author", ""),
        lang=_codes().get(said.get("Language", "").lower(), "und"),
        meta={"extractor": "gutenberg", **about},
    )


def _between(text: str, start: re.Match[str]) -> str:
    """A text of Project Gutenberg without its header, credits and licence."""
    end = _END.search(text, start.end())
    if end is None and start[0].startswith("***"):
        raise Unreadable("truncated", "begins as a text of Project Gutenberg and has no end mark")
    blocks = re.split(r"\n[ \t]*\n", text[start.end() : end.start() if end else len(text)].strip())
    while blocks and _CREDITS.match(blocks[0].strip()):
        del blocks[0]
    return "\n\n".join(blocks)


@cache
def _codes() -> dict[str, str]:
    """Codes of languages by their English names."""
    import babel

    return {name.lower(): code.replace("_", "-") for code, name in sorted(babel.Locale("en").languages.items())}


def chapters(text: str) -> list[Chapter]:
    """The chapters of a text, by lines that are headings, numbered from 1; the whole of it when it has none.

    What stands before the first is a chapter 0 if it is prose. A heading that comes again, with text, was in a table
    of contents; one of a part without text of its own goes before those of its chapters.
    """
    front, sections = _sections(text, _HEADING)
    if not sections:
        front, sections = _sections(text, _NUMERAL)
    if len(sections) < 2:
        return [Chapter("", "", text.strip())]
    found: list[Chapter] = []
    if front:
        lines = [line for line in front.split("\n") if line.strip()]
        prose = len(front) >= FRONT_CHARS and sum(map(len, lines)) >= FRONT_LINE * len(lines)
        found.append(Chapter(0, "", front) if prose else Chapter(0, problem=FRONT))
    again = {_label(title): place for place, (title, _) in enumerate(sections)}
    part = ""
    number = 0
    for place, (title, body) in enumerate(sections):
        if len(body) < SHORT and again[_label(title)] != place:
            continue
        if _PARTS.search(title[:30]):
            part = title
            if len(body) < SHORT:
                continue
        number += 1
        whole = title if title == part or not part else f"{part}, {title}"
        found.append(Chapter(number, whole, f"{title}\n\n{body}".strip()))
    return found or [Chapter("", "", text.strip())]


def _sections(text: str, heading: re.Pattern[str]) -> tuple[str, list[tuple[str, str]]]:
    """(what comes before the first heading, (heading, body) of each). A heading is a short block of its own."""
    front: list[str] = []
    sections: list[tuple[str, list[str]]] = []
    for block in re.split(r"\n[ \t]*\n", text):
        lines = block.strip("\n").split("\n")
        first = lines[0].strip()
        if len(lines) <= 3 and max(map(len, lines)) <= 90 and not first[:1].islower() and heading.fullmatch(first):
            sections.append((" ".join(block.split()), []))
        else:
            (sections[-1][1] if sections else front).append(block.strip("\n"))
    return "\n\n".join(front).strip(), [(title, "\n\n".join(body).strip()) for title, body in sections]


def _label(title: str) -> str:
    """A heading without the name that may follow it: `chapter i` of `CHAPTER I. Loomings.`."""
    return " ".join(re.findall(r"\w+", title.lower())[:2])
