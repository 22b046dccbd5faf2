"""Tokens and windows by which texts are compared for long runs of equal words: one pass over many texts at once.

A token is a word or a character. A **word** is a maximal run of letters, digits and their marks; punctuation, symbols
and white space only separate, so "don't", "Don’t" and "DON T" are the same two words. (`words.split` leaves punctuation
on its words, as the Gopher paper counts them; a quote mark or a comma would then hide an overlap.) Letters are compared
by their NFKC and case fold where that is one character. A **character** is a token by itself in scripts that
write no spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese, Tibetan) and in runs of more than 50 letters.

A **window** begins at a token and is the shortest run that weighs enough: `words` words, or `chars` characters, or a
mixture in which a word counts `chars` and a character `words`. What is a token and where its window ends depends on
the text near it alone, so a quotation has the same windows wherever it stands.

Tokens and windows are known by 64-bit hashes: two different ones are taken for equal with odds of 1 to 1.8e19.

Legend: P code points of the batch, T texts, N tokens, W windows.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmcore.curate.words import mixed

BATCH_CHARS = 1 << 17  # measured fastest: the arrays of one batch stay in the processor's cache
SLICE_CHARS = 1 << 20  # a longer text is looked at in slices, or its arrays would take a hundred times its size
LONG_WORD = 50
_NEAR = 4 * LONG_WORD
_ALONE = np.uint32(1 << 31)
_SPACELESS = (
    *((0x3005, 0x3007), (0x3040, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9D)),
    *((0x20000, 0x323AF), (0x0E00, 0x0EFF), (0x0F00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF)),
)
_LAST_ASSIGNED = 0x323AF
_BASE = 0xD6E8FEB86659FD93  # odd, so that it has an inverse modulo 2^64
_INVERSE = pow(_BASE, -1, 1 << 64)

Integers = NDArray[np.int64]
Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class Size:
    """How long a window is."""

    words: int
    chars: int

    @property
    def weight(self) -> int:
        """What the tokens of a window weigh together, at least."""
        return self.words * self.chars

    @property
    def most_tokens(self) -> int:
        """The tokens of the longest window."""
        return max(self.words, self.chars)


@dataclass(frozen=True)
class Tokens:
    """The tokens of T texts; positions count code points within their text."""

    start: Integers  # (N,)
    end: Integers  # (N,) one past the last
    hash: Hashes  # (N,)
    alone: NDArray[np.bool_] | None  # (N,) which are characters; None when none is
    bounds: Integers  # (T + 1,) first token of each text, and N
    seen: int = 0  # so many of the first tokens were the last ones of the slice before

    def text_of(self, token: Integers) -> Integers:
        """The text that each of these tokens is in."""
        return np.searchsorted(self.bounds, token, side="right") - 1

    def weights_before(self, size: Size) -> Integers | None:
        """(N + 1,) what all tokens before each one weigh; None when all are words."""
        if self.alone is None:
            return None
        return np.concatenate(([0], np.cumsum(np.where(self.alone, size.words, size.chars))))

    def weight(self, size: Size) -> Integers:
        """(T,) what each text weighs, without tokens of the slice before."""
        bounds = np.maximum(self.bounds, self.seen)
        before = self.weights_before(size)
        return np.diff(bounds) * size.chars if before is None else np.diff(before[bounds])


@dataclass(frozen=True)
class Windows:
    """The windows of tokens: the first token of each is its number, in order."""

    end: Integers  # (W,) one past the last token
    hash: Hashes  # (W,)


class Grams:
    """Hashes of any runs of tokens in O(1) each: polynomial prefix sums modulo 2^64."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        up, self._down = _powers(len(tokens.hash))
        self._sums = np.zeros(len(tokens.hash) + 1, np.uint64)
        np.cumsum(tokens.hash * up[: len(tokens.hash)], out=self._sums[1:])

    def of(self, start: Integers, end: Integers) -> Hashes:
        """One hash a run; equal runs have equal hashes wherever they stand."""
        return mixed((self._sums[end] - self._sums[start]) * self._down[start])

    def windows(self, size: Size, weight: int) -> Windows:
        """The window of that weight from every token, but for the last ones that have too little after them.

        Those that run from one text into the next are among them: see `inside`.
        """
        before = self._tokens.weights_before(size)
        if before is None:
            tokens = -(-weight // size.chars)
            count = max(0, len(self._tokens.hash) - tokens + 1)
            end = np.arange(tokens, tokens + count)
            sums, down = self._sums, self._down
            return Windows(end, mixed((sums[tokens : tokens + count] - sums[:count]) * down[:count]))
        end = np.searchsorted(before, before[:-1] + weight)
        end = end[: np.searchsorted(end, len(before))]
        return Windows(end, self.of(np.arange(len(end)), end))

    def inside(self, start: Integers, end: Integers) -> NDArray[np.bool_]:
        """Which runs of tokens lie within one text and are not in the slice before."""
        tokens = self._tokens
        found: NDArray[np.bool_] = (end <= tokens.bounds[tokens.text_of(start) + 1]) & (end > tokens.seen)
        return found


def tokenise(texts: Sequence[str]) -> Tokens:
    """The tokens of `texts`, all at once: for many short texts, or one slice of a long one."""
    joined = "\n".join(["", *texts, ""])
    points = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)  # (P,) begins and ends with \n
    folded = np.take(_folds(), points, mode="clip")
    sizes = np.fromiter(map(len, texts), np.int64, len(texts)) + 1
    text_start = np.cumsum(sizes) - sizes + 1

    solid = folded != 0
    edges = np.flatnonzero(solid[1:] != solid[:-1]) + 1
    start, end = edges[0::2], edges[1::2]
    long = end - start > LONG_WORD
    alone = None
    apart = folded >= _ALONE
    if long.any() or apart.any():
        start, end, alone = _with_characters(solid, apart)

    up, down = _powers(len(points))
    sums = np.zeros(len(points) + 1, np.uint64)
    np.cumsum(np.multiply(folded, up[: len(points)], dtype=np.uint64), out=sums[1:])
    hashes = mixed((sums[end] - sums[start]) * down[start])

    bounds = np.searchsorted(start, np.append(text_start, len(points)))
    shift = np.repeat(text_start, np.diff(bounds))
    return Tokens(start - shift, end - shift, hashes, alone, bounds)


def batched(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Cut T texts into runs [first, last) of few characters together; one of more than SLICE_CHARS is by itself."""
    first = total = 0
    for number, text in enumerate(texts):
        if number > first and (total + len(text) > BATCH_CHARS):
            yield first, number
            first, total = number, 0
        total += len(text)
    if len(texts) > first:
        yield first, len(texts)


def slices(text: str) -> Iterator[tuple[int, str]]:
    """(start, piece) of one text in order, cut so that the tokens of the pieces are the tokens of the text."""
    start = 0
    while len(text) - start > SLICE_CHARS + _NEAR:
        stop = _between(text, start + SLICE_CHARS)
        yield start, text[start:stop]
        start = stop
    yield start, text[start:]


def pieces(texts: Sequence[str], size: Size) -> Iterator[tuple[int, Tokens]]:
    """(number of the first text, tokens) batch by batch; a long text comes alone, slice by slice.

    A slice begins with the last tokens of the one before, so that every window of `size` is in one of them; a run that
    ends within its `seen` tokens was in the one before, too.
    """
    for first, last in batched(texts):
        if last - first == 1 and len(texts[first]) > SLICE_CHARS:
            for tokens in _sliced(texts[first], size.most_tokens - 1):
                yield first, tokens
        else:
            yield first, tokenise(texts[first:last])


def _sliced(text: str, keep: int) -> Iterator[Tokens]:
    last: Tokens | None = None
    for offset, piece in slices(text):
        found = tokenise([piece])
        start, end, hashes, alone, n = found.start + offset, found.end + offset, found.hash, found.alone, 0
        if last is not None:
            n = min(keep, len(last.hash))
            tail = slice(len(last.hash) - n, None)
            if alone is not None or last.alone is not None:
                kept = np.zeros(n, bool) if last.alone is None else last.alone[tail]
                alone = np.concatenate((kept, np.zeros(len(hashes), bool) if alone is None else alone))
            start, end = np.concatenate((last.start[tail], start)), np.concatenate((last.end[tail], end))
            hashes = np.concatenate((last.hash[tail], hashes))
        last = Tokens(start, end, hashes, alone, np.array([0, len(hashes)]), n)
        yield last


def _with_characters(
    solid: NDArray[np.bool_], apart: NDArray[np.bool_]
) -> tuple[Integers, Integers, NDArray[np.bool_] | None]:
    """Start, end and kind of tokens where some are single characters."""
    words = solid & ~apart
    edges = np.flatnonzero(words[1:] != words[:-1]) + 1
    start, end = edges[0::2], edges[1::2]
    long = np.flatnonzero(end - start > LONG_WORD)
    if len(long):
        change = np.zeros(len(solid) + 1, np.int8)
        change[start[long]] = 1
        change[end[long]] = -1
        apart = apart | (np.cumsum(change[:-1], dtype=np.int8) != 0)
        words = solid & ~apart
        edges = np.flatnonzero(words[1:] != words[:-1]) + 1
        start, end = edges[0::2], edges[1::2]
    single = np.flatnonzero(apart)
    order = np.argsort(np.concatenate((start, single)), kind="stable")
    return (
        np.concatenate((start, single))[order],
        np.concatenate((end, single + 1))[order],
        (order >= len(start)),
    )


def _between(text: str, near: int) -> int:
    """A place not far before `near` where no word is cut, or one in the middle of a run of single characters."""
    low = near - _NEAR
    points = np.frombuffer(text[low : near + _NEAR].encode("utf-32-le", "surrogatepass"), np.uint32)
    folded = np.take(_folds(), points, mode="clip")
    free = np.flatnonzero((folded == 0) | (folded >= _ALONE))
    # with none, all letters on both sides of `near` are characters of a long word, and so they are in both slices
    return low + int(free[np.argmin(np.abs(free - _NEAR))]) if len(free) else near


def _powers(count: int) -> tuple[Hashes, Hashes]:
    """The powers of _BASE and of _INVERSE up to `count` and more: of one size, since shorter tables begin like it."""
    if len(_tables[0]) <= count:
        bits = max(16, (count - 1).bit_length())
        _tables[:] = [np.full((1 << bits) + 1, factor, np.uint64) for factor in (_BASE, _INVERSE)]
        for table in _tables:
            table[0] = 1
            np.multiply.accumulate(table, out=table)
    return _tables[0], _tables[1]


_tables: list[Hashes] = [np.ones(1, np.uint64)]


@functools.cache
def _folds() -> NDArray[np.uint32]:
    """What every code point is compared by (0x110000,): 0 separates, the highest bit says that it is a token."""
    table = np.zeros(0x110000, np.uint32)
    for point in range(_LAST_ASSIGNED + 1):
        character = chr(point)
        if character.isalnum() or unicodedata.category(character) in ("Mn", "Mc"):
            folded = unicodedata.normalize("NFKC", character).casefold()
            if len(folded) != 1:
                folded = character.lower()
            table[point] = ord(folded) if len(folded) == 1 else point
    for low, high in _SPACELESS:
        part = table[low : high + 1]
        part[part != 0] |= _ALONE
    return table


def is_word_character(character: str) -> bool:
    """Whether it is part of a token: a letter, a digit or a mark."""
    return bool(_folds()[ord(character)])


def stands_alone(character: str) -> bool:
    """Whether it is a token by itself wherever it stands."""
    return bool(_folds()[ord(character)] >= _ALONE)
