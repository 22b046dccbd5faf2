"""A set of 64-bit hashes that may say yes for one that is not in it, and takes the memory that it is given."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from lmcore.curate.words import run_starts

_BITS_A_HASH = 8
_PIECE = 1 << 16

Hashes = NDArray[np.uint64]


def make_filter(runs: Iterable[Hashes], count: int, memory: int) -> Hashes:
    """Two bits for every hash, in the word that its upper half says: a Bloom filter (1970) in blocks of 64 bits.

    `runs` are ascending and have about `count` hashes together; with 8 bits for each, one in 18 of other hashes
    passes. The table takes at most `memory` bytes, with more false answers when that is less.
    """
    table = np.zeros(max(1, min(-(-count * _BITS_A_HASH // 64), memory // 8)), np.uint64)
    for run in runs:
        for at in range(0, len(run), _PIECE):
            word, bits = _places(run[at : at + _PIECE], len(table))
            first = np.flatnonzero(run_starts(word))
            table[word[first]] |= np.bitwise_or.reduceat(bits, first)
    return table


def passing(table: Hashes, hashes: Hashes) -> NDArray[np.bool_]:
    """Which of `hashes` may be in the filter; of those that are, none is missing."""
    word, bits = _places(hashes, len(table))
    found: NDArray[np.bool_] = (np.take(table, word) & bits) == bits
    return found


def _places(hashes: Hashes, words: int) -> tuple[NDArray[np.int64], Hashes]:
    """The word of each hash, in the order of the hashes, and its two bits in it."""
    word = ((hashes >> np.uint64(32)) * np.uint64(words)) >> np.uint64(32)
    one, six, last = np.uint64(1), np.uint64(6), np.uint64(63)
    return word.astype(np.int64), (one << (hashes & last)) | (one << ((hashes >> six) & last))
