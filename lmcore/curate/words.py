"""One pass that finds the words, lines and paragraphs of many texts at once, as NumPy arrays over code points.

A word is a maximal run of characters that are not white space, as in the Gopher paper (punctuation stays
attached: counting it as words of its own makes "80 % of words have a letter" drop most technical pages).
Two additions let the same rule serve other scripts: a Chinese or Japanese character is a word by itself, and
the Ethiopic word space separates words. Words, lines and paragraphs are compared without regard to case.

Legend: P code points of the batch, T texts, W words, L lines that are not blank, G paragraphs.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmcore.curate.words_tables import ALONE, POINT_BITS, SPACE, table

_BASE = 0xD6E8FEB86659FD93  # odd, so that it has an inverse modulo 2^64
_INVERSE = pow(_BASE, -1, 1 << 64)
_STEP = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio
_BLOCK_BITS = 15  # of the running sums: 2^15 code points stay in the processor's first cache
_BLOCK = 1 << _BLOCK_BITS
_MODULUS = (1 << 64) - 1

Integers = NDArray[np.int64]
Hashes = NDArray[np.uint64]
Flags = NDArray[np.uint16]
Points = NDArray[np.uint32]


@dataclass(frozen=True)
class Split:
    """Words, lines and paragraphs of T texts; positions count code points of all texts joined by newlines.

    A line begins with its first word and ends with its last one; a paragraph is a run of lines without a blank one.
    """

    raw: Points  # (P,) as they are
    points: Points  # (P,) lower case, one code point for one of the text
    flags: Flags  # (P,) class bits of words_tables
    text_start: Integers  # (T,) first code point; every text ends with one newline more
    text_rows: Integers  # (T,) newlines and one more
    text_words: Integers  # (T + 1,) first word; the last item is W
    word_start: Integers  # (W,)
    word_end: Integers  # (W,) one past the last
    word_text: Integers  # (W,) which text
    word_hash: Hashes  # (W,)
    line_start: Integers  # (L,) first code point that is not indentation
    line_end: Integers  # (L,)
    line_word: Integers  # (L,) first word
    line_text: Integers  # (L,)
    line_row: Integers  # (L,) counts blank lines too: a gap is a paragraph's end
    line_hash: Hashes  # (L,)
    paragraph_line: Integers  # (G,) first line
    hashes: SegmentHashes  # of any other piece


def split(texts: Sequence[str]) -> Split:
    """Words, lines and paragraphs of `texts` (no lone surrogates)."""
    joined = "\n".join([*texts, ""])
    raw = np.frombuffer(joined.encode("utf-32-le"), np.uint32)  # (P,)
    looked_up = table().take(raw)
    flags = (looked_up >> np.uint32(POINT_BITS)).astype(np.uint16)
    looked_up &= np.uint32((1 << POINT_BITS) - 1)
    points = looked_up
    sizes = np.fromiter(map(len, texts), np.int64, len(texts)) + 1
    text_start = np.cumsum(sizes) - sizes

    solid = (flags & (SPACE | ALONE)) == 0
    edges = np.diff(solid, prepend=False, append=False)  # (P + 1,) where a run of solid characters begins or ends
    bounds = np.flatnonzero(edges)
    word_start, word_end = bounds[::2], bounds[1::2]
    alone = np.flatnonzero((flags & ALONE) != 0)
    if len(alone):
        word_start, word_end = np.sort(np.append(word_start, alone)), np.sort(np.append(word_end, alone + 1))
    text_words = np.searchsorted(word_start, np.append(text_start, len(points)))
    word_text = np.repeat(np.arange(len(texts)), np.diff(text_words))

    newlines = np.flatnonzero(points == ord("\n"))
    row_last = np.searchsorted(word_start, newlines)  # words up to the end of each row
    row_first = np.concatenate(([0], row_last[:-1])).astype(np.int64) if len(row_last) else row_last
    line_row = np.flatnonzero(row_last > row_first)
    line_word = row_first[line_row]
    line_start, line_end = word_start[line_word], word_end[row_last[line_row] - 1]
    line_text = word_text[line_word]
    gap = np.ones(len(line_row), bool)
    gap[1:] = (np.diff(line_row) > 1) | (np.diff(line_text) > 0)

    hashes = SegmentHashes(points)
    return Split(
        raw=raw,
        points=points,
        flags=flags,
        text_start=text_start,
        text_rows=np.diff(np.searchsorted(newlines, np.append(text_start, len(points)))),
        text_words=text_words,
        word_start=word_start,
        word_end=word_end,
        word_text=word_text,
        word_hash=hashes.of(word_start, word_end),
        line_start=line_start,
        line_end=line_end,
        line_word=line_word,
        line_text=line_text,
        line_row=line_row,
        line_hash=hashes.of(line_start, line_end),
        paragraph_line=np.flatnonzero(gap),
        hashes=hashes,
    )


def gram_hashes(found: Split, size: int) -> tuple[Integers, Hashes]:
    """First word and hash of every run of `size` words that lies within one text."""
    count = max(0, len(found.word_hash) - size + 1)
    total = np.zeros(count, np.uint64)
    for i in range(size):
        total = (total + found.word_hash[i : i + count]) * _STEP
        total ^= total >> np.uint64(29)
    first = np.flatnonzero(found.word_text[:count] == found.word_text[size - 1 :][:count])
    return first, mixed(total[first])


def mixed(values: Hashes) -> Hashes:
    """Spread every 64-bit value over all its bits (the finaliser of splitmix64, Steele and others 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def run_starts(ranked: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Where each run of equal values begins in a sorted array: True, then True wherever a value differs."""
    starts = np.ones(len(ranked), bool)
    starts[1:] = ranked[1:] != ranked[:-1]
    return starts


class SegmentHashes:
    """Hashes of any pieces of one array in O(1) each: polynomial prefix sums modulo 2^64, divided by their offset."""

    def __init__(self, points: Points) -> None:
        count = len(points)
        up, self._down = _powers()
        blocks = -(-count // _BLOCK)
        self._far_down = np.array([pow(_INVERSE, i << _BLOCK_BITS, 1 << 64) for i in range(blocks + 1)], np.uint64)
        self._sums = np.zeros(count + 1, np.uint64)
        far_up, step = 1, pow(_BASE, _BLOCK, 1 << 64)
        for start in range(0, count, _BLOCK):
            part = points[start : start + _BLOCK].astype(np.uint64)
            part += np.uint64(1)
            part *= up[: len(part)]
            if start:
                part *= np.uint64(far_up)
                part[:1] += self._sums[start : start + 1]
            np.cumsum(part, out=self._sums[start + 1 : start + 1 + len(part)])
            far_up = far_up * step & _MODULUS

    def of(self, start: Integers, end: Integers) -> Hashes:
        """One hash a piece; equal pieces have equal hashes wherever they stand, in whatever batch."""
        values = self._sums[end]
        values -= self._sums[start]
        values *= self._down[start & (_BLOCK - 1)]
        values *= self._far_down[start >> _BLOCK_BITS]
        return mixed(values)


@functools.cache
def _powers() -> tuple[Hashes, Hashes]:
    """Powers of the base and of its inverse, one for each offset within a block."""
    tables = []
    for factor in (_BASE, _INVERSE):
        powers = np.full(_BLOCK, factor, np.uint64)
        powers[0] = 1
        tables.append(np.multiply.accumulate(powers))
    return tables[0], tables[1]
