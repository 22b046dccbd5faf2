"""Word 5-shingles of many texts as 32-bit hashes, from whole-array NumPy steps over cache-sized blocks.

The word rule of this room (both the signature and the verification use it): a word is a maximal run of letters,
digits and the marks that follow them, compared by simple lower case; a Chinese or Japanese character is a word by
itself; everything else, the Ethiopic word space and all punctuation included, is a gap. So two copies that differ in
punctuation, case or white space have equal shingles, which is what a near-duplicate is meant to be. (`words.split`
keeps punctuation with its word, as the Gopher rules want.)

A text of fewer than five words has one shingle, all its words; a text without words has its stripped characters as
the one shingle; a blank text has none. Every hash depends on the text alone, not on its neighbours in a block.

Legend: P positions (bytes of ASCII text, else code points) of a block, W words, R texts of a block, G shingles.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

SIZE = 5
"""Words in a shingle."""

_BLOCK = 1 << 17  # positions: a block's arrays stay in the processor's second-level cache
_BASE = 0xB89665FD  # odd, so that it has an inverse modulo 2^32
_FACTOR = 0x9E3779B1  # 2^32 / golden ratio, made odd
_ALONE = 1 << 31
_CJK = ((0x3040, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9D), (0x20000, 0x323AF))
_LAST_ASSIGNED = 0x323AF

Texts: TypeAlias = "Sequence[str] | pa.Array | pa.ChunkedArray"
"""Clean text (no lone surrogates). Of an Arrow column of strings those of ASCII are read in its own buffer."""

Hashes = NDArray[np.uint32]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Shingles:
    """Shingles of some texts, text after text. A giant text may be spread over several, its rows repeated."""

    rows: Integers  # (R,) which text
    counts: Integers  # (R,) how many shingles stand here
    hashes: Hashes  # (G,) G = counts.sum(); a shingle that occurs twice stands twice


def shingles(texts: Texts) -> Iterator[Shingles]:
    """The shingles of `texts` in blocks; every text that is not blank comes, in no promised order."""
    wordless: list[tuple[int, str]] = []
    for rows, bounds, folded, source in _blocks(texts):
        words, first = _words(folded, bounds)
        without = np.flatnonzero(first[1:] == first[:-1])
        wordless += [(int(rows[i]), source(int(i))) for i in without]
        if len(words) <= 2 * _BLOCK:
            yield _grams(rows, words, first)
        else:  # one giant text
            for start in range(0, len(words) - SIZE + 1, _BLOCK):
                piece = words[start : start + _BLOCK + SIZE - 1]
                yield _grams(rows, piece, np.array([0, len(piece)]))
    if wordless:
        kept = [(row, text.strip()) for row, text in wordless]
        kept = [(row, text) for row, text in kept if text]
        hashes = [xxhash.xxh32_intdigest(text.encode("utf-8", "surrogatepass")) for _, text in kept]
        count = len(kept)
        yield Shingles(
            np.fromiter((row for row, _ in kept), np.int64, count),
            np.ones(count, np.int64),
            np.array(hashes, np.uint32),
        )


def word_digest(text: str) -> int:
    """64 bits of a text's first five words: what tells texts of a single shingle apart for certain.

    Of a text without words, of its stripped characters.
    """
    folded = _folds().take(np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32))
    starts = np.flatnonzero(_starts(folded))
    if not len(starts):
        return xxhash.xxh3_64_intdigest(text.strip().encode("utf-8", "surrogatepass"))
    if len(starts) > SIZE:
        folded, starts = folded[: starts[SIZE]], starts[:SIZE]
    solid = folded != 0
    lengths = np.cumsum(solid)[starts]  # where each word begins among the characters of all words
    return xxhash.xxh3_64_intdigest(lengths.tobytes() + folded[solid].tobytes())


# --- blocks: folded characters and where each text begins ----------------------------------------------------------

_Folded = NDArray[np.uint8] | NDArray[np.uint32]


@dataclass(frozen=True)
class _Source:
    """The texts of a block, for the few that must be looked at again."""

    texts: Texts
    first: int

    def __call__(self, place: int) -> str:
        return str(self.texts[self.first + place])


def _blocks(texts: Texts) -> Iterator[tuple[Integers, Integers, _Folded, _Source]]:
    """(rows, bounds (R+1,), folded (P,), text by its place in the block).

    Folded characters: 0 a gap, else the lower-case code point, with the bit _ALONE where it is a word by itself.
    """
    if isinstance(texts, (pa.Array, pa.ChunkedArray)):
        column = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
        column = pc.fill_null(column.cast(pa.large_string()), "")
        ascii_only = pc.string_is_ascii(column)
        plain = np.flatnonzero(ascii_only.to_numpy(zero_copy_only=False))
        if len(plain) == len(column):
            yield from _arrow_blocks(plain, column)
            return
        yield from _arrow_blocks(plain, column.filter(ascii_only))
        rest = pc.invert(ascii_only)
        yield from _text_blocks(np.flatnonzero(rest.to_numpy(zero_copy_only=False)), column.filter(rest).to_pylist())
    else:
        is_plain = np.fromiter(map(str.isascii, texts), bool, len(texts))
        plain = np.flatnonzero(is_plain)
        yield from _arrow_blocks(plain, pa.array([texts[int(i)] for i in plain], pa.large_string()))
        others = np.flatnonzero(~is_plain)
        yield from _text_blocks(others, [texts[int(i)] for i in others])


def _arrow_blocks(rows: Integers, column: pa.LargeStringArray) -> Iterator[tuple[Integers, Integers, _Folded, _Source]]:
    """ASCII texts: a table lookup over the bytes that Arrow holds already."""
    if not len(column):
        return
    offsets = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column) + 1]
    data = memoryview(column.buffers()[2] or b"")
    for first, last in _cuts(offsets):
        low, high = int(offsets[first]), int(offsets[last])
        folded = np.frombuffer(data[low:high].tobytes().translate(_ascii()), np.uint8)
        yield rows[first:last], offsets[first : last + 1] - low, folded, _Source(column, first)


def _text_blocks(rows: Integers, texts: list[str]) -> Iterator[tuple[Integers, Integers, _Folded, _Source]]:
    """Any other texts: a table lookup over UTF-16 units, or over code points where some need two units."""
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)), out=offsets[1:])
    for first, last in _cuts(offsets):
        joined = "".join(texts[first:last])
        points: NDArray[np.unsignedinteger] = np.frombuffer(joined.encode("utf-16-le", "surrogatepass"), np.uint16)
        if len(points) != len(joined):
            points = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
        folded = _folds().take(points)
        yield rows[first:last], offsets[first : last + 1] - offsets[first], folded, _Source(texts, first)


def _cuts(offsets: Integers) -> Iterator[tuple[int, int]]:
    """Ranges of whole texts of about one block each; a longer text is alone in its range."""
    first, count = 0, len(offsets) - 1
    while first < count:
        last = int(np.searchsorted(offsets, offsets[first] + _BLOCK, side="right")) - 1
        last = max(first + 1, last)
        yield first, last
        first = last


# --- words ----------------------------------------------------------------------------------------------------------


def _words(folded: _Folded, bounds: Integers) -> tuple[Hashes, Integers]:
    """Hash of every word (W,) and each text's first word (R+1,); the last entry is W."""
    if len(folded) <= 2 * _BLOCK:
        return _block_words(folded, bounds)
    # one giant text: cut at a gap, so the arrays stay small; one word of more than a block is cut where a block ends
    pieces, start = [], 0
    while start < len(folded):
        stop = min(len(folded), start + _BLOCK)
        if stop < len(folded):
            gaps = np.flatnonzero(folded[start:stop] == 0)
            stop = start + int(gaps[-1]) + 1 if len(gaps) else stop
        piece, _ = _block_words(folded[start:stop], np.array([0, stop - start]))
        pieces.append(piece)
        start = stop
    words = np.concatenate(pieces)
    return words, np.array([0, len(words)])


def _block_words(folded: _Folded, bounds: Integers) -> tuple[Hashes, Integers]:
    size = len(folded)
    if not size:
        return np.empty(0, np.uint32), np.zeros(len(bounds), np.int64)
    starts = _starts(folded)
    inner = bounds[:-1][bounds[:-1] < size]
    starts[inner] = folded[inner] != 0  # a text begins no word of the text before
    place = np.flatnonzero(starts)
    up, down = _powers(max(_BLOCK, 1 << (size - 1).bit_length()))
    # a word's hash is the polynomial of its characters; gaps count as 0, so the prefix sums at two starts give it
    sums = np.empty(size + 1, np.uint32)
    sums[0] = 0
    np.multiply(folded, up[:size], out=sums[1:])
    np.add.accumulate(sums[1:], out=sums[1:])
    at = sums.take(np.append(place, size))
    hashes = at[1:] - at[:-1]
    hashes *= down.take(place)
    return spread(hashes), np.searchsorted(place, bounds)


def _starts(folded: _Folded) -> NDArray[np.bool_]:
    """Where a word begins, (P,)."""
    solid: NDArray[np.bool_] = folded != 0
    starts = solid.copy()
    if folded.dtype == np.uint8:
        np.greater(solid[1:], solid[:-1], out=starts[1:])
    else:
        alone = folded >= _ALONE
        run = solid & ~alone
        np.greater(solid[1:], run[:-1], out=starts[1:])
        starts |= alone
    return starts


def spread(values: Hashes) -> Hashes:
    """Spread every 32-bit value over all its bits, in place (the finaliser of MurmurHash3, Appleby 2011)."""
    values ^= values >> np.uint32(16)
    values *= np.uint32(0x85EBCA6B)
    values ^= values >> np.uint32(13)
    values *= np.uint32(0xC2B2AE35)
    values ^= values >> np.uint32(16)
    return values


# --- shingles -------------------------------------------------------------------------------------------------------


def _grams(rows: Integers, words: Hashes, first: Integers) -> Shingles:
    """Polynomials of five word hashes in a row, those that cross two texts left out."""
    sizes = np.diff(first)
    counts = np.where(sizes >= SIZE, sizes - (SIZE - 1), np.minimum(sizes, 1))
    if not len(words):
        return Shingles(rows, counts, words)
    padded = np.concatenate((words, np.zeros(SIZE - 1, np.uint32)))
    factor = np.uint32(_FACTOR)
    two = padded[:-1] * factor
    two += padded[1:]
    hashes = two[:-3] * np.uint32(_FACTOR * _FACTOR & 0xFFFFFFFF)
    hashes += two[2:-1]
    hashes *= factor
    hashes += padded[4:]
    keep = np.ones(len(words), bool)
    for back in range(SIZE - 1):
        drop = first[1:] - 1 - back
        keep[drop[sizes - counts > back]] = False
    short = np.flatnonzero((sizes > 0) & (sizes < SIZE))
    if len(short):
        total = np.zeros(len(short), np.uint32)
        for i in range(SIZE - 1):
            more = sizes[short] > i
            total[more] = total[more] * factor + words[first[short[more]] + i]
        hashes[first[short]] = total * factor + sizes[short].astype(np.uint32)
    hashes = hashes.take(np.flatnonzero(keep))  # faster than by the mask
    hashes ^= hashes >> np.uint32(16)
    hashes *= np.uint32(0x7FEB352D)
    hashes ^= hashes >> np.uint32(15)
    return Shingles(rows, counts, hashes)


# --- tables ---------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=2)
def _powers(count: int) -> tuple[Hashes, Hashes]:
    """Powers of the base, and of its inverse, modulo 2^32."""
    tables = []
    for factor in (_BASE, pow(_BASE, -1, 1 << 32)):
        table = np.full(count, factor, np.uint32)
        table[0] = 1
        tables.append(np.multiply.accumulate(table))
    return tables[0], tables[1]


@functools.cache
def _folds() -> Hashes:
    """The folded value of every code point (0x110000,)."""
    points = [point for point in range(_LAST_ASSIGNED + 1) if not 0xD800 <= point < 0xE000]
    characters = "".join(map(chr, points))
    # the one letter whose lower case is longer, and the one whose lower case depends on its neighbours
    lower = characters.replace("\u0130", "i").replace("\u03a3", "\u03c3").lower()
    inside = np.fromiter(map(str.isalnum, characters), bool, len(points))
    for place in np.flatnonzero(~inside):
        inside[place] = points[place] > 0x2FF and unicodedata.category(characters[place]) in ("Mn", "Mc")
    table = np.zeros(0x110000, np.uint32)
    table[points] = np.frombuffer(lower.encode("utf-32-le"), np.uint32) * inside
    for low, high in _CJK:
        part = table[low : high + 1]
        part |= np.where(part > 0, np.uint32(_ALONE), np.uint32(0))
    return table


@functools.cache
def _ascii() -> bytes:
    return _folds()[:256].astype(np.uint8).tobytes()
