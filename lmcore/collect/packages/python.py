"""Sets of Python: its documentation, its library, and questions about it in SQuAD's form."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from lmcore.collect.bulk import bulk_page
from lmcore.collect.packages.fiction import Members
from lmcore.collect.packages.texts import Row, without_repeated_lines
from storage.digest import digest_json

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

_ORIGIN = "http://docs.localhost/"  # where links of a page begin; none is followed
_SHORTEST = 200  # characters of a page, a paragraph with an answer, or a module
_LONGEST = 1_500  # characters of a paragraph with an answer
_SENTENCE = re.compile(r".+?[.!?](?=\s|$)", re.DOTALL)
_ADDED = re.compile(r"New in version (\d+\.\d+(?:\.\d+)?)")


def documentation(members: Members) -> Iterator[Row]:
    """The pages of Python's documentation, without lines that stood on one before."""
    (found,) = members
    titles, texts = [], []
    for member in found:
        page = bulk_page(member.path.read_text(encoding="utf-8"), _ORIGIN)
        if page is not None and len(page.text) >= _SHORTEST:
            titles.append(page.title.partition(" — ")[0])
            texts.append(page.text.replace("¶", ""))
    for title, text in zip(titles, without_repeated_lines(texts), strict=True):
        if len(text) >= _SHORTEST:
            yield {"title": title, "text": text}


def library(members: Members) -> Iterator[Row]:
    """The modules of the standard library."""
    (modules,) = members
    for member in modules:
        text = member.path.read_text(encoding="utf-8", errors="replace")
        if len(text) >= _SHORTEST:
            yield {"title": "/".join(PurePosixPath(member.inside).parts[-2:]), "text": text.strip("\n")}


def questions(members: Members) -> Iterator[Row]:
    """Questions about paragraphs of the documentation, each with the span that answers it.

    Those of its FAQ are the authors' own words. The others are made by rule: what a term of the glossary is, what a
    function does or returns, and in which version it came.
    """
    from selectolax.lexbor import LexborHTMLParser

    (found,) = members
    for member in found:
        page = LexborHTMLParser(member.path.read_text(encoding="utf-8"))
        for tag in page.css("a.headerlink"):
            tag.decompose()
        folder, name = PurePosixPath(member.inside).parts[-2:]
        if folder == "faq":
            yield from _faq(page.css("section"))
        elif name == "glossary.html":
            for term in page.css("dl.glossary > dt"):
                yield from _asked("Glossary", f"What is meant by {_line(term)} in Python?", _body(term.next))
        else:
            for signature in page.css("dl.py.function > dt"):
                yield from _function(name.removesuffix(".html"), signature)


def _faq(sections: list[LexborNode]) -> Iterator[Row]:
    for section in sections:
        heading = section.css_first("h3, h2")
        question = re.sub(r"^[\d.]+\s*", "", _line(heading)) if heading else ""
        if question.endswith("?") and heading is not None and heading.parent == section:
            body = [_line(node) for node in section.iter() if node.tag == "p"]
            yield from _asked("Python FAQ", question, body)


def _function(module: str, signature: LexborNode) -> Iterator[Row]:
    name = signature.attributes.get("id") or ""
    body = _body(signature.next)
    if not name or not body:
        return
    does = "return" if body[0].startswith("Return") else "do"
    rows = list(_asked(module, f"What does {name}() {does}?", body))
    yield from rows
    for row in rows:
        if added := _ADDED.search(row["context"]):
            question = f"In which version of Python did {name}() come?"
            yield _row(row["title"], row["context"], question, added[1], added.start(1))


def _asked(title: str, question: str, body: list[str]) -> Iterator[Row]:
    """A question whose answer is the first sentence of a paragraph."""
    context = ""
    for part in body:
        if context and len(context) + len(part) > _LONGEST:
            break
        context = f"{context} {part}".strip()
    answer = _SENTENCE.match(context)
    if answer and _SHORTEST <= len(context) <= _LONGEST and 10 <= len(answer[0]) <= 300:
        yield _row(title, context, question, answer[0], 0)


def _row(title: str, context: str, question: str, answer: str, start: int) -> Row:
    row = {"title": title, "context": context, "question": question}
    return {"id": digest_json(row)[:16], **row, "answers": {"text": [answer], "answer_start": [start]}}


def _body(definition: LexborNode | None) -> list[str]:
    """The paragraphs of what follows a term."""
    while definition is not None and definition.tag != "dd":
        definition = definition.next
    return [] if definition is None else [text for node in definition.css("p") if (text := _line(node))]


def _line(node: LexborNode) -> str:
    return " ".join(node.text().split())
