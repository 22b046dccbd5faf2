"""Sets of LibreOffice, Chromium, Wikipedia and the Declaration of Human Rights."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from lmcore.collect.packages.fiction import Members
from lmcore.collect.packages.formats import catalogue, pak_strings
from lmcore.collect.packages.texts import Row, one_line, pages, without_repeated_lines
from lmcore.collect.unpack import Member

PAGE_CHARS = 2_000
_ETHIOPIC = re.compile(r"[\u1200-\u139f\u2d80-\u2ddf\uab00-\uab2f]")
_LATIN = re.compile(r"[A-Za-z]")
_MNEMONIC = re.compile(r"~|_(?=[\u1200-\u139f])")  # marks the letter that a key chooses
_FORMS = re.compile(r", ?(?:plural|select|selectordinal),")  # several texts in one, with the rule that chooses
_SHORTEST_PAIR = 20  # characters of the English side: below it are labels
_SHORTEST_HELP = 200  # characters of a page


def help_pages(members: Members) -> Iterator[Row]:
    """The pages of LibreOffice's help in Hungarian, without those that were left in English."""
    hungarian, english = members
    there = {_page(member): dict(_paragraphs(member)) for member in english}
    found = []
    for member in hungarian:
        parts = _paragraphs(member)
        left = there.get(_page(member), {})
        texts = [text for name, text in parts if left.get(name) != text]
        if parts and len(texts) > len(parts) / 2:
            found.append("\n".join(texts))
    for text in without_repeated_lines(found):
        if len(text) >= _SHORTEST_HELP:
            yield {"title": text.split("\n")[0][:200], "text": text}


def help_pairs(members: Members) -> Iterator[Row]:
    """Paragraphs of that help with the English ones they were translated from."""
    hungarian, english = members
    there = {_page(member): dict(_paragraphs(member)) for member in english}
    seen = set()
    for member in hungarian:
        left = there.get(_page(member), {})
        for name, text in _paragraphs(member):
            source = left.get(name, "")
            if len(source) >= _SHORTEST_PAIR and source != text and source not in seen:
                seen.add(source)
                yield {"en": source, "hu": text}


def _page(member: Member) -> str:
    """What both languages call a page: its path within the folder of the language."""
    return "/".join(PurePosixPath(member.inside).parts[-3:])


def _paragraphs(member: Member) -> list[tuple[str, str]]:
    """(name, text) of the headings and paragraphs of a page of help."""
    from selectolax.lexbor import LexborHTMLParser

    page = LexborHTMLParser(member.path.read_text(encoding="utf-8"))
    found = []
    for node in page.css("#DisplayArea h1, #DisplayArea h2, #DisplayArea h3, #DisplayArea h4, #DisplayArea p"):
        name = node.attributes.get("id") or ""
        text = " ".join(node.text().split())
        if name.startswith(("hd_", "par_")) and text:
            found.append((name, text))
    return found


def office_amharic(members: Members) -> Iterator[Row]:
    """What LibreOffice says in Amharic, by part of the program, as many messages to a text as fit."""
    (catalogues,) = members
    seen: set[str] = set()
    for member in catalogues:
        lines = [_MNEMONIC.sub("", one_line(text)) for _, text in catalogue(member.path)]
        lines = [line for line in lines if _is_amharic(line) and line not in seen]
        seen.update(lines)
        for text in pages(lines, PAGE_CHARS):
            yield {"text": text}


def browser_amharic(members: Members) -> Iterator[Row]:
    """What Chromium says in Amharic, in its order, as many messages to a text as fit."""
    ((amharic,),) = members
    lines = (one_line(text) for _, text in sorted(pak_strings(amharic.path).items()))
    for text in pages((line for line in lines if _is_amharic(line)), PAGE_CHARS):
        yield {"text": text}


def browser_pairs(members: Members) -> Iterator[Row]:
    """What Chromium says in English and in Amharic."""
    ((amharic, english),) = members
    left = pak_strings(english.path)
    seen = set()
    for number, text in sorted(pak_strings(amharic.path).items()):
        source, target = one_line(left.get(number, "")), one_line(text)
        if source and source not in seen and source != target and _is_amharic(target):
            seen.add(source)
            yield {"en": source, "am": target}


def _is_amharic(text: str) -> bool:
    """Whether it is one text with mostly Ethiopic letters; one of these is a syllable, so it weighs as two."""
    letters = 0 if _FORMS.search(text) else len(_ETHIOPIC.findall(text))
    return letters >= 3 and 2 * letters >= len(_LATIN.findall(text))


def declaration(members: Members) -> Iterator[Row]:
    """The Universal Declaration of Human Rights, an article a text."""
    from selectolax.lexbor import LexborHTMLParser

    ((page,),) = members
    for article in LexborHTMLParser(page.path.read_text(encoding="utf-8")).css("article"):
        parts = [" ".join(node.text().split()) for node in article.css("h2, p")]
        if text := "\n".join(part for part in parts if part):
            yield {"text": text}


def articles(members: Members) -> Iterator[Row]:
    """The articles of a Wikipedia dump, read as the kind `wikipedia` reads them."""
    from lmcore.collect.wikipedia_dump import Dump
    from lmcore.collect.wikitext import Unparsable, plain, tidy

    ((dump,),) = members
    reading = Dump(dump.path, "")
    for page in reading.pages():
        if page.namespace or page.redirect:
            continue
        try:
            read = plain(page.text, reading.wiki().names)
        except Unparsable:
            continue
        text = tidy(read.text)
        if not read.disambiguation and len(text) >= 500:
            yield {"title": page.title, "text": text}
