"""Finding many hashes in a sorted array of them: where their leading bits begin, then a step or two."""

from __future__ import annotations

import numpy as np

from lmcore.curate.words import Hashes, Integers

_MAX_BITS = 24


class SortedHashes:
    """G distinct ascending 64-bit hashes; they must be spread evenly for `find` to be quick."""

    def __init__(self, values: Hashes) -> None:
        bits = min(max(1, len(values).bit_length()), _MAX_BITS)
        self._shift = np.uint64(64 - bits)
        patterns = np.arange(1, 1 << bits, dtype=np.uint64) << self._shift
        inner = np.searchsorted(values, patterns)
        self._first = np.concatenate(([0], inner, [len(values)])).astype(np.int32)
        self._values = np.append(values, np.uint64(0))  # an index past the end may be read, never believed

    def find(self, wanted: Hashes) -> Integers:
        """Index of each wanted hash, -1 where it is not there."""
        pattern = (wanted >> self._shift).astype(np.int64)
        at = self._first[pattern].astype(np.int64)
        end = self._first[pattern + 1]
        found = np.where((at < end) & (self._values[at] == wanted), at, -1)
        open_ = np.flatnonzero((found < 0) & (at + 1 < end))
        while len(open_):
            at[open_] += 1
            place = at[open_]
            value = self._values[place]
            hit = value == wanted[open_]
            found[open_[hit]] = place[hit]
            open_ = open_[(value < wanted[open_]) & (place + 1 < end[open_])]
        return found
