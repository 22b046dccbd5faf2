"""One pass that finds the words and lines of many texts at once, as NumPy arrays over code points.

A word is a maximal run of characters that are not white space, as in the Gopher paper (punctuation stays
attached: counting it as words of its own makes "80 % of words have a letter" drop most technical pages).
Two additions let the same rule serve other scripts: a Chinese or Japanese character is a word by itself, and
the Ethiopic word space separates words. Words and lines are compared without regard to case.

Legend: P code points of the batch, T texts, W words, L lines that are not blank.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SPACE, LETTER, DIGIT, ALONE, STOP, WIDE_STOP, QUOTE = 1, 2, 4, 8, 16, 32, 64
"""Bits of a code point's class; a character with none of SPACE, LETTER and DIGIT is a symbol or punctuation."""

_STOPS = ".!?…"
_WIDE_STOPS = "。！？｡．።፧፨؟۔।॥"  # end a sentence also where no space follows
_QUOTES = "\"'”’»«“‘」』"
_ETHIOPIC_WORD_SPACE = 0x1361
_CJK = ((0x3040, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9D), (0x20000, 0x323AF))
_LAST_ASSIGNED = 0x323AF  # beyond lie only tags, variation selectors and private use: symbols here

_BASE = 0xD6E8FEB86659FD93  # odd, so that it has an inverse modulo 2^64
_INVERSE = pow(_BASE, -1, 1 << 64)
_STEP = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio

Integers = NDArray[np.int64]
Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class Split:
    """Where the words and lines of T texts are; positions count code points of all texts joined by newlines."""

    flags: NDArray[np.uint8]  # (P,) class bits
    text_start: Integers  # (T,) first code point; every text ends with one newline more
    word_start: Integers  # (W,)
    word_end: Integers  # (W,) one past the last
    word_text: Integers  # (W,) which text
    word_hash: Hashes  # (W,)
    line_start: Integers  # (L,) first code point that is not indentation
    line_end: Integers  # (L,)
    line_text: Integers  # (L,)
    line_row: Integers  # (L,) counts blank lines too: a gap is a paragraph's end
    line_hash: Hashes  # (L,)


def split(texts: Sequence[str]) -> Split:
    """Words and lines of `texts` (no lone surrogates)."""
    lowered = [text.lower() for text in texts]
    joined = "\n".join([*lowered, ""])
    points = np.frombuffer(joined.encode("utf-32-le"), np.uint32)  # (P,)
    flags = _classes()[points]
    sizes = np.fromiter(map(len, lowered), np.int64, len(lowered)) + 1
    text_start = np.cumsum(sizes) - sizes

    solid = (flags & (SPACE | ALONE)) == 0
    alone = (flags & ALONE) != 0
    word_start = np.flatnonzero((solid & ~np.concatenate(([False], solid[:-1]))) | alone)
    word_end = np.flatnonzero((solid & ~np.concatenate((solid[1:], [False]))) | alone) + 1
    words_before = np.searchsorted(word_start, np.append(text_start, len(points)))
    word_text = np.repeat(np.arange(len(texts)), np.diff(words_before))

    row_last = np.searchsorted(word_start, np.flatnonzero(points == ord("\n")))  # words up to the end of each row
    row_first = np.concatenate(([0], row_last[:-1])).astype(np.int64) if len(row_last) else row_last
    line_row = np.flatnonzero(row_last > row_first)
    line_start, line_end = word_start[row_first[line_row]], word_end[row_last[line_row] - 1]
    line_text = word_text[row_first[line_row]]

    hashes = _SegmentHashes(points)
    return Split(
        flags=flags,
        text_start=text_start,
        word_start=word_start,
        word_end=word_end,
        word_text=word_text,
        word_hash=hashes.of(word_start, word_end),
        line_start=line_start,
        line_end=line_end,
        line_text=line_text,
        line_row=line_row,
        line_hash=hashes.of(line_start, line_end),
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


class _SegmentHashes:
    """Hashes of any pieces of one array in O(1) each: polynomial prefix sums modulo 2^64, divided by their offset."""

    def __init__(self, points: NDArray[np.uint32]) -> None:
        up, self._down = _powers(max(1, len(points) - 1).bit_length())
        self._sums = np.zeros(len(points) + 1, np.uint64)
        np.cumsum((points + np.uint64(1)) * _STEP * up[: len(points)], out=self._sums[1:])

    def of(self, start: Integers, end: Integers) -> Hashes:
        """One hash a piece; equal pieces have equal hashes wherever they stand."""
        return mixed((self._sums[end] - self._sums[start]) * self._down[start])


@functools.lru_cache(maxsize=2)  # two sizes serve a whole corpus; more would hold on to one giant text's tables
def _powers(bits: int) -> tuple[Hashes, Hashes]:
    tables = []
    for factor in (_BASE, _INVERSE):
        table = np.full((1 << bits) + 1, factor, np.uint64)
        table[0] = 1
        tables.append(np.multiply.accumulate(table))
    return tables[0], tables[1]


@functools.cache
def _classes() -> NDArray[np.uint8]:
    """The class bits of every code point (0x110000,)."""
    table = np.zeros(0x110000, np.uint8)
    for point in range(_LAST_ASSIGNED + 1):
        character = chr(point)
        if character.isalpha():
            table[point] = LETTER
        elif character.isspace():
            table[point] = SPACE
        elif character.isnumeric():
            table[point] = DIGIT
        elif unicodedata.category(character) in ("Mn", "Mc"):  # vowel signs belong to the word they follow
            table[point] = LETTER
    for low, high in _CJK:
        table[low : high + 1] |= np.where(table[low : high + 1] & LETTER, ALONE, 0).astype(np.uint8)
    table[_ETHIOPIC_WORD_SPACE] = SPACE
    for characters, bits in ((_STOPS, STOP), (_WIDE_STOPS, STOP | WIDE_STOP), (_QUOTES, QUOTE)):
        for character in characters:
            table[ord(character)] |= bits
    return table
