"""Verified near-duplicate pairs of new texts, among themselves and against all texts known before.

Promised: every reported pair's Jaccard similarity of word 5-shingles is true and at least `min_jaccard`; the result
is sorted by (a, b) and depends on the texts alone, not on how or in which order they are cut into parts; exact copies
(equal words hash) form a star around the one with the lowest record id, and only that one is compared further; large
groups of near-duplicates are connected, but not listed pair by pair (see `candidates`).

Memory: some 200 bytes for each new text and for each known one that shares a band key with a new one, some 250 for
each pair. Their band keys (112 bytes each) and the shingle sets of the candidates go to temporary files once they take
a quarter of `memory_mb` each. Texts are read for candidates only.

Legend: T texts, N pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lmcore.curate.bands import Part, read_bands, read_rows
from lmcore.curate.candidates import candidate_pairs
from lmcore.curate.jaccard import Sets, jaccard, shingle_sets
from lmcore.curate.minhash import BANDS, NO_KEY
from lmcore.curate.shingles import Integers
from lmcore.curate.spool import Spool
from lmcore.progress import Report, silent
from storage.errors import UserError

PAIR = pa.schema(
    [
        pa.field("a", pa.string(), nullable=False),  # record id
        pa.field("b", pa.string(), nullable=False),  # record id, greater than a
        pa.field("jaccard", pa.float64(), nullable=False),
        pa.field("a_words", pa.binary(16), nullable=False),  # hash of the words of a: what is said holds for its copies
        pa.field("b_words", pa.binary(16), nullable=False),
    ]
)
MIN_JACCARD = 0.7
_SPREAD = 0.2  # signatures of a pair may agree in that much less than its similarity: 4 deviations of 112 bytes
_READ_ROWS = 2_000  # texts whose sets are made at once
_VERIFIED = 1_000  # pairs after which what was read of the file of sets is let go
_Copies = tuple[pa.Array, NDArray[np.uint64], Integers, Integers]


def find_pairs(
    new: Sequence[Part],
    known: Sequence[Part] = (),
    *,
    memory_mb: int = 1024,
    report: Report = silent,
    min_jaccard: float = MIN_JACCARD,
) -> pa.Table:
    """PAIR rows of near-duplicates of which one text at least is in `new`.

    Record ids must be distinct. Raises UserError for a `min_jaccard` below .5 (candidates are not found there),
    RunError for a damaged or missing file.
    """
    if not 0.5 <= min_jaccard <= 1:
        raise UserError(f"min_jaccard is {min_jaccard}", "give a number from 0.5 to 1")
    parts = [*new, *known]
    near, copies = _compared(new, known, parts, min_jaccard, memory_mb << 18, report)  # what it held is free again
    named = np.unique(np.concatenate((near.a, near.b)))
    ids = _record_ids(near.part, near.row, named, parts)
    a, b = np.searchsorted(named, near.a), np.searchsorted(named, near.b)
    table = _pairs(ids, near.hashes[named], a, b, near.jaccard)
    result = pa.concat_tables([table, _pairs(*copies, np.ones(len(copies[2])))])
    del near, copies, table, ids
    report(4, 4, f"{result.num_rows:,} pairs")
    return result.sort_by([("a", "ascending"), ("b", "ascending")]).combine_chunks()


@dataclass(frozen=True)
class _Near:
    """N verified pairs of some texts, and where those stand."""

    a: Integers  # (N,) which of the texts below
    b: Integers  # (N,)
    jaccard: NDArray[np.float64]  # (N,)
    hashes: NDArray[np.uint64]  # (T, 2)
    part: NDArray[np.int32]  # (T,)
    row: NDArray[np.int32]  # (T,)


def _compared(
    new: Sequence[Part], known: Sequence[Part], parts: Sequence[Part], min_jaccard: float, limit: int, report: Report
) -> tuple[_Near, _Copies]:
    """The pairs that are like enough, and the exact copies; each spool holds `limit` bytes."""
    with Spool(np.uint32, limit) as key_spool, Spool(np.uint32, limit) as set_spool:
        rows = _load(new, known, key_spool)
        report(1, 4, f"{len(rows.keys):,} texts to compare")
        order, copies = _without_copies(rows, parts)
        report(2, 4, f"{len(copies[0]):,} exact copies")
        a, b = candidate_pairs(rows.keys, rows.is_new, order, min_jaccard - _SPREAD)
        report(3, 4, f"{len(a):,} candidate pairs")
        used = np.unique(np.concatenate((a, b)))
        a, b = np.searchsorted(used, a), np.searchsorted(used, b)
        sets = _sets_of(used, rows, parts, set_spool)
        small, large = np.minimum(sets.count[a], sets.count[b]), np.maximum(sets.count[a], sets.count[b])
        possible = small >= min_jaccard * large
        a, b = a[possible], b[possible]
        found = _verified(sets, a, b, set_spool)
    enough = found >= min_jaccard
    near = _Near(a[enough], b[enough], found[enough], rows.hashes[used], rows.part[used], rows.row[used])
    return near, copies


@dataclass(frozen=True)
class _Rows:
    """Texts to compare, and where they stand."""

    hashes: NDArray[np.uint64]  # (T, 2)
    keys: NDArray[np.uint32]  # (T, 28)
    part: NDArray[np.int32]  # (T,)
    row: NDArray[np.int32]  # (T,)
    is_new: NDArray[np.bool_]  # (T,)


def _load(new: Sequence[Part], known: Sequence[Part], spool: Spool[np.uint32]) -> _Rows:
    """All new texts, and the known ones that share a band key (so all exact copies) with one of them; no blank ones."""
    hashes: list[NDArray[np.uint64]] = [np.empty((0, 2), np.uint64)]
    where: list[NDArray[np.int32]] = [np.empty((0, 2), np.int32)]

    def add(number: int, digests: NDArray[np.uint64], table: NDArray[np.uint32], rows: Integers) -> None:
        hashes.append(digests[rows])
        spool.add(table[rows].reshape(-1))
        where.append(np.stack([np.full(len(rows), number), rows], axis=1).astype(np.int32))

    for number, part in enumerate(new):
        digests, table = read_bands(part.bands)
        add(number, digests, table, part.of(np.flatnonzero((table != NO_KEY).any(axis=1))))
    count = spool.size // BANDS
    if known and count:
        matches = _Filter(spool.array().reshape(-1, BANDS))
        for number, part in enumerate(known, len(new)):
            digests, table = read_bands(part.bands)
            add(number, digests, table, part.of(matches.matching(table)))
    places = np.concatenate(where)
    is_new = np.arange(len(places)) < count
    keys = spool.array().reshape(-1, BANDS)
    return _Rows(np.concatenate(hashes), keys, places[:, 0], places[:, 1], is_new)


class _Filter:
    """Which known texts share a band key with a new one (exact copies share all)."""

    def __init__(self, keys: NDArray[np.uint32]) -> None:
        bits = min(22, max(12, (64 * len(keys)).bit_length()))
        self._shift = np.uint32(32 - bits)
        self._coarse = np.zeros((BANDS, 1 << bits), bool)
        self._coarse[np.arange(BANDS), keys >> self._shift] = True
        self._exact = [np.unique(keys[:, band]) for band in range(BANDS)]

    def matching(self, keys: NDArray[np.uint32]) -> Integers:
        """Sorted rows of `keys` (T, 28) that match and are not blank."""
        match = np.zeros(len(keys), bool)
        for number, exact in enumerate(self._exact):
            column = keys[:, number]
            rows = np.flatnonzero(self._coarse[number].take(column >> self._shift))
            wanted = column[rows]
            at = np.minimum(np.searchsorted(exact, wanted), len(exact) - 1)
            match[rows[exact[at] == wanted]] = True
        match &= (keys != NO_KEY).any(axis=1)
        return np.flatnonzero(match)


def _without_copies(rows: _Rows, parts: Sequence[Part]) -> tuple[Integers, _Copies]:
    """Places of one text for each words hash, in order of the hash; and ids, hashes and pairs of the stars."""
    order = np.lexsort((rows.hashes[:, 1], rows.hashes[:, 0]))
    ranked = rows.hashes[order]
    first = np.concatenate(([True], (ranked[1:] != ranked[:-1]).any(axis=1)))[: len(order)]
    group = np.cumsum(first) - 1
    sizes = np.bincount(group, minlength=0)
    several = np.flatnonzero(sizes[group] > 1) if len(order) else np.empty(0, np.int64)
    if not len(several):
        nobody = np.empty(0, np.int64)
        return order, (pa.array([], pa.string()), rows.hashes[:0], nobody, nobody)
    ids = _record_ids(rows.part, rows.row, order[several], parts)
    by_id = pa.table({"group": group[several], "id": ids}).sort_by([("group", "ascending"), ("id", "ascending")])
    # the same copies, each group in order of record id
    ranks = pc.sort_indices(
        pa.table({"group": group[several], "id": ids}),
        sort_keys=[("group", "ascending"), ("id", "ascending")],
    ).to_numpy()
    order[several] = order[several][ranks]
    ids = by_id["id"].combine_chunks()
    head = np.flatnonzero(first[several])
    leader = np.repeat(head, np.diff(np.append(head, len(several))))
    other = np.arange(len(several))
    is_new = rows.is_new[order[several]]
    star = (leader != other) & (is_new[leader] | is_new[other])
    return order[first], (ids, rows.hashes[order[several]], leader[star], other[star])


def _sets_of(used: Integers, rows: _Rows, parts: Sequence[Part], spool: Spool[np.uint32]) -> Sets:
    """Shingle sets of the texts `used`, in this order, read part by part."""
    start, count = np.zeros(len(used), np.int64), np.zeros(len(used), np.int64)
    digest = np.zeros(len(used), np.uint64)
    for number, places in _by_part(rows.part[used], rows.row[used]):
        for low in range(0, len(places), _READ_ROWS):
            some = places[low : low + _READ_ROWS]
            sets = shingle_sets(read_rows(parts[number].measured, "text", rows.row[used[some]]))
            start[some], count[some], digest[some] = sets.start + spool.size, sets.count, sets.digest
            spool.add(sets.hashes)
    return Sets(start, count, spool.array(), digest)


def _verified(sets: Sets, a: Integers, b: Integers, spool: Spool[np.uint32]) -> NDArray[np.float64]:
    """True similarity of every pair."""
    found = np.zeros(len(a))
    for low in range(0, len(a), _VERIFIED):
        some = slice(low, low + _VERIFIED)
        found[some] = jaccard(sets, a[some], b[some])
        spool.release()
    return found


def _record_ids(part: NDArray[np.int32], row: NDArray[np.int32], places: Integers, parts: Sequence[Part]) -> pa.Array:
    """Record ids of the texts `places`, in this order."""
    read, order = [], []
    for number, some in _by_part(part[places], row[places]):
        read.append(read_rows(parts[number].measured, "record_id", row[places[some]]))
        order.append(some)
    if not read:
        return pa.array([], pa.string())
    back = np.argsort(np.concatenate(order))
    return pa.concat_arrays(read).take(back).cast(pa.string())


def _by_part(part: NDArray[np.int32], row: NDArray[np.int32]) -> list[tuple[int, Integers]]:
    """(number of the part, places in order of their row)."""
    order = np.lexsort((row, part))
    cuts = np.flatnonzero(np.diff(part[order])) + 1
    return [(int(part[places[0]]), places) for places in np.split(order, cuts) if len(places)]


def _pairs(ids: pa.Array, hashes: NDArray[np.uint64], a: Integers, b: Integers, found: NDArray[np.float64]) -> pa.Table:
    swap = pc.greater(ids.take(a), ids.take(b)).to_numpy(zero_copy_only=False)
    a, b = np.where(swap, b, a), np.where(swap, a, b)
    digests = pa.py_buffer(hashes.astype(">u8").tobytes())
    words = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(hashes), [None, digests])
    return pa.table([ids.take(a), ids.take(b), pa.array(found), words.take(a), words.take(b)], schema=PAIR)
