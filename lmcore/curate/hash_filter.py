"""A set of 64-bit hashes that may say yes for one that is not in it, and takes the memory that it is given."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from lmcore.curate.words import run_starts

_BITS_A_HASH = 16
_BIT = (1 << np.arange(8)).astype(np.uint8)
_PIECE = 1 << 20

Hashes = NDArray[np.uint64]


def make_filter(runs: Iterable[Hashes], count: int, memory: int) -> NDArray[np.uint8]:
    """One bit for every hash, at the place that its first bits say: a Bloom filter (1970) with one hash function.

    `runs` are ascending and have about `count` hashes together; with 16 bits for each, one in 16 of other hashes
    passes. The table takes at most `memory` bytes, with more false answers when that is less.
    """
    bits = max(10, min((count * _BITS_A_HASH).bit_length(), memory.bit_length() + 2))
    table = np.zeros(1 << (bits - 3), np.uint8)
    for run in runs:
        for at in range(0, len(run), _PIECE):
            place = run[at : at + _PIECE] >> np.uint64(64 - bits)
            byte = (place >> np.uint64(3)).astype(np.int64)
            first = np.flatnonzero(run_starts(byte))
            table[byte[first]] |= np.bitwise_or.reduceat(_BIT[(place & np.uint64(7)).astype(np.int64)], first)
    return table


def passing(table: NDArray[np.uint8], hashes: Hashes) -> NDArray[np.bool_]:
    """Which of `hashes` may be in the filter; of those that are, none is missing."""
    place = hashes >> np.uint64(64 - 3 - (len(table).bit_length() - 1))
    byte = np.take(table, (place >> np.uint64(3)).astype(np.int64))
    found: NDArray[np.bool_] = (byte & np.take(_BIT, (place & np.uint64(7)).astype(np.int64))) != 0
    return found
