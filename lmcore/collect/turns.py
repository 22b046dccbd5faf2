"""A text with turns, made of pieces, so that every turn is found again just where it was written."""

from __future__ import annotations

import unicodedata
from typing import Any

from lmcore.collect.charset import clean
from lmcore.collect.items import Item
from lmcore.conversation import TAG, Pieces, Template, pieces

Messages = list[tuple[str, str]]  # (role, text)
Turns = tuple[tuple[str, str], ...]


def written(cut: Pieces) -> tuple[str, Turns]:
    """The text of pieces that are `clean`, and its turns: those with a role that are not empty."""
    said = ((role, text.strip()) for role, text in cut if role)
    return "".join([text for _, text in cut]), tuple((role, text) for role, text in said if text)


def conversation(
    part: str | int,
    messages: Messages,
    template: Template,
    meta: dict[str, Any],
    *,
    lang: str = "und",
    origin: str | None = None,
) -> Item:
    """The item of a conversation with an answer, or what is wrong with it."""
    said = [(role, on_its_own(clean(text)).strip()) for role, text in messages]
    said = [(role, text) for role, text in said if text or role != "system"]
    if not any(role == "assistant" and text for role, text in said):
        return Item(part, problem="no answer")
    if not all(text for _, text in said):
        return Item(part, problem="an empty message")
    if template == "tags" and any(TAG.search(text) for _, text in said):
        return Item(part, problem="a message that holds a tag")
    cut = pieces(said, template)
    if hidden_turn(cut):
        return Item(part, problem="a message that cannot be told from its label")
    text, turns = written(cut)
    return Item(part, text, turns=turns, lang=lang, origin=origin, meta=meta)


def on_its_own(text: str) -> str:
    """Without combining marks at the beginning: in NFC they join what is before, be it a tag ("<user>" + U+0338)."""
    start = 0
    while start < len(text) and (text[start].isspace() or unicodedata.category(text[start]) in ("Mn", "Me", "Cf")):
        start += 1
    return text[start:] if any(map(unicodedata.combining, text[:start])) else text


def hidden_turn(cut: Pieces) -> str:
    """The first turn of clean pieces that is not found where it is (by `lmcore.tokens.roles`); "" when all are.

    Such as the answer "A" behind the label "A:": another letter than the answer would be learnt.
    """
    from lmcore.tokens.roles import learnt_spans

    text, turns = written(cut)
    found = learnt_spans(text, [{"role": role, "text": said} for role, said in turns], [r for r, _ in turns], "") or []
    places = []
    at = 0
    for role, piece in cut:
        said = piece.strip() if role else ""
        if said:
            start = at + piece.index(said)
            places.append((start, start + len(said)))
        at += len(piece)
    wrong = [said for (_, said), place, other in zip(turns, places, found, strict=True) if place != other]
    return wrong[0] if wrong else ""
