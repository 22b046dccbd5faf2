"""Pairs of texts that may be near-duplicates, from their band keys alone.

Texts that share a band key are candidates; of those only pairs go on whose signatures agree in enough of their 112
bytes, by default half (at Jaccard .7 about 78 agree, with a standard deviation of 5), each pair once.

No group is quadratic: of a band's group of up to LIMIT texts all pairs are looked at. In a larger one every text is
paired with the group's first LEADERS texts, and with its NEIGHBOURS next texts in order of the next band's key. So a
template of a hundred thousand near-equal texts gives stars and chains that hold it together, not all its pairs;
pairs that also share a rarer band key are found there.

Legend: T texts, N pairs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lmcore.curate.minhash import BANDS, BINS
from lmcore.curate.shingles import Integers

LIMIT = 64
LEADERS = 4
NEIGHBOURS = 2
_CHUNK = 1 << 16  # pairs whose signatures are compared at once

Pairs = tuple[Integers, Integers]


def candidate_pairs(keys: NDArray[np.uint32], is_new: NDArray[np.bool_], order: Integers, agree: float = 0.5) -> Pairs:
    """Places (a, b) of candidate pairs, each once, of which one at least is new; `keys` is (T, 28), `is_new` (T,).
    `agree` is the least share of equal bytes.

    `order` are the places to compare. In a large group their order decides which pairs are looked at: give them in
    one that depends on what the texts are, not on where they stand.
    """
    found: list[Pairs] = []
    for band in range(BANDS):
        for a, b in _band_pairs(keys, order, band):
            for low in range(0, len(a), _CHUNK):
                found.append(_alike(keys, is_new, band, agree, a[low : low + _CHUNK], b[low : low + _CHUNK]))
    if not found:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    return np.concatenate([a for a, _ in found]), np.concatenate([b for _, b in found])


def _alike(
    keys: NDArray[np.uint32], is_new: NDArray[np.bool_], band: int, agree: float, a: Integers, b: Integers
) -> Pairs:
    """The pairs to verify, each in the first band that its texts share."""
    useful = is_new[a] | is_new[b]
    a, b = a[useful], b[useful]
    left, right = keys[a], keys[b]
    same = np.count_nonzero(left.view(np.uint8) == right.view(np.uint8), axis=1) >= agree * BINS
    same &= ~(left[:, :band] == right[:, :band]).any(axis=1)
    return a[same], b[same]


def _band_pairs(keys: NDArray[np.uint32], order: Integers, band: int) -> Iterator[Pairs]:
    """Pairs of texts with an equal key in this band."""
    ranked = keys[order, band].astype(np.uint64) << np.uint64(32)
    ranked |= np.arange(len(order), dtype=np.uint64)
    ranked.sort()
    text = order[ranked & np.uint64(0xFFFFFFFF)]
    key = (ranked >> np.uint64(32)).astype(np.uint32)
    first = np.flatnonzero(np.concatenate(([True], key[1:] != key[:-1]))) if len(key) else np.empty(0, np.int64)
    sizes = np.diff(np.append(first, len(key)))

    several = (sizes > 1) & (sizes <= LIMIT)
    start, left = first[several], sizes[several]
    place = np.repeat(start, left) + _within(left)
    stop = np.repeat(start + left, left)
    for apart in range(1, LIMIT):
        inside = place + apart < stop
        place, stop = place[inside], stop[inside]
        if not len(place):
            break
        yield text[place], text[place + apart]

    for begin, size in zip(first[sizes > LIMIT], sizes[sizes > LIMIT], strict=True):
        group = text[begin : begin + size]
        for leader in range(LEADERS):
            rest = group[leader + 1 :]
            yield np.full(len(rest), group[leader]), rest
        near = group[np.argsort(keys[group, (band + 1) % BANDS], kind="stable")]
        for apart in range(1, NEIGHBOURS + 1):
            yield near[:-apart], near[apart:]


def _within(sizes: Integers) -> Integers:
    """0 .. size-1 of each group, one after the other."""
    return np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
