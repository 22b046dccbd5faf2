"""What all signals of one batch start from: the split texts, and sums by text.

Legend: T texts, W words, L lines that are not blank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmcore.curate.words import Flags, Hashes, Integers, Split, run_starts, split

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_KEY_BITS = 64


@dataclass(frozen=True)
class Scan:
    """One batch of T texts, split, with what several families of signals need."""

    found: Split
    count: int  # T
    langs: Sequence[str]  # T BCP 47 languages
    n_chars: Floats  # (T,) white space counted
    n_words: Floats  # (T,)
    n_lines: Floats  # (T,)
    word_size: Integers  # (W,) characters
    word_flags: Flags  # (W,) class bits of any of its characters
    word_chars: Floats  # (T,) characters of all words = characters that are not white space
    chars_before: Integers  # (W + 1,) word characters before each word, texts counted together

    def per_text(self, owner: Integers, weights: NDArray[np.generic] | None = None) -> Floats:
        """Number of items of each text (`owner` says whose an item is), or the sum of their weights; (T,)."""
        return np.bincount(owner, weights, self.count).astype(np.float64)

    def texts_of(self, positions: Integers) -> Integers:
        """Which text each code point position is in."""
        return np.searchsorted(self.found.text_start, positions, "right") - 1

    def words_of(self, positions: Integers) -> Integers:
        """Which word each position, not one of white space, is in."""
        return np.searchsorted(self.found.word_start, positions, "right") - 1

    def lines_of(self, positions: Integers) -> Integers:
        """Which line each position, not one of white space, is in."""
        return np.searchsorted(self.found.line_start, positions, "right") - 1

    def bare(self, start: Integers, end: Integers, wanted: int) -> tuple[Integers, Integers, Integers]:
        """Trim pieces at both ends to code points of the `wanted` classes: which have any, their starts and ends."""
        size = end - start
        before = np.cumsum(size) - size
        positions = np.repeat(start - before, size) + np.arange(int(size.sum()))
        kept = np.flatnonzero((self.found.flags[positions] & wanted) != 0)
        first, last = np.searchsorted(kept, before), np.searchsorted(kept, before + size) - 1
        some = np.flatnonzero(first <= last)
        return some, positions[kept[first[some]]], positions[kept[last[some]]] + 1

    def line_share(self, chosen: Bools) -> Floats:
        """Share of each text's lines that are chosen, (L,) to (T,)."""
        return share(self.per_text(self.found.line_text[chosen]), self.n_lines)


def scan(texts: Sequence[str], langs: Sequence[str]) -> Scan:
    """Split `texts` and count their words."""
    found = split(texts)
    word_size = found.word_end - found.word_start
    # from each word's start to the next one's: what lies between words is white space and adds only its own bit
    flags = np.bitwise_or.reduceat(found.flags, found.word_start) if len(word_size) else np.zeros(0, np.uint16)
    chars_before = np.concatenate(([0], np.cumsum(word_size)))
    return Scan(
        found=found,
        count=len(texts),
        langs=langs,
        n_chars=np.fromiter(map(len, texts), np.float64, len(texts)),
        n_words=np.diff(found.text_words).astype(np.float64),
        n_lines=np.bincount(found.line_text, minlength=len(texts)).astype(np.float64),
        word_size=word_size,
        word_flags=flags,
        word_chars=np.diff(chars_before[found.text_words]).astype(np.float64),
        chars_before=chars_before,
    )


def share(part: Floats, whole: Floats) -> Floats:
    """part / whole, 0 where there is nothing."""
    return part / np.maximum(whole, 1.0)


@dataclass(frozen=True)
class Groups:
    """N items in groups of equal ones."""

    order: Integers  # (N,) items, one group after the other, within a group as they stand
    start: Integers  # (K + 1,) where in `order` each group begins; the last item is N

    @property
    def repeats(self) -> Integers:
        """How many items each group has, (K,)."""
        return np.diff(self.start)

    def again(self) -> Integers:
        """Items that stood before: all but the first of each group."""
        later = np.ones(len(self.order), bool)
        later[self.start[:-1]] = False
        return self.order[later]


def equal_groups(owner: Integers, hashes: Hashes) -> Groups:
    """Group N items that have the same owner (ascending) and the same 64-bit hash; groups follow owner, then hash.

    Owner, the upper bits of the hash and the item's number are packed into one 64-bit key: one plain sort, several
    times as fast as an argsort, gives the order. Where the bits left for the hash were too few to tell two hashes
    apart (about one batch in a hundred thousand) the whole is sorted again by all of them.
    """
    count = len(owner)
    if not count:
        return Groups(np.zeros(0, np.int64), np.zeros(1, np.int64))
    number_bits = max(1, (count - 1).bit_length())
    owner_bits = int(owner[-1]).bit_length()
    hash_bits = _KEY_BITS - number_bits - owner_bits
    if hash_bits > 0:
        keys = hashes >> np.uint64(_KEY_BITS - hash_bits)
        if owner_bits:
            keys |= owner.astype(np.uint64) << np.uint64(hash_bits)
        order, starts = _sorted_groups(keys, number_bits)
        ranked = hashes[order]
        if not np.any((ranked[1:] != ranked[:-1]) & ~starts[1:]):
            return Groups(order, np.append(np.flatnonzero(starts), count))
    order = np.lexsort((hashes, owner))
    starts = run_starts(hashes[order]) | run_starts(owner[order])
    return Groups(order, np.append(np.flatnonzero(starts), count))


def equal_pairs(first: Integers, second: Integers, limit: int) -> Groups:
    """Group N items by two numbers below `limit`; exact."""
    count = len(first)
    if not count:
        return Groups(np.zeros(0, np.int64), np.zeros(1, np.int64))
    bits = max(1, (limit - 1).bit_length())
    number_bits = max(1, (count - 1).bit_length())
    keys = (first.astype(np.uint64) << np.uint64(bits)) | second.astype(np.uint64)
    if 2 * bits + number_bits <= _KEY_BITS:
        order, starts = _sorted_groups(keys, number_bits)
    else:
        order = np.argsort(keys, kind="stable")
        starts = run_starts(keys[order])
    return Groups(order, np.append(np.flatnonzero(starts), count))


def _sorted_groups(keys: Hashes, number_bits: int) -> tuple[Integers, Bools]:
    """Stable order of keys that leave their upper `number_bits` free, and where each run of equal ones starts."""
    packed = keys << np.uint64(number_bits)
    packed |= np.arange(len(keys), dtype=np.uint64)
    packed.sort()
    order = (packed & np.uint64((1 << number_bits) - 1)).astype(np.int64)
    packed >>= np.uint64(number_bits)
    return order, run_starts(packed)
