"""MinHash signatures of texts, one byte a position, read as 28 bands of 4.

One permutation hashing (Li, Owen, Zhang 2012): a shingle's hash names one of 112 bins and competes there; each bin
keeps its least. An empty bin takes the value of a bin picked by a fixed rule that is the same for every text
(Shrivastava 2017), and where that too stays empty the least of the text's shingles under a hash of its own, which is
classical MinHash. Of each least value one byte is kept (b-bit minwise hashing, Li and König 2010): a band's 32-bit
key *is* its four bytes, so the same 112 bytes both find candidates and estimate the similarity of two texts.

Legend: T texts, G shingles.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from lmcore.curate.shingles import Hashes, Integers, Shingles, Texts, shingles, spread

BANDS = 28
ROWS = 4
BINS = BANDS * ROWS
NO_KEY = 0xFFFFFFFF
"""In all bands of a blank text; equal to nothing."""

_EMPTY = np.uint32(0xFFFFFFFF)
_TRIES = 12


def band_keys(texts: Texts) -> NDArray[np.uint32]:
    """The 28 band keys of each text, (T, 28); two texts that share one are candidates. A blank text has NO_KEY in all.

    A band of two texts of Jaccard similarity J is equal with a chance of J^4, so one of 28 with 1 - (1 - J^4)^28:
    .9995 at J = .7, .84 at .5, .20 at .3.
    """
    count = len(texts)
    table = np.full((count, BINS), _EMPTY, np.uint32)
    flat = table.reshape(-1)
    kept: list[Shingles] = []  # of texts that may leave bins empty
    for found in shingles(texts):
        bins = (found.hashes >> np.uint32(16)) * np.uint32(BINS)
        bins >>= np.uint32(16)
        np.minimum.at(flat, np.repeat(found.rows * BINS, found.counts) + bins, found.hashes)
        kept.append(found)
    holes = (table == _EMPTY).any(axis=1)
    blank = (table == _EMPTY).all(axis=1)
    sparse = np.flatnonzero(holes & ~blank)
    if len(sparse):
        table[sparse] = _densified(table[sparse], sparse, kept)
    table *= np.uint32(0x9E3779B1)
    keys = (table >> np.uint32(24)).astype(np.uint8).view(np.uint32)
    keys[blank] = NO_KEY
    return keys


def _densified(table: NDArray[np.uint32], rows: Integers, kept: Iterable[Shingles]) -> NDArray[np.uint32]:
    """Fill the empty bins of `table` (T, 112), whose texts are `rows` (T,) of the caller's."""
    filled = table.copy()
    open_rows = np.arange(len(table))
    for attempt in range(_TRIES):
        picked = table[open_rows][:, _picks()[attempt]]
        part = filled[open_rows]
        # what is borrowed is marked with its try, so that it never equals a value that was there by itself
        borrowed = picked ^ np.uint32(attempt + 1)
        part = np.where((part == _EMPTY) & (picked != _EMPTY), borrowed, part)
        filled[open_rows] = part
        open_rows = open_rows[(part == _EMPTY).any(axis=1)]
        if not len(open_rows):
            return filled
    wanted = rows[open_rows]
    grams, owners = _of_rows(wanted, kept)
    bounds = np.searchsorted(owners, np.arange(len(wanted) + 1))
    salts = _salts()
    for bin_ in range(BINS):
        lacking = np.flatnonzero(filled[open_rows, bin_] == _EMPTY)
        if not len(lacking):
            continue
        sizes = np.diff(bounds)[lacking]
        starts = np.cumsum(sizes) - sizes
        take = np.arange(int(sizes.sum())) + np.repeat(bounds[lacking] - starts, sizes)
        values = (grams[take] ^ salts[bin_]) * np.uint32(0x85EBCA6B)
        values ^= values >> np.uint32(15)
        values *= np.uint32(0xC2B2AE35)
        filled[open_rows[lacking], bin_] = np.minimum.reduceat(values, starts)
    return filled


def _of_rows(wanted: Integers, kept: Iterable[Shingles]) -> tuple[Hashes, Integers]:
    """The shingles of the texts `wanted` (sorted), grouped, with each one's place in `wanted`."""
    parts, places = [], []
    for found in kept:
        at = np.searchsorted(wanted, found.rows)
        inside = (at < len(wanted)) & (wanted[np.minimum(at, len(wanted) - 1)] == found.rows)
        parts.append(found.hashes[np.repeat(inside, found.counts)])
        places.append(np.repeat(at[inside], found.counts[inside]))
    grams, owners = np.concatenate(parts), np.concatenate(places)
    order = np.argsort(owners, kind="stable")
    return grams[order], owners[order]


@functools.cache
def _picks() -> Integers:
    """Which bin an empty bin borrows from, (tries, 112): permutations, the same on every machine."""
    return np.argsort(spread(np.arange(_TRIES * BINS, dtype=np.uint32)).reshape(_TRIES, BINS), axis=1)


@functools.cache
def _salts() -> Hashes:
    return spread(np.arange(1 << 16, (1 << 16) + BINS, dtype=np.uint32))
