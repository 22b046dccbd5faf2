"""Cutting spans out of a text so that what is left reads as a text: whole words, no doubled gaps, no empty lines."""

from __future__ import annotations

import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter
from typing import Any

import numpy as np

from lmcore.curate.overlap import Integers, is_word_character, stands_alone
from lmcore.curate.words import run_starts
from storage.errors import RunError

Span = tuple[int, int]  # code points [start, end)
Turn = dict[str, Any]  # role and text

TOGETHER = ("pair", "instruction", "chat", "qa")
"""Kinds whose turns mean nothing without each other."""

_STAYS_LEFT = frozenset(".,;:!?…。！？、，；：።፣፤፥፧")  # they end what is before the span


@dataclass(frozen=True)
class Cut:
    """A text without some spans of it, and where its pieces came from."""

    text: str
    spans: tuple[Span, ...]  # what was to be cut out of the original, ascending, apart from each other
    pieces: tuple[tuple[int, int, int], ...]  # (place in `text`, start, end in the original) of each piece kept

    def original(self, span: Span) -> Span:
        """Where a span of `text` was; it begins and ends in pieces, not in the white space between two."""
        return self._place(span[0]), self._place(span[1] - 1) + 1

    def left(self, span: Span) -> Span:
        """Where in `text` is what was left of a span of the original; an empty span when nothing was."""
        first = bisect_right(self.pieces, span[0], key=itemgetter(2))
        last = bisect_left(self.pieces, span[1], key=itemgetter(1)) - 1
        if first > last:
            return 0, 0
        start, end = self.pieces[first], self.pieces[last]
        return start[0] + max(0, span[0] - start[1]), end[0] + min(end[2], span[1]) - end[1]

    def touches(self, span: Span) -> bool:
        """Whether any of a span of the original was to be cut."""
        near = bisect_right(self.spans, span[0], key=itemgetter(1))
        return near < len(self.spans) and self.spans[near][0] < span[1]

    def _place(self, place: int) -> int:
        at, start, _ = self.pieces[bisect_right(self.pieces, place, key=itemgetter(0)) - 1]
        return start + place - at


def cut(text: str, spans: Iterable[Span]) -> Cut:
    """`text` without `spans`, which begin and end with tokens.

    Punctuation that touches a span goes with it, unless it ends what is before or opens what is after; a line that
    keeps no word goes whole. Where two pieces meet stands the widest gap that was at either: an empty line, a line end
    with the indentation, a space, or nothing between characters of a script without spaces. No other word is touched.
    """
    wanted = union(spans)
    if not wanted:
        return Cut(text, (), ((0, 0, len(text)),))
    gone = union(_widened(text, span) for span in wanted)
    parts: list[str] = []
    pieces: list[tuple[int, int, int]] = []
    blanks: list[str] = []  # white space at the edges of what went since the last piece
    at = 0
    for (_, start), (end, _) in pairwise([(0, 0), *gone, (len(text), len(text))]):
        piece = text[start:end]
        solid = piece.strip()
        if not solid:
            blanks.append(piece)
            continue
        before = piece.index(solid[0]) if start else 0
        after = len(piece) - len(piece.rstrip()) if end < len(text) else 0
        blanks.append(piece[:before])
        if pieces:
            parts.append(_gap(blanks, text[pieces[-1][2] - 1], solid[0]))
            at += len(parts[-1])
        parts.append(piece[before : len(piece) - after])
        pieces.append((at, start + before, end - after))
        at += len(parts[-1])
        blanks = [piece[len(piece) - after :]]
    return Cut("".join(parts), tuple(wanted), tuple(pieces))


def cut_turns(made: Cut, text: str, turns: Sequence[Turn], kind: str) -> list[Turn] | None:
    """The turns of a record after its `text` became `made`; None when the record is to be dropped.

    A turn is found in the text as `lmcore.tokens.roles` finds it, and what is left of it there is the new turn; a turn
    of which nothing is left goes. A pair, an instruction, a chat or a question with answers loses its meaning with a
    part of a turn, so those are dropped when any turn is touched. So is a record that no turn is left of, or whose
    turns would no longer be found.
    """
    from lmcore.tokens.roles import learnt_spans

    roles = [turn["role"] for turn in turns]
    try:
        places = learnt_spans(text, turns, roles, "")
    except RunError:
        return None
    said = [turn for turn in turns if turn["text"].strip()]
    new: list[Turn] = []
    new_places = []
    for turn, (start, end) in zip(said, places or [], strict=True):
        touched = made.touches((start, end))
        if touched and kind in TOGETHER:
            return None
        start, end = made.left((start, end))
        left = made.text[start:end]
        if any(map(is_word_character, left)) or (left and not touched):
            new.append({"role": turn["role"], "text": left.strip()} if touched else turn)
            start += len(left) - len(left.lstrip())
            new_places.append((start, start + len(left.strip())))
    if not new:
        return None
    try:
        found = learnt_spans(made.text, new, roles, "")
    except RunError:
        return None
    return new if found == new_places else None


def union(spans: Iterable[Span]) -> list[Span]:
    """The same characters as spans that ascend and neither touch nor overlap."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found


def merged(text: Integers, start: Integers, end: Integers) -> tuple[Integers, Integers, Integers]:
    """`union` for spans of many texts, as columns in any order; they come out ascending by text and place."""
    order = np.lexsort((start, text))
    text, start, end = text[order], start[order], end[order]
    shift = np.cumsum(run_starts(text)) * (int(end.max(initial=0)) + 2)  # keeps texts apart
    reached = np.maximum.accumulate(end + shift)
    new = np.ones(len(text), bool)
    new[1:] = (start + shift)[1:] > reached[:-1]
    first = np.flatnonzero(new)
    last = np.append(first[1:], len(text))[: len(first)] - 1
    return text[first], start[first], (reached - shift)[last]


def _widened(text: str, span: Span) -> Span:
    """With the punctuation that belongs to the span, or the lines when they have no other word."""
    first, last = start, end = span
    while first > 0 and text[first - 1] != "\n" and not is_word_character(text[first - 1]):
        first -= 1
    while last < len(text) and text[last] != "\n" and not is_word_character(text[last]):
        last += 1
    if (first == 0 or text[first - 1] == "\n") and (last == len(text) or text[last] == "\n"):
        return first, last
    while start > first and not text[start - 1].isspace() and not _ends(text[start - 1]):
        start -= 1
    while end < last and not text[end].isspace() and unicodedata.category(text[end]) not in ("Ps", "Pi"):
        end += 1
    return start, end


def _ends(character: str) -> bool:
    return character in _STAYS_LEFT or unicodedata.category(character) in ("Pe", "Pf")


def _gap(blanks: Sequence[str], before: str, after: str) -> str:
    """What stands between two pieces that end and begin with these characters."""
    lines = max(blank.count("\n") for blank in blanks)
    if lines:
        indented = next(blank for blank in reversed(blanks) if "\n" in blank)
        return "\n" * min(lines, 2) + indented[indented.rindex("\n") + 1 :]
    if any(blanks) or (_spaced(before) and _spaced(after)):
        return " "
    return ""


def _spaced(character: str) -> bool:
    """Whether it would become one word with another such that touches it."""
    return is_word_character(character) and not stands_alone(character)
