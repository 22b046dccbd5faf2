"""A text with turns, made of pieces, so that every turn is found again just where it was written."""

from __future__ import annotations

from lmcore.collect.charset import clean
from lmcore.collect.items import as_turns
from lmcore.conversation import Pieces

Turns = tuple[tuple[str, str], ...]


def written(pieces: Pieces) -> tuple[str, Turns]:
    """The text of the pieces, and its turns: those with a role that are not empty."""
    return "".join(clean(text) for _, text in pieces), as_turns([(role, text) for role, text in pieces if role])


def hidden_turn(pieces: Pieces) -> str:
    """The first turn that whoever looks for it (`lmcore.tokens.roles`) takes something else for; "" when there is none.

    Such as the answer "A" behind the label "A:": another letter than the answer would be learnt.
    """
    from lmcore.tokens.roles import learnt_spans

    text, turns = written(pieces)
    found = learnt_spans(text, [{"role": role, "text": said} for role, said in turns], [r for r, _ in turns], "") or []
    places = []
    at = 0
    for role, piece in pieces:
        whole = clean(piece)
        said = whole.strip()
        if role and said:
            start = at + whole.index(said)
            places.append((start, start + len(said)))
        at += len(whole)
    wrong = [said for (_, said), place, other in zip(turns, places, found, strict=True) if place != other]
    return wrong[0] if wrong else ""
