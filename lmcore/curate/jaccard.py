"""True Jaccard similarity of texts: of their sets of word 5-shingles, for given pairs only.

Sets hold 32-bit hashes: two different shingles of a pair are taken for one with a chance of about G / 2^32, which
moves the similarity by 1 / G. Only for texts of a single shingle that would be a wrong pair; these compare a 64-bit
digest of the words.

Legend: T texts, G shingles of all sets, N pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lmcore.curate.shingles import Hashes, Integers, Texts, shingles, word_digest

_Unsigned = TypeVar("_Unsigned", np.uint32, np.uint64)
_CHUNK = 1 << 18  # shingles compared at once


@dataclass(frozen=True)
class Sets:
    """For each of T texts its distinct shingles: hashes[start : start + count], sorted."""

    start: Integers  # (T,)
    count: Integers  # (T,)
    hashes: Hashes  # (G,)
    digest: NDArray[np.uint64]  # (T,) of a text of one shingle its words, else 0


def shingle_sets(texts: Texts) -> Sets:
    """The shingle set of each text; the set of a blank text is empty."""
    start, count = np.zeros(len(texts), np.int64), np.zeros(len(texts), np.int64)
    kept: list[Hashes] = []
    total = 0
    giant: dict[int, list[Hashes]] = {}
    for found in shingles(texts):
        if len(found.rows) == 1:  # may be one piece of a giant text
            giant.setdefault(int(found.rows[0]), []).append(_distinct(found.hashes))
            continue
        keys = np.repeat(np.arange(len(found.rows), dtype=np.uint64) << np.uint64(32), found.counts)
        keys |= found.hashes
        keys = _distinct(keys)
        bounds = np.searchsorted(keys, np.arange(len(found.rows) + 1, dtype=np.uint64) << np.uint64(32))
        start[found.rows] = total + bounds[:-1]
        count[found.rows] = np.diff(bounds)
        kept.append(keys.astype(np.uint32))
        total += len(keys)
    for row, pieces in giant.items():
        whole = pieces[0] if len(pieces) == 1 else _distinct(np.concatenate(pieces))
        start[row], count[row] = total, len(whole)
        kept.append(whole)
        total += len(whole)
    digest = np.zeros(len(texts), np.uint64)
    for row in np.flatnonzero(count == 1).tolist():
        digest[row] = word_digest(str(texts[row]))
    return Sets(start, count, np.concatenate(kept) if kept else np.empty(0, np.uint32), digest)


def _distinct(values: NDArray[_Unsigned]) -> NDArray[_Unsigned]:
    """The different values, sorted (np.unique's hash table is several times slower here)."""
    ranked = np.sort(values)
    first = np.ones(len(ranked), bool)
    np.not_equal(ranked[1:], ranked[:-1], out=first[1:])
    return ranked.take(np.flatnonzero(first))


def jaccard(sets: Sets, a: Integers, b: Integers) -> NDArray[np.float64]:
    """Shared shingles over all shingles of the texts a[i] and b[i], (N,), rounded to 6 digits; 0 for two blank ones."""
    result = np.zeros(len(a), np.float64)
    sizes = sets.count[a] + sets.count[b]
    ends = np.cumsum(sizes)
    low = 0
    while low < len(a):
        high = max(low + 1, int(np.searchsorted(ends, ends[low] - sizes[low] + _CHUNK, side="right")))
        shared = _shared(sets, a[low:high], b[low:high])
        unlike = sets.digest[a[low:high]] != sets.digest[b[low:high]]
        shared[unlike & (sizes[low:high] == 2)] = 0
        result[low:high] = shared / np.maximum(1, sizes[low:high] - shared)
        low = high
    return np.round(result, 6)


def _shared(sets: Sets, a: Integers, b: Integers) -> Integers:
    """How many shingles each pair shares: in the sorted union of (pair, shingle), those that stand twice."""
    both = np.concatenate((a, b))
    counts, pairs = sets.count[both], len(a)
    before = np.cumsum(counts) - counts
    place = np.arange(int(counts.sum())) + np.repeat(sets.start[both] - before, counts)
    number = np.tile(np.arange(pairs, dtype=np.uint64) << np.uint64(32), 2)
    keys = np.repeat(number, counts)
    keys |= sets.hashes[place]
    keys.sort()
    twice = keys[1:][keys[1:] == keys[:-1]]
    return np.bincount((twice >> np.uint64(32)).astype(np.int64), minlength=pairs)
